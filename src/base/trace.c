#include "dft/trace.h"
#include "dft/clock.h"
#include "dft/text.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct span {
  double begin_s, end_s;
  const char *name;
  int64_t number;
  dft_trace_track track;
} span;

static struct {
  bool on;
  double origin_s;
  span *spans;
  size_t count, room;
  int64_t left_out;
} trace;

void dft_trace_open(void) {
  dft_trace_close();
  trace.on = true;
  trace.origin_s = dft_now_s();
}

void dft_trace_close(void) {
  free(trace.spans);
  trace.on = false;
  trace.spans = NULL;
  trace.count = trace.room = 0;
  trace.left_out = 0;
}

double dft_trace_begin(void) {
  return trace.on ? dft_now_s() - trace.origin_s : -1;
}

void dft_trace_end(dft_trace_track track, const char *name, int64_t number, double begin_s) {
  if (!trace.on || begin_s < 0) return;
  const double end_s = dft_now_s() - trace.origin_s;
  if (trace.count == trace.room) {
    const size_t room = 2 * trace.room + 1024;
    span *more = realloc(trace.spans, room * sizeof *more);
    if (more == NULL) {
      trace.left_out++;
      return;
    }
    trace.spans = more;
    trace.room = room;
  }
  trace.spans[trace.count++] = (span){begin_s, end_s, name, number, track};
}

static void print_work(FILE *out, const span *s, int process) {
  fputs("{\"name\":", out);
  if (s->number < 0) {
    dft_json_text(out, s->name);
  } else {
    char text[128];
    snprintf(text, sizeof text, "%s %lld", s->name, (long long)s->number);
    dft_json_text(out, text);
  }
  fprintf(out, ",\"ph\":\"X\",\"pid\":%d,\"tid\":0,\"ts\":%.3f,\"dur\":%.3f}", process, 1e6 * s->begin_s,
          1e6 * (s->end_s - s->begin_s));
}

/* Begin and end by a number: such spans get lines of their own, however they overlap. */
static void print_exchange(FILE *out, const span *s, int process, size_t id) {
  for (int end = 0; end < 2; end++) {
    fputs(end ? ",\n{\"name\":" : "{\"name\":", out);
    dft_json_text(out, s->name);
    fprintf(out, ",\"cat\":\"exchange\",\"ph\":\"%s\",\"id\":\"%d.%zu\",\"pid\":%d,\"tid\":1,\"ts\":%.3f",
            end ? "e" : "b", process, id, process, 1e6 * (end ? s->end_s : s->begin_s));
    if (!end) fprintf(out, ",\"args\":{\"bytes\":%lld}", (long long)s->number);
    fputc('}', out);
  }
}

char *dft_trace_json(int process, const char *name, size_t *bytes, int64_t *left_out) {
  char *text = NULL;
  FILE *out = open_memstream(&text, bytes);
  *left_out = trace.left_out;
  if (out == NULL) return NULL;
  fprintf(out, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"name\":", process);
  dft_json_text(out, name);
  fprintf(out, "}},\n{\"name\":\"process_sort_index\",\"ph\":\"M\",\"pid\":%d,\"args\":{\"sort_index\":%d}}",
          process, process);
  static const char *const tracks[] = {"main thread", "exchanges, until their end is noticed"};
  for (int i = 0; i < 2; i++)
    fprintf(out,
            ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"%s\"}}",
            process, i, tracks[i]);
  for (size_t i = 0; i < trace.count; i++) {
    fputs(",\n", out);
    if (trace.spans[i].track == DFT_TRACE_WORK)
      print_work(out, &trace.spans[i], process);
    else
      print_exchange(out, &trace.spans[i], process, i);
  }
  if (fclose(out) == 0) return text;
  free(text);
  return NULL;
}
