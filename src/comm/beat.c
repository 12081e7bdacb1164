/* Signs of life. Each rank keeps two counters for every rank: how often it came by, and how often it came by
 * at work rather than waiting. It adds to its own, and sends all it knows to the ranks 1, 2, 4, ... above
 * and below it; what it hears from them is merged by maximum. So news reach everyone in log2(N) hops whatever
 * a rank waits for, also among those left when a host falls off, and no rank talks to more than 2*log2(N)
 * others. */
#include "comm_impl.h"
#include "dft/clock.h"
#include <stdlib.h>
#include <string.h>

enum { BEATS_PER_TIMEOUT = 16, TAG_BEAT = DFT_TAGS /* above those of the callers */ };

/* One direction to one neighbour. words: [0] 1 in the last message of all, then `alive` and `work` per rank.
 */
typedef struct channel {
  int peer;
  MPI_Request request;
  uint32_t *words;
  bool ended; /* the last message has come */
} channel;

struct dft_beats {
  int neighbours;
  channel *out, *in;
  uint32_t *known; /* as words */
  double *seen_s;  /* when known[i] last grew */
  double sent_s;
  bool worked;  /* since sent_s */
  bool closing; /* goodbyes only */
};

static int words_of(const dft_comm *comm) {
  return 1 + 2 * comm->size;
}

static dft_status listen(dft_comm *comm, channel *c) {
  return dft_comm_check(
      comm, MPI_Irecv(c->words, words_of(comm), MPI_UINT32_T, c->peer, TAG_BEAT, comm->world, &c->request),
      "listening", c->peer);
}

static dft_status take_in(dft_comm *comm, double now_s) {
  dft_beats *b = comm->beats;
  for (int k = 0; k < b->neighbours; ++k) {
    channel *c = &b->in[k];
    int done = 1;
    while (!c->ended) {
      DFT_TRY(dft_comm_check(comm, MPI_Test(&c->request, &done, MPI_STATUS_IGNORE), "listening", c->peer));
      if (!done) break;
      for (int i = 1; i < words_of(comm); ++i) {
        if (c->words[i] <= b->known[i]) continue;
        b->known[i] = c->words[i];
        b->seen_s[i] = now_s;
      }
      c->ended = c->words[0] != 0;
      if (!c->ended) DFT_TRY(listen(comm, c));
    }
  }
  return DFT_OK;
}

static dft_status send(dft_comm *comm, channel *c) {
  memcpy(c->words, comm->beats->known, (size_t)words_of(comm) * sizeof *c->words);
  return dft_comm_check(
      comm, MPI_Isend(c->words, words_of(comm), MPI_UINT32_T, c->peer, TAG_BEAT, comm->world, &c->request),
      "giving a sign of life", c->peer);
}

static dft_status pass_on(dft_comm *comm) {
  dft_beats *b = comm->beats;
  for (int k = 0; k < b->neighbours; ++k) {
    channel *c = &b->out[k];
    int done = 1; /* a neighbour that has not taken the last one gets the next one later */
    DFT_TRY(dft_comm_check(comm, MPI_Test(&c->request, &done, MPI_STATUS_IGNORE), "giving a sign of life",
                           c->peer));
    if (done) DFT_TRY(send(comm, c));
  }
  return DFT_OK;
}

dft_status dft_beat(dft_comm *comm, double now_s, bool working) {
  dft_beats *b = comm->beats;
  DFT_TRY(dft_comm_nccl_watch(comm, now_s));
  if (b == NULL || comm->broken || b->closing) return DFT_OK;
  b->worked |= working;
  const bool due = now_s - b->sent_s >= comm->timeout_s / BEATS_PER_TIMEOUT;
  if (working && !due) return DFT_OK; /* a waiting rank listens all the time */
  DFT_TRY(take_in(comm, now_s));
  if (!due) return DFT_OK;
  b->known[1 + comm->rank]++;
  b->known[1 + comm->size + comm->rank] += b->worked;
  b->worked = false;
  b->sent_s = now_s;
  return pass_on(comm);
}

void dft_beats_away(dft_comm *comm, double away_s) {
  dft_beats *b = comm->beats;
  for (int i = 1; b != NULL && i < words_of(comm); ++i) b->seen_s[i] += away_s;
}

int dft_beats_lost(const dft_comm *comm, double now_s, double since_s, int *lowest) {
  const dft_beats *b = comm->beats;
  int lost = 0;
  if (b->closing) return 0; /* whoever has not said goodbye is the one waited for */
  for (int r = comm->size; r-- > 0;) {
    const double seen_s = b->seen_s[1 + r] > since_s ? b->seen_s[1 + r] : since_s;
    if (r == comm->rank || now_s - seen_s <= comm->timeout_s) continue;
    *lowest = r;
    lost++;
  }
  return lost;
}

bool dft_beats_all_wait(const dft_comm *comm, double now_s, double since_s) {
  const dft_beats *b = comm->beats;
  for (int r = 0; r < comm->size; ++r) {
    const double worked_s = b->seen_s[1 + comm->size + r] > since_s ? b->seen_s[1 + comm->size + r] : since_s;
    if (r != comm->rank && now_s - worked_s <= comm->timeout_s) return false;
  }
  return true;
}

static bool has_peer(const channel *channels, int count, int peer) {
  for (int k = 0; k < count; ++k)
    if (channels[k].peer == peer) return true;
  return false;
}

static dft_status open_channels(const dft_comm *comm, channel **channels, int *count) {
  const int most = 2 * 31; /* two signs, distances 1, 2, 4, ... */
  *count = 0;
  *channels = calloc((size_t)most, sizeof **channels);
  if (*channels == NULL) return dft_fail_memory("signs of life", (size_t)most * sizeof **channels);
  for (int distance = 1; distance < comm->size; distance *= 2)
    for (int sign = -1; sign <= 1; sign += 2) {
      const int peer = (comm->rank + sign * distance + comm->size) % comm->size;
      if (has_peer(*channels, *count, peer)) continue;
      channel *c = &(*channels)[(*count)++];
      c->peer = peer;
      c->request = MPI_REQUEST_NULL;
      c->words = calloc((size_t)words_of(comm), sizeof *c->words);
      if (c->words == NULL)
        return dft_fail_memory("signs of life", (size_t)words_of(comm) * sizeof *c->words);
    }
  return DFT_OK;
}

dft_status dft_beats_open(dft_comm *comm) {
  dft_beats *b = comm->beats = calloc(1, sizeof *b);
  if (b == NULL) return dft_fail_memory("signs of life", sizeof *b);
  b->known = calloc((size_t)words_of(comm), sizeof *b->known);
  b->seen_s = calloc((size_t)words_of(comm), sizeof *b->seen_s);
  if (b->known == NULL || b->seen_s == NULL)
    return dft_fail_memory("signs of life", (size_t)words_of(comm) * sizeof *b->seen_s);
  DFT_TRY(open_channels(comm, &b->out, &b->neighbours));
  DFT_TRY(open_channels(comm, &b->in, &b->neighbours));
  for (int k = 0; k < b->neighbours; ++k) DFT_TRY(listen(comm, &b->in[k]));
  b->sent_s = dft_now_s();
  return pass_on(comm); /* makes the connections while everyone is here */
}

/* Everyone is here, says goodbye and hears it: no message is left under way. */
dft_status dft_beats_close(dft_comm *comm) {
  DFT_TRY(dft_comm_barrier(comm));
  dft_beats *b = comm->beats;
  b->closing = true;
  b->known[0] = 1;
  for (int k = 0; k < b->neighbours; ++k) {
    channel *c = &b->out[k];
    DFT_TRY(dft_comm_finish(comm, &c->request, "saying goodbye", c->peer));
    DFT_TRY(send(comm, c));
  }
  for (int k = 0; k < b->neighbours; ++k) {
    channel *c = &b->in[k];
    while (!c->ended) {
      DFT_TRY(dft_comm_finish(comm, &c->request, "saying goodbye", c->peer));
      c->ended = c->words[0] != 0;
      if (!c->ended) DFT_TRY(listen(comm, c));
    }
    DFT_TRY(dft_comm_finish(comm, &b->out[k].request, "saying goodbye", b->out[k].peer));
  }
  return DFT_OK;
}

static void free_channels(channel *channels, int count) {
  for (int k = 0; channels != NULL && k < count; ++k) free(channels[k].words);
  free(channels);
}

void dft_beats_free(dft_comm *comm) {
  dft_beats *b = comm->beats;
  if (b == NULL) return;
  free_channels(b->out, b->neighbours);
  free_channels(b->in, b->neighbours);
  free(b->known);
  free(b->seen_s);
  free(b);
  comm->beats = NULL;
}
