# The model of scale.sh: bench_scale's lines in, Markdown out.
#
# A reduction of n bytes over N = 2^L ranks takes
#     small (up to 32,768 bytes): L*(latency + n/bandwidth)                recursive doubling
#     large:                      2*L*latency + 2*n*(N-1)/N/bandwidth      halving and doubling
# where the bandwidth is what Ethernet's and TCP's headers leave (1,448 of 1,514 bytes). That is what the wire takes at
# least; measured exchanges took up to `slow` times that.
# Blocking ones (BatchNorm's sums) are paid in full. Overlapped ones (gradients) start while backward goes on: at best
# what exceeds backward (two thirds of the compute time) is paid, at worst all, and that `slow` times; efficiency is
# compute / (compute + paid), images per rank being the same at every N (weak scaling). Not in the model: ranks that
# wait for a slower one, switches that are not full bisection, the additions themselves, several ranks behind one link.
#
# -v latency_us, images, slow, speedups (computing times faster than one core of this machine: "1 16")
# -v check=1: compares what was sent with the measured lines instead; check=2: the seconds of the timed lines.
BEGIN { FS = "\t"; large = 32768; payload = 1448 / 1514; split("head tail all", phases, " ") }
$1 == "exchange" { n = ++count[$2]; size[$2, n] = $3; blocking[$2, n] = $4 == "blocking" }
$1 == "compute" { compute[$2] = $3 }
$1 == "measured" { m = ++measured; line[m] = $0 }
# timed: phase, ranks, Mbit/s, "default" or "send", seconds, seconds of latency
$1 == "timed" {
  key = $2 FS $3 FS $4
  if (!(key in seconds_of)) { keys[++timed] = key; seconds_of[key] = 1 }
  got[key, $5] = $6
  late_s[key] = $7
}

function log2(n,  l) { for (l = 0; n > 1; n /= 2) l++; return l }
function time_of(n, ranks, latency, rate,  l) {
  l = log2(ranks)
  rate *= payload
  return n <= large ? l * (latency + n / rate) : 2 * l * latency + 2 * n * (ranks - 1) / ranks / rate
}
function paid(phase, ranks, latency, rate, which,  i, s) {
  s = 0
  for (i = 1; i <= count[phase]; i++)
    if (blocking[phase, i] == which) s += time_of(size[phase, i], ranks, latency, rate)
  return s
}
function messages(phase, ranks,  i, s) {
  s = 0
  for (i = 1; i <= count[phase]; i++) s += log2(ranks) * (size[phase, i] <= large ? 1 : 2)
  return s
}
# in units of 64 bytes, as the exchange cuts its pieces; the busiest rank may send some more
function bytes(phase, ranks,  i, n, s) {
  s = 0
  for (i = 1; i <= count[phase]; i++) {
    n = size[phase, i]
    s += n <= large ? log2(ranks) * n : 2 * n * (ranks - 1) / ranks
  }
  return s
}
function efficiency(phase, ranks, latency, rate, speedup, hidden,  c, late, waited) {
  c = compute[phase] / speedup
  late = paid(phase, ranks, latency, rate, 0)
  waited = paid(phase, ranks, latency, rate, 1)
  if (!hidden) return 100 * c / (c + slow * (waited + late))
  return 100 * c / (c + waited + (late > c * 2 / 3 ? late - c * 2 / 3 : 0))
}
function compare(  i, f, p, r, want, got, off) {
  print "| phase | ranks | bytes sent | model | messages | model |"
  print "|---|---:|---:|---:|---:|---:|"
  for (i = 1; i <= measured; i++) {
    split(line[i], f, "\t"); p = f[2]; r = f[3]
    want = bytes(p, r)
    off = want > 0 ? (f[5] - want) / want : 0
    if (off < 0) off = -off
    if (off > 0.01 || f[6] != messages(p, r)) bad = 1
    printf "| %s | %d | %d | %d | %d | %d |\n", p, r, f[5], want, f[6], messages(p, r)
  }
}
function compare_seconds(  i, f, want) {
  print "| phase | hosts | links | model | default | ÷ model | send | ÷ model |"
  print "|---|---:|---:|---:|---:|---:|---:|---:|"
  for (i = 1; i <= timed; i++) {
    split(keys[i], f, "\t")
    want = paid(f[1], f[2], late_s[keys[i]], f[3] * 125000, 0) + paid(f[1], f[2], late_s[keys[i]], f[3] * 125000, 1)
    printf "| %s | %d | %d Mbit/s | %.3f s | %.3f s | %.2f | %.3f s | %.2f |\n", f[1], f[2], f[3], want,
           got[keys[i], "default"], got[keys[i], "default"] / want, got[keys[i], "send"], got[keys[i], "send"] / want
  }
}
function predict(  s, n, p, ranks, g, k, links) {
  n = split(speedups, s, " "); split("10 25 100", links, " ")
  for (k = 1; k <= n; k++) {
    printf "\nA rank computes %s one core of this machine:\n\n", s[k] == 1 ? "as fast as" : s[k] " times as fast as"
    print "| phase, compute per step | ranks | bytes sent per rank | 10 Gbit/s | 25 Gbit/s | 100 Gbit/s | images/s at 25 |"
    print "|---|---:|---:|---:|---:|---:|---:|"
    for (p = 1; p <= 3; p++)
      for (ranks = 8; ranks <= 1024; ranks *= ranks == 64 ? 4 : ranks == 8 ? 8 : 4) {
        printf "| %s, %.3g ms | %d | %d |", phases[p], 1000 * compute[phases[p]] / s[k], ranks, bytes(phases[p], ranks)
        for (g = 1; g <= 3; g++)
          printf " %.0f–%.0f %% |", efficiency(phases[p], ranks, latency_us / 1e6, links[g] * 125e6, s[k], 0),
                 efficiency(phases[p], ranks, latency_us / 1e6, links[g] * 125e6, s[k], 1)
        printf " %.0f |\n", ranks * images * s[k] / compute[phases[p]] * \
                          efficiency(phases[p], ranks, latency_us / 1e6, 25 * 125e6, s[k], 0) / 100
      }
  }
}
END {
  if (check == 1) compare()
  else if (check == 2) compare_seconds()
  else predict()
  if (bad) { print "scale.awk: the exchange sends something else than the model says" > "/dev/stderr"; exit 1 }
}
