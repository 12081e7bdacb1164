#include "dft/prefetch.h"
#include "dft/arena.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
  ASKED,   /* not begun */
  RUNNING, /* by one of the threads */
  READY,
  COPYING, /* by one who takes it */
  DONE     /* taken or dropped */
} state;

typedef struct request {
  const dft_dataset *data;
  int64_t sample, view, turn;
  bool mixes;
  dft_mix asked, mix; /* as it was asked for, and as it has become */
  state state;
  bool dropped; /* RUNNING, but nobody wants it any more */
  bool claimed; /* somebody takes it */
  dft_status status;
  float *image; /* [floats], kept for the next request in this place */
} request;

struct dft_prefetch {
  pthread_mutex_t lock;
  pthread_cond_t asked, ready;
  request *ring; /* request number i is ring[i % images] */
  int64_t images, floats;
  int64_t head, next, tail; /* numbers: the oldest that is not DONE, the first that may be ASKED, the end */
  int threads, started;
  int64_t hits;
  pthread_t *ids;
  bool closing;
};

static request *at(const dft_prefetch *p, int64_t number) {
  return &p->ring[number % p->images];
}

static void finish(dft_prefetch *p, request *r) {
  r->state = DONE;
  while (p->head < p->tail && at(p, p->head)->state == DONE) p->head++;
  if (p->next < p->head) p->next = p->head;
}

/* The first request that is not begun; waits for one. NULL: closing. */
static request *wait_for_request(dft_prefetch *p) {
  while (!p->closing) {
    for (; p->next < p->tail; p->next++)
      if (at(p, p->next)->state == ASKED) return at(p, p->next++);
    pthread_cond_wait(&p->asked, &p->lock);
  }
  return NULL;
}

static dft_status decode(const dft_prefetch *p, request *r) {
  if (r->image == NULL) r->image = dft_aligned_alloc((size_t)p->floats * sizeof *r->image);
  if (r->image == NULL) return dft_fail_memory("image read ahead", (unsigned long long)p->floats * 4);
  return dft_dataset_view(r->data, r->sample, r->view, r->mixes ? &r->mix : NULL, r->image);
}

static void *work(void *context) {
  dft_prefetch *p = context;
  pthread_mutex_lock(&p->lock);
  for (request *r; (r = wait_for_request(p)) != NULL;) {
    r->state = RUNNING;
    pthread_mutex_unlock(&p->lock);
    dft_status status = decode(p, r);
    pthread_mutex_lock(&p->lock);
    r->status = status;
    r->state = READY;
    if (r->dropped) finish(p, r);
    pthread_cond_broadcast(&p->ready);
  }
  pthread_mutex_unlock(&p->lock);
  return NULL;
}

dft_status dft_prefetch_open(int threads, int64_t images, int64_t floats, dft_prefetch **prefetch) {
  *prefetch = NULL;
  dft_prefetch *p = calloc(1, sizeof *p);
  if (p == NULL) return dft_fail_memory("images read ahead", sizeof *p);
  p->threads = threads;
  p->images = images;
  p->floats = floats;
  p->ring = calloc((size_t)images, sizeof *p->ring);
  p->ids = calloc((size_t)threads, sizeof *p->ids);
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->asked, NULL);
  pthread_cond_init(&p->ready, NULL);
  if (p->ring == NULL || p->ids == NULL) {
    dft_prefetch_close(p);
    return dft_fail_memory("images read ahead", (unsigned long long)images * sizeof *p->ring);
  }
  *prefetch = p;
  return DFT_OK;
}

void dft_prefetch_close(dft_prefetch *p) {
  if (p == NULL) return;
  pthread_mutex_lock(&p->lock);
  p->closing = true;
  pthread_cond_broadcast(&p->asked);
  pthread_mutex_unlock(&p->lock);
  for (int i = 0; i < p->started; i++) pthread_join(p->ids[i], NULL);
  for (int64_t i = 0; i < p->images && p->ring != NULL; i++) free(p->ring[i].image);
  pthread_cond_destroy(&p->ready);
  pthread_cond_destroy(&p->asked);
  pthread_mutex_destroy(&p->lock);
  free(p->ids);
  free(p->ring);
  free(p);
}

/* As many as the system gives: with none at all, those who take decode. */
static void start(dft_prefetch *p) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (p->started < p->threads && pthread_create(&p->ids[p->started], NULL, work, p) == 0) p->started++;
  p->threads = p->started;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool dft_prefetch_full(dft_prefetch *p) {
  pthread_mutex_lock(&p->lock);
  bool full = p->tail - p->head == p->images;
  pthread_mutex_unlock(&p->lock);
  return full;
}

void dft_prefetch_ask(dft_prefetch *p, int64_t turn, const dft_dataset *data, int64_t sample, int64_t view,
                      const dft_mix *mix) {
  if (p->started < p->threads) start(p);
  pthread_mutex_lock(&p->lock);
  if (p->tail - p->head < p->images) {
    request *r = at(p, p->tail++);
    *r = (request){
        .data = data, .sample = sample, .view = view, .turn = turn, .mixes = mix != NULL, .image = r->image};
    if (mix != NULL) r->asked = r->mix = *mix;
    pthread_cond_signal(&p->asked);
  }
  pthread_mutex_unlock(&p->lock);
}

void dft_prefetch_turn(dft_prefetch *p, int64_t turn) {
  pthread_mutex_lock(&p->lock);
  for (int64_t i = p->head; i < p->tail && at(p, i)->turn < turn; i++) {
    request *r = at(p, i);
    if (r->state == RUNNING)
      r->dropped = true;
    else
      finish(p, r);
  }
  pthread_mutex_unlock(&p->lock);
}

static bool same_mix(const request *r, const dft_mix *mix) {
  const dft_mix *a = &r->asked;
  if (mix == NULL || !r->mixes) return mix == NULL && !r->mixes;
  return a->partner == mix->partner && a->weight == mix->weight && a->top == mix->top &&
         a->left == mix->left && a->bottom == mix->bottom && a->right == mix->right;
}

/* The request for this image that nobody else takes. Images are taken about in order: it is near the head. */
static request *find(const dft_prefetch *p, const dft_dataset *data, int64_t sample, int64_t view,
                     const dft_mix *mix) {
  for (int64_t i = p->head; i < p->tail; i++) {
    request *r = at(p, i);
    if (r->state > READY || r->dropped || r->claimed) continue;
    if (r->data == data && r->sample == sample && r->view == view && same_mix(r, mix)) return r;
  }
  return NULL;
}

/* Copies it out when it is ready or under way, and was read without an error. */
static bool take_ready(dft_prefetch *p, const dft_dataset *data, int64_t sample, int64_t view, dft_mix *mix,
                       float *out) {
  pthread_mutex_lock(&p->lock);
  request *r = find(p, data, sample, view, mix);
  if (r != NULL) r->claimed = true;
  bool begun = r != NULL && r->state != ASKED;
  while (r != NULL && r->state == RUNNING) pthread_cond_wait(&p->ready, &p->lock);
  bool ready = r != NULL && r->state == READY && r->status == DFT_OK;
  if (ready) {
    r->state = COPYING;
    if (mix != NULL) *mix = r->mix;
    pthread_mutex_unlock(&p->lock);
    memcpy(out, r->image, (size_t)p->floats * sizeof *out);
    pthread_mutex_lock(&p->lock);
  }
  if (r != NULL) finish(p, r);
  p->hits += r != NULL && (ready || !begun);
  pthread_mutex_unlock(&p->lock);
  return ready;
}

dft_status dft_prefetch_take(dft_prefetch *p, const dft_dataset *data, int64_t sample, int64_t view,
                             dft_mix *mix, float *out) {
  return take_ready(p, data, sample, view, mix, out) ? DFT_OK
                                                     : dft_dataset_view(data, sample, view, mix, out);
}

int64_t dft_prefetch_hits(const dft_prefetch *p) {
  return p->hits;
}
