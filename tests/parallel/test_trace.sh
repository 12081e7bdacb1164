#!/usr/bin/env bash
# log.trace_steps: trace.json holds the first steps of every rank, in the order in which they happened, and changes
# nothing else.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
small_config "$work/plain" >"$work/config.yaml"
config=$work/config.yaml
ok "without" np 3 "$config"
[ ! -e "$work/plain/trace.json" ] || fail "a trace that nobody asked for"

look() { # FILE RANKS STEPS: prints what is wrong
  python3 - "$@" <<'PYTHON'
import json, sys
file, ranks, steps = sys.argv[1], int(sys.argv[2]), [int(s) for s in sys.argv[3].split(",")]
events = json.load(open(file))["traceEvents"]
for rank in range(ranks):
    mine = [e for e in events if e["pid"] == rank]
    assert any(e["ph"] == "M" and e["args"].get("name", "").startswith(f"rank {rank} (") for e in mine), rank
    work = sorted((e for e in mine if e["ph"] == "X"), key=lambda e: (e["ts"], -e["dur"]))
    found = [e for e in work if e["name"].startswith("step ")]
    assert [int(e["name"][5:]) for e in found] == steps, found
    names = {e["name"] for e in work}
    want = {"rows", "forward", "loss", "backward", "wait for gradients", "finite check", "update"}
    want |= {"log"} if rank == 0 else set()
    want |= {"validation", "checkpoint"} if max(steps) > 3 else set()
    assert want <= names, want - names
    if max(steps) == 9:  # all layers train
        assert {"Conv1", "block_15_depthwise", "Conv_1", "wait for sums"} <= names, names
    # a span lies within a step, and within those that began before it and have not ended
    around = []
    for e in work:
        end = e["ts"] + e["dur"]
        while around and around[-1] <= e["ts"] + 0.002:
            around.pop()
        assert not around or end <= around[-1] + 0.002, e
        assert around or e["name"].split()[0] in ("step", "checkpoint", "validation"), e
        around.append(end)
    pairs = {}
    for e in mine:
        if e["ph"] in "be":
            pairs.setdefault(e["id"], []).append(e)
    for begin, end in pairs.values():
        assert begin["ph"] == "b" and end["ph"] == "e" and begin["ts"] <= end["ts"] and begin["args"]["bytes"] > 0
    kinds = {p[0]["name"] for p in pairs.values()}
    assert kinds == ({"gradients", "sums"} if ranks > 1 else set()), kinds
PYTHON
}
for ranks in 1 3; do
  ok "traced at np $ranks" np $ranks "$config" run_dir="$work/traced$ranks" log.trace_steps=1000
  grep -q "trace: $work/traced$ranks/trace.json" "$work/out" || fail "the trace is not told of"
  look "$work/traced$ranks/trace.json" $ranks 1,2,3,4,5,6,7,8,9 || fail "the trace at np $ranks"
  same "$work/plain/final.pb" "$work/traced$ranks/final.pb" "traced at np $ranks"
done
ok "two steps" np 2 "$config" run_dir="$work/two" log.trace_steps=2
look "$work/two/trace.json" 2 1,2 || fail "two steps"
# a run that goes on traces its own first steps, and fewer when there are no more
ok "begun" np 2 "$config" run_dir="$work/resumed" "phases=[{name: head, epochs: 1}]"
ok "gone on" np 2 "$config" run_dir="$work/resumed" log.trace_steps=100
look "$work/resumed/trace.json" 2 4,5,6,7,8,9 || fail "a run that went on"
# a trace that ends while the epoch before is saved: each file is what its name says
for i in 1 2 3; do
  ok "a trace beside a checkpoint" np 1 "$config" run_dir="$work/beside$i" log.trace_steps=4 model.alpha=1.0 phases.0.epochs=2
  for file in "$work/beside$i"/*.pb; do "$DFT" inspect "$file" >"$work/out" || fail "$file, saved beside a trace: $(cat "$work/out")"; done
done
mkdir "$work/blocked" && mkdir "$work/blocked/trace.json"
expect 74 "trace.json" np_quiet 2 "$config" run_dir="$work/blocked" log.trace_steps=1
ls "$work/blocked"/*.pb >/dev/null 2>&1 && fail "a trace that cannot be written is found out after training"
# once training is on its way, the trace is worth less: here its place is taken meanwhile
"$DFT" "$config" run_dir="$work/taken" log.trace_steps=1000 phases.2.epochs=400 checkpoint.keep=1 >"$work/out" 2>&1 &
for ((i = 0; i < 200; i++)); do [ ! -e "$work/taken/history.csv" ] || break; sleep 0.05; done
mkdir "$work/taken/trace.json"
kill -USR1 $!
wait $!
[ $? = 75 ] || { cat "$work/out" >&2; fail "stopped with a trace that cannot be written: not 75"; }
grep -q "warning: no trace: $work/taken/trace.json" "$work/out" || { cat "$work/out" >&2; fail "the missing trace is not told of"; }
echo "traces hold what every rank did"
