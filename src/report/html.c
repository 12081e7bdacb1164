#include "html.h"
#include "dft/file.h"
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A plot: the drawing and the axes within it, in SVG units. */
enum { WIDTH = 640, HEIGHT = 300, LEFT = 58, RIGHT = 626, TOP = 34, BOTTOM = 264 };
enum { MOST_TICKS = 6 };
static const double LETTER_WIDTH = 7;

typedef struct series {
  const char *name, *css;
  size_t number; /* where in dft_epoch */
} series;

typedef struct plot {
  FILE *out;
  const dft_epoch *epochs;
  int count;
  double low, high; /* of the vertical axis */
} plot;

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n"
    ":root { color-scheme: light dark; --page: #fcfcfb; --ink: #1d1d1f; --quiet: #66676b; --line: #e2e2e0;\n"
    "  --train: #1f6fb4; --val: #c8560a; }\n"
    "@media (prefers-color-scheme: dark) { :root { --page: #17181a; --ink: #e8e8e6; --quiet: #9a9b9f;\n"
    "  --line: #34363a; --train: #62aef0; --val: #f59a52; } }\n"
    "body { background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0 "
    "auto;\n"
    "  max-width: 84rem; padding: 1.5rem; }\n"
    "h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.05rem; margin: 1rem 0 .5rem; }\n"
    ".plots { display: grid; gap: 1.5rem;\n"
    "  grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); }\n"
    ".tables { display: flex; flex-wrap: wrap; gap: 1rem 4rem; } section { max-width: 100%; overflow-x: "
    "auto; }\n"
    "figure { margin: 0; } svg { display: block; width: 100%; height: auto; }\n"
    "figcaption span { margin-right: 1.25rem; font-weight: 600; }\n"
    "figcaption span::before { content: \"\"; display: inline-block; width: 1.1em; margin-right: .45em;\n"
    "  border-top: 3px solid var(--train); vertical-align: .25em; }\n"
    "figcaption .val::before { border-color: var(--val); }\n"
    "svg text { fill: var(--quiet); font-size: 12px; }\n"
    ".grid { stroke: var(--line); } .phase { stroke: var(--quiet); stroke-dasharray: 4 4; }\n"
    ".train, .val { fill: none; stroke: var(--train); stroke-width: 2; stroke-linejoin: round; }\n"
    ".val { stroke: var(--val); } circle.train { fill: var(--train); } circle.val { fill: var(--val); }\n"
    "table { border-collapse: collapse; font-variant-numeric: tabular-nums; }\n"
    "th, td { border-bottom: 1px solid var(--line); padding: .25rem 1rem .25rem 0; text-align: left; }\n"
    "th { color: var(--quiet); font-weight: 500; } .n { padding: .25rem 0 .25rem 1.5rem; text-align: right; "
    "}\n"
    "tr.new td { border-top: 2px solid var(--quiet); }\n"
    "</style>\n";

static void put_text(FILE *out, const char *text) {
  for (const char *c = text; *c != '\0'; c++) {
    const char plain[] = {*c, '\0'};
    fputs(*c == '&' ? "&amp;" : *c == '<' ? "&lt;" : *c == '"' ? "&quot;" : plain, out);
  }
}

static double number_of(const dft_epoch *e, size_t where) {
  return *(const double *)((const char *)e + where);
}

static bool same_phase(const dft_epoch *e) {
  return strcmp(e[0].phase, e[-1].phase) == 0;
}

/* An epoch stands in the middle of its share of the axis. */
static double across(const plot *p, double epoch) {
  return LEFT + (RIGHT - LEFT) * (epoch + .5) / p->count;
}

static double up(const plot *p, double value) {
  return BOTTOM - (BOTTOM - TOP) * (value - p->low) / (p->high - p->low);
}

/* The least of 1, 2, 5, 10, ... that divides the span into few enough pieces. */
static double tick_step(double span) {
  double power = pow(10, floor(log10(span / MOST_TICKS)));
  static const double steps[] = {1, 2, 5};
  for (int i = 0; i < 3; i++)
    if (steps[i] * power * MOST_TICKS >= span) return steps[i] * power;
  return 10 * power;
}

static bool is_there(const plot *p, const series *s) {
  for (int i = 0; i < p->count; i++)
    if (isfinite(number_of(&p->epochs[i], s->number))) return true;
  return false;
}

/* The vertical axis holds every finite number and ends on ticks. False when there is none. */
static bool set_axis(plot *p, const series *s, double *step) {
  double low = INFINITY, high = -INFINITY;
  for (int i = 0; i < p->count; i++)
    for (int k = 0; k < 2; k++) {
      double value = number_of(&p->epochs[i], s[k].number);
      if (!isfinite(value)) continue;
      low = fmin(low, value);
      high = fmax(high, value);
    }
  if (low > high) return false;
  double pad = fmax(.05 * fabs(high), 1e-3); /* a flat line stands in the middle */
  if (high - low < .01 * pad) low -= pad, high += pad;
  *step = tick_step(high - low);
  p->low = floor(low / *step) * *step;
  p->high = ceil(high / *step) * *step;
  return true;
}

static void draw_axes(const plot *p, double step) {
  for (int i = 0; p->low + i * step < p->high + step / 2; i++) {
    double value = p->low + i * step, y = up(p, value);
    fprintf(p->out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y, RIGHT);
    fprintf(p->out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>\n", LEFT - 8, y + 4,
            fabs(value) < step / 2 ? 0 : value);
  }
  int every = (int)fmax(1, tick_step(p->count / 2.0));
  for (int i = 0; i < p->count; i++)
    if (p->epochs[i].epoch % every == 0)
      fprintf(p->out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", across(p, i),
              BOTTOM + 18, p->epochs[i].epoch);
  fprintf(p->out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">epoch</text>\n", (LEFT + RIGHT) / 2,
          HEIGHT - 2);
}

/* A phase's name stands at its beginning, where it fits. */
static void draw_phases(const plot *p) {
  for (int i = 0, end = 0; i < p->count; i = end) {
    for (end = i + 1; end < p->count && same_phase(&p->epochs[end]);) end++;
    double left = across(p, i - .5), right = across(p, end - .5);
    if (i > 0) fprintf(p->out, "<path class=\"phase\" d=\"M%.1f %dV%d\"/>", left, TOP - 12, BOTTOM);
    if (LETTER_WIDTH * (double)strlen(p->epochs[i].phase) + 8 > right - left) continue;
    fprintf(p->out, "<text x=\"%.1f\" y=\"%d\">", left + 6, TOP - 4);
    put_text(p->out, p->epochs[i].phase);
    fputs("</text>\n", p->out);
  }
}

/* A line through neighbouring finite numbers, and a point with its value for each. */
static void draw_series(const plot *p, const series *s) {
  bool drawing = false;
  fprintf(p->out, "<path class=\"%s\" d=\"", s->css);
  for (int i = 0; i < p->count; i++) {
    double value = number_of(&p->epochs[i], s->number);
    if (isfinite(value)) fprintf(p->out, "%c%.1f %.1f", drawing ? 'L' : 'M', across(p, i), up(p, value));
    drawing = isfinite(value);
  }
  fputs("\"/>\n", p->out);
  for (int i = 0; i < p->count; i++) {
    double value = number_of(&p->epochs[i], s->number);
    if (!isfinite(value)) continue;
    fprintf(
        p->out,
        "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"><title>epoch %d, %s %.4g</title></circle>\n",
        s->css, across(p, i), up(p, value), p->count > 40 ? "1" : "3", p->epochs[i].epoch, s->name, value);
  }
}

/* The names of what is drawn stand above it in its colours. */
static void draw(plot *p, const series s[2]) {
  double step;
  if (!set_axis(p, s, &step)) return;
  fputs("<figure>\n<figcaption>", p->out);
  for (int k = 0; k < 2; k++)
    if (is_there(p, &s[k])) fprintf(p->out, "<span class=\"%s\">%s</span>", s[k].css, s[k].name);
  fprintf(p->out, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s by epoch\">\n",
          WIDTH, HEIGHT, s[0].name);
  draw_axes(p, step);
  draw_phases(p);
  for (int k = 0; k < 2; k++) draw_series(p, &s[k]);
  fputs("</svg>\n</figure>\n", p->out);
}

static void put_plots(FILE *out, const dft_epoch *epochs, int count) {
  const series accuracy[] = {{"accuracy", "train", offsetof(dft_epoch, accuracy)},
                             {"val_accuracy", "val", offsetof(dft_epoch, val_accuracy)}};
  const series loss[] = {{"loss", "train", offsetof(dft_epoch, loss)},
                         {"val_loss", "val", offsetof(dft_epoch, val_loss)}};
  plot p = {.out = out, .epochs = epochs, .count = count};
  fputs("<div class=\"plots\">\n", out);
  draw(&p, loss);
  draw(&p, accuracy);
  fputs("</div>\n", out);
}

static void put_facts(FILE *out, const dft_fact *facts, int count) {
  fputs("<section><h2>Start</h2>\n<table>\n", out);
  for (int i = 0; i < count; i++) {
    fputs("<tr><th scope=\"row\">", out);
    put_text(out, facts[i].key);
    fputs("</th><td>", out);
    put_text(out, facts[i].value);
    fputs("</td></tr>\n", out);
  }
  fputs("</table></section>\n", out);
}

static void put_number(FILE *out, const char *format, double value) {
  fputs("<td class=\"n\">", out);
  if (!isnan(value)) fprintf(out, format, value);
  fputs("</td>", out);
}

static void put_epochs(FILE *out, const dft_epoch *epochs, int count) {
  static const char *const names[] = {"accuracy", "loss", "val_accuracy", "val_loss", "learning_rate"};
  fputs("<section><h2>Epochs</h2>\n<table>\n<tr><th>epoch</th><th>phase</th>", out);
  for (int i = 0; i < 5; i++) fprintf(out, "<th class=\"n\">%s</th>", names[i]);
  fputs("</tr>\n", out);
  for (int i = 0; i < count; i++) {
    const dft_epoch *e = &epochs[i];
    fprintf(out, "<tr%s><td>%d</td><td>", i > 0 && !same_phase(e) ? " class=\"new\"" : "", e->epoch);
    put_text(out, e->phase);
    fputs("</td>", out);
    put_number(out, "%.4f", e->accuracy);
    put_number(out, "%.4f", e->loss);
    put_number(out, "%.4f", e->val_accuracy);
    put_number(out, "%.4f", e->val_loss);
    put_number(out, "%g", e->learning_rate);
    fputs("</tr>\n", out);
  }
  fputs("</table></section>\n", out);
}

dft_status dft_page_write(const char *path, const char *title, const dft_fact *facts, int fact_count,
                          const dft_epoch *epochs, int epoch_count) {
  char *text = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  if (out == NULL) return dft_fail_memory(path, 0);
  fputs(head, out);
  fputs("<title>dft: ", out);
  put_text(out, title);
  fputs("</title>\n</head>\n<body>\n<h1>", out);
  put_text(out, title);
  fputs("</h1>\n", out);
  if (epoch_count > 0)
    put_plots(out, epochs, epoch_count);
  else
    fputs("<p>No epoch has ended yet.</p>\n", out);
  fputs("<div class=\"tables\">\n", out);
  if (epoch_count > 0) put_epochs(out, epochs, epoch_count);
  put_facts(out, facts, fact_count);
  fputs("</div>\n", out);
  fputs("</body>\n</html>\n", out);
  dft_status status = fclose(out) == 0 ? dft_replace_file(path, text, bytes) : dft_fail_memory(path, bytes);
  free(text);
  return status;
}
