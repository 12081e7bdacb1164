#!/usr/bin/env bash
# Bad input: one clear line, the right exit code, also from mpirun, and no partial files.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
small_config "$work/run" >"$work/config.yaml"
config=$work/config.yaml
both() { # CODE TEXT ARGS...: alone and under mpirun
  local code=$1 text=$2
  shift 2
  expect "$code" "$text" "$DFT" "$@"
  expect "$code" "$text" np_quiet 3 "$@"
  [ "$(grep -c "^dft: error" "$work/out")" = 1 ] || { cat "$work/out" >&2; fail "not one error line: $*"; }
}
both 2 "missing.yaml" "$work/missing.yaml"
sed 's/name: head, epochs: 1}/name: head, epoch: 1}/' "$config" >"$work/unknown.yaml"
both 2 "unknown.yaml:10" "$work/unknown.yaml"
grep -q "epochs" "$work/out" || fail "the nearest key is not named"
both 2 "data.batch_size" "$config" data.batch_size=ten
both 2 "phases.1.unfreeze_last" "$config" phases.1.unfreeze_last=-3
expect 2 "distributed.shards" np_quiet 3 "$config" distributed.shards=2
for key in model.alpha=0.5 phases.0.epochs=3 checkpoint.every_steps=2; do
  expect 2 "rank 2 (host" timeout -k 5 120 mpirun --oversubscribe --bind-to none -np 2 "$DFT" "$config" : -np 1 "$DFT" "$config" $key
  grep -q "was started with other key=value than rank 0" "$work/out" || fail "$key of one rank"
done
DFT_KERNELS=portable both 2 "distributed.backend: nccl needs a GPU for every rank" "$config" distributed.backend=nccl
DFT_KERNELS=portable both 2 "compute.precision: tf32 is for GPUs" "$config" compute.precision=tf32
DFT_CUDA_MODULE="$work/none.so" DFT_KERNELS=cuda both 2 "none.so: no such file" "$config"
both 2 "fits no layer" "$config" "phases.1={name: tail, epochs: 1, unfreeze: [nolayer*]}"
expect 2 "dft --help lists the commands" "$DFT" trian
expect 2 "no config and no command named; dft --help lists the commands" "$DFT"
both 2 "log.trace_steps: " "$config" log.trace_steps=1001
expect 2 "did you mean 'phases.0.optimizer.learning_rate'?" "$DFT" "$config" phases.0.optimizer.lr=3
expect 2 "'trian' is neither a command nor a config" "$DFT" trian "$config"
# stacks that kernels would run over, into each other's memory
OMP_STACKSIZE=256k both 2 "threads have stacks of 256 kB, but the kernels need 1024: unset OMP_STACKSIZE" "$config" compute.threads=2
expect 2 "the stack is limited to 512 kB, but the kernels need 1024: ulimit -s 8192" sh -c 'ulimit -s 512; exec "$@"' sh "$DFT" "$config"
# weights
: >"$work/x.keras"
both 65 "absent.h5" "$config" model.weights="$work/absent.h5"
head -c 3000 /dev/urandom >"$work/foreign.h5"
both 65 "foreign.h5" "$config" model.weights="$work/foreign.h5"
printf '\x89HDF\r\n\x1a\n' >"$work/truncated.h5"
both 65 "truncated.h5" "$config" model.weights="$work/truncated.h5"
export KERAS_HOME=$work
both 65 "keras.applications.MobileNetV2" "$config" model.weights=imagenet
both 2 "not for 0.4" "$config" model.weights=imagenet model.alpha=0.4
for alpha in 0.35 0.5 0.75 1 1.3 1.4; do # those that there are
  expect 65 "alpha=$alpha, include_top=False" env HOME="$work" KERAS_HOME= "$DFT" check "$config" model.weights=imagenet \
    model.alpha=$alpha
done
unset KERAS_HOME
chmod 000 "$work/foreign.h5"
[ -r "$work/foreign.h5" ] || both 74 "foreign.h5: Permission denied" "$config" model.weights="$work/foreign.h5"
# data
printf '\x93NUMPY\x01\x00' >"$work/short.npy"
both 65 "short.npy" "$config" data.format=npy "data.train={images: $work/short.npy, labels: $work/short.npy}" \
  "data.validation={images: $work/short.npy, labels: $work/short.npy}"
both 65 "none.gz" "$config" data.format=idx "data.train={images: $work/none.gz, labels: $work/none.gz}" \
  "data.validation={images: $work/none.gz, labels: $work/none.gz}"
mkdir -p "$work/photos/cats/"{ginger,grey}
cp "$DFT_SOURCE/tests/golden/data/images/rgb.png" "$work/photos/cats/ginger/"
: >"$work/photos/cats/grey/"$'two\nlines.png'
folder=("$config" data.format=image_folder data.train= data.validation=)
both 65 "only one class (cats)" "${folder[@]}" data.train.path="$work/photos"
# a name cannot break its line, and what an error speaks of stands above it
expect 65 "unreadable: " "$DFT" check "${folder[@]}" data.train.path="$work/photos/cats" model.classes=2
tail -1 "$work/out" | grep -q "1 sample is unreadable, listed above" || fail "the error is not the last line"
expect 65 "grey/two?lines.png: zero bytes" "$DFT" "${folder[@]}" data.train.path="$work/photos/cats" model.classes=2 data.on_corrupt=fail
ls "$work"/run/*.pb >/dev/null 2>&1 && fail "a failed run left checkpoints"
# run_dir that cannot be made (a file is in the way: also true for root)
: >"$work/file"
both 74 "$work/file" "$config" run_dir="$work/file/run"
# a lock held by another run
"$DFT" "$config" run_dir="$work/locked" phases.2.epochs=2000 >/dev/null 2>&1 &
for _ in $(seq 200); do [ -s "$work/locked/history.csv" ] && break; sleep 0.1; done
both 2 "another run" "$config" run_dir="$work/locked"
kill -9 %1
wait 2>/dev/null
# a loss that is not finite
npy_header() { # DESCR SHAPE: the first 128 bytes of an .npy file
  printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '$1', 'fortran_order': False, 'shape': $2, }"
}
{ npy_header '<f4' '(24, 33, 40, 3)' && head -c $((24 * 33 * 40 * 3 * 4)) /dev/zero | tr '\0' '\377'; } >"$work/nan.npy"
{ npy_header '|u1' '(24,)' && head -c 24 /dev/zero; } >"$work/zeros.npy"
both 70 "not finite" "$config" run_dir="$work/nan" data.format=npy \
  "data.train={images: $work/nan.npy, labels: $work/zeros.npy}" data.validation=null
grep -q "nan.npy\[" "$work/out" || { cat "$work/out" >&2; fail "the samples of the batch are not named"; }
[ -e "$work/nan/final.pb" ] && fail "a diverged run is called final"
{ npy_header '<f4' '(24, 33, 40, 3)' && head -c $((23 * 33 * 40 * 3 * 4 + 48)) /dev/zero && head -c 4 /dev/zero | tr '\0' '\377' &&
  head -c $((33 * 40 * 3 * 4 - 52)) /dev/zero; } >"$work/one_nan.npy"
# the same words when a finished run is started again
{ npy_header '<f4' '(24, 33, 40, 3)' && head -c $((24 * 33 * 40 * 3 * 4)) /dev/zero; } >"$work/flat.npy"
for start in first second; do
  expect 0 "val_loss nan" "$DFT" "$config" run_dir="$work/nan_validation" data.format=npy \
    "data.train={images: $work/flat.npy, labels: $work/zeros.npy}" "data.validation={images: $work/one_nan.npy, labels: $work/zeros.npy}"
  ! grep -q -- -nan "$work/out" || fail "a NaN with a sign at the $start start"
done
expect 65 "unreadable: one_nan.npy[23]: not finite at row 0, column 4, channel 0" "$DFT" check "$config" data.format=npy \
  "data.train={images: $work/one_nan.npy, labels: $work/zeros.npy}" data.validation=null
grep -q "^training: 24 samples, 1 unreadable" "$work/out" || fail "check: the value that is not finite is not counted"
grep -qE "^  0 +24 +1\$" "$work/out" || fail "check: it is not counted for its class"
{ head -c -4 "$work/one_nan.npy" && printf '\377\377\377\377'; } |
  sed 's/\xff\xff\xff\xff\x00/\x00\x00\x00\x00\x00/' >"$work/last_nan.npy"
expect 65 "unreadable: last_nan.npy[23]: not finite at row 32, column 39, channel 2" "$DFT" check "$config" \
  data.format=npy "data.train={images: $work/last_nan.npy, labels: $work/zeros.npy}" data.validation=null
# arrays that numpy or PyTorch users have at hand
npy=(data.format=npy "data.train={images: $work/ones.npy, labels: $work/zeros.npy}" data.validation=null)
{ npy_header '<f4' '(24, 33, 40, 3)' && head -c $((24 * 33 * 40 * 3 * 4)) /dev/zero | sed 's/\x00\x00\x00\x00/\x00\x00\x80\x3f/g'; } >"$work/ones.npy"
for words in "check" ""; do
  expect 0 "ones.npy: no value seems to be beyond 1, but data.preprocessing: mobilenet_v2 takes 0 ... 255" \
    "$DFT" $words "$config" run_dir="$work/ones" "${npy[@]}"
done
expect 0 "no value seems to be beyond 1" "$DFT" predict "$work/ones/final.pb" "$work/ones.npy"
expect 0 "0 suspicious" "$DFT" check "$config" "${npy[@]}" data.preprocessing=none
grep -q "beyond 1" "$work/out" && fail "a warning of values that are as they should be"
expect 0 "beyond 1" "$DFT" check "$config" "${npy[@]}" data.validation="{split: 0.25}"
[ "$(grep -c "beyond 1" "$work/out")" = 1 ] || fail "one file, more than one warning"
{ npy_header '<f2' '(24, 33, 40, 3)' && head -c $((24 * 33 * 40 * 3 * 2)) /dev/zero; } >"$work/half.npy"
printf 'PK\3\4and more of it' >"$work/arrays.npz"
both 65 "half.npy: npy values of type '<f2' are not supported; save images as uint8 or float32" "$config" "${npy[@]}" data.train.images="$work/half.npy"
both 65 "arrays.npz: an archive of arrays (.npz); save each with numpy.save" "$config" "${npy[@]}" data.train.images="$work/arrays.npz"
# usage
expect 2 "the checkpoint comes before the config; usage: dft eval" "$DFT" eval "$config" "$work/ones/final.pb"
expect 2 "usage: dft inspect" "$DFT" inspect
expect 65 "nothing.pb" "$DFT" inspect "$work/nothing.pb"
expect 65 "config.yaml" "$DFT" inspect "$config"
expect 2 ".safetensors, .onnx or .pb" "$DFT" export "$work/nothing.pb" out.tflite
expect 65 "nothing.pb: cannot open" "$DFT" export "$work/nothing.pb" out.onnx
for words in "predict a b --top=3" "pack a b --top=3" "export a b --top=3" "eval a b --top=3"; do
  expect 2 "'--top=3'" "$DFT" $words
done
expect 0 "dft" "$DFT" --version
expect 0 "Exit codes" "$DFT" --help
expect 0 "dft plan CONFIG.yaml" "$DFT" --help plan
expect 0 "distributed.timeout_s" "$DFT" --help config
expect 2 "help train-it: " "$DFT" --help train-it
# what cannot be printed is no success; training goes on without its reader, and says the same in its files
"$DFT" "$config" run_dir="$work/heard" >/dev/null 2>&1 || fail "the run to compare with"
for words in "--help" "--version" "plan --help" "plan $config" "check $config" "inspect $work/heard/final.pb" \
  "eval $work/heard/final.pb $config"; do
  "$DFT" $words >/dev/full 2>"$work/out"
  [ $? = 74 ] || fail "dft $words on a full disk: not 74"
  grep -q "^dft: error: cannot write" "$work/out" || fail "dft $words on a full disk: no line"
done
# a result that cannot be kept is refused before the work for it; a pipe or device is written to, not replaced
for words in "eval $work/heard/final.pb $config --json" "predict $work/heard/final.pb $work/nan.npy --output"; do
  expect 74 "absent/x.csv: cannot create" "$DFT" $words "$work/absent/x.csv"
  mkdir -p "$work/dir.csv"
  expect 74 "dir.csv: cannot write: Is a directory" "$DFT" $words "$work/dir.csv"
  ! grep -qE "samples|not finite" "$work/out" || fail "the work was done first: $words"
done
expect 65 "absent.npy" "$DFT" eval "$work/heard/final.pb" "$config" --json "$work/never.json" data.format=npy \
  data.train="{images: absent.npy, labels: absent.npy}" data.validation="{images: absent.npy, labels: absent.npy}"
! ls "$work/never.json"* 2>"$work/out" || fail "a command that failed leaves the beginning of its result"
echo before >"$work/appended"
expect 0 "" bash -c '"$@" 3>>"$0"' "$work/appended" "$DFT" eval "$work/heard/final.pb" "$config" --json /dev/fd/3
[ "$(head -1 "$work/appended")" = before ] && grep -q '"samples": 11' "$work/appended" ||
  fail "--json /dev/fd/3: not appended to the file"
expect 2 "data.resize: pad, but $work/heard/final.pb was trained with stretch" "$DFT" eval "$work/heard/final.pb" \
  "$config" data.resize=pad
expect 0 "" "$DFT" eval "$work/heard/final.pb" "$config" --json -
[ "$(head -c 1 "$work/out")" = "{" ] && grep -q '"samples": 11' "$work/out" && ! grep -q "confusion matrix" "$work/out" ||
  { cat "$work/out" >&2; fail "--json - prints something else"; }
mkfifo "$work/pipe"
timeout 20 cat "$work/pipe" >"$work/piped" &
expect 0 "" timeout 20 "$DFT" eval "$work/heard/final.pb" "$config" --json "$work/pipe"
wait $!
[ -p "$work/pipe" ] && grep -q '"samples": 11' "$work/piped" || fail "--json replaced a pipe"
# /dev/stdout may lead to a file, and stays what it is; a /dev of its own, which nobody else sees, is what a mistake would change
mkdir "$work/dev"
with_own_dev() { # COMMAND...
  unshare --mount --propagation private sh -ec 'mount -t tmpfs dft-test "$0"; mkdir "$0/shm"
    for node in null zero urandom; do mknod -m 666 "$0/$node" c 1 "$(stat -c %T "/dev/$node")"; done
    ln -s /proc/self/fd/1 "$0/stdout"; : >"$0/own"; mount --bind "$0" /dev; test -e /dev/own; "$@"' "$work/dev" "$@"
}
if with_own_dev true 2>/dev/null; then
  with_own_dev sh -ec '"$@"; test -L /dev/stdout' sh "$DFT" eval "$work/heard/final.pb" "$config" --json /dev/stdout >"$work/out" 2>&1 ||
    { cat "$work/out" >&2; fail "--json /dev/stdout"; }
  grep -q '"samples": 11' "$work/out" || fail "--json /dev/stdout: not in the file that it leads to"
else
  echo "without --json /dev/stdout: this user may not mount"
fi
OMP_NUM_THREADS=99999999999 both 2 "OMP_NUM_THREADS: must be at most 4096, got 99999999999" "$config" run_dir="$work/threads"
# paths are whole; a byte-order mark is no text; help by the usual spellings
expect 2 "command line: run_dir: ~ is not expanded here" "$DFT" plan "$config" 'run_dir="~/x"'
expect 0 "MobileNetV2 alpha" "$DFT" plan "$config" 'run_dir=~x'
{ printf '\xef\xbb\xbf' && cat "$config"; } >"$work/marked.yaml"
expect 0 "MobileNetV2 alpha" "$DFT" plan "$work/marked.yaml"
expect 2 "write unfreeze: all, without [ ]" "$DFT" plan "$config" phases.1.unfreeze_last= "phases.1.unfreeze=[all]"
expect 0 "" "$DFT" plan "$config" phases.1.unfreeze_last= "phases.1.unfreeze=[block_16_*, predictions]"
both 65 "checkpoint.resume: $work/absent.pb: cannot open" "$config" run_dir="$work/absent" checkpoint.resume="$work/absent.pb"
for words in "config --help" "config -h" "--help config" "help config"; do expect 0 "data.batch_size" "$DFT" $words; done
cp "$config" "$work/conf"
(cd "$work" && expect 0 "dft train CONFIG.yaml" "$DFT" conf --help) || exit 1
for words in "predict -h" "predict --help" "help predict"; do expect 0 "dft predict CKPT INPUT" "$DFT" $words; done
expect 2 "--help nothing: there is help on" "$DFT" nothing --help
# an export is no checkpoint to go on from, and does not take one's place
cp "$work/heard/final.pb" "$work/other.pb"
cp "$work/other.pb" "$work/read.pb"
cp "$config" "$work/read.yaml"
cp "$work/nan.npy" "$work/read.npy"
ln -s read.npy "$work/link.npy"
expect 2 "read.pb is what this command reads" "$DFT" export "$work/read.pb" "$work/read.pb"
expect 2 "read.pb is what this command reads" "$DFT" eval "$work/read.pb" "$config" --json "$work/read.pb"
expect 2 "read.yaml is what this command reads" "$DFT" eval "$work/read.pb" "$work/read.yaml" --json "$work/read.yaml"
expect 2 "read.npy is what this command reads" "$DFT" predict "$work/read.pb" "$work/read.npy" --output "$work/read.npy"
expect 2 "link.npy is what this command reads" "$DFT" predict "$work/read.pb" "$work/read.npy" --output "$work/link.npy"
expect 2 "read.npy is what this command reads" "$DFT" eval "$work/read.pb" "$config" --json "$work/read.npy" data.format=npy \
  "data.validation={images: $work/read.npy, labels: $work/read.npy}" "data.train={images: $work/read.npy, labels: $work/read.npy}"
whole="{images: $work/nan.npy, labels: $work/zeros.npy}"
for key in data.train.images data.train.labels data.validation.images data.validation.labels model.weights; do
  expect 2 "read.npy is what this command reads" "$DFT" eval "$work/read.pb" "$config" --json "$work/read.npy" data.format=npy \
    "data.train=$whole" "data.validation=$whole" $key="$work/read.npy"
done
expect 2 "other.pb is a checkpoint of a run" "$DFT" eval "$work/read.pb" "$config" --json "$work/other.pb"
same "$work/read.pb" "$work/other.pb" "after commands that would have written over it"
same "$work/read.npy" "$work/nan.npy" "after commands that would have written over it"
same "$work/read.yaml" "$config" "after commands that would have written over it"
expect 2 "other.pb is a checkpoint of a run" "$DFT" export "$work/heard/final.pb" "$work/other.pb"
expect 0 "" "$DFT" export "$work/heard/final.pb" "$work/exported.pb"
expect 0 "" "$DFT" export "$work/heard/final.pb" "$work/exported.pb"
both 65 "x.keras: an archive of Keras" "$config" run_dir="$work/keras" model.weights="$work/x.keras"
mkdir "$work/half"
touch "$work/half/shard-000000.tar.1.dft-tmp"
expect 2 "is not empty (files of a dft pack that was interrupted, or still runs)" "$DFT" pack "$work/photos" "$work/half"
touch "$work/half/mine"
expect 2 "is not empty; name a new one" "$DFT" pack "$work/photos" "$work/half"
expect 2 "out: the output directory is inside the folder" "$DFT" pack "$work/photos/cats" "$work/photos/cats/out"
expect 2 "cats: the output directory is inside the folder" "$DFT" pack "$work/photos/cats" "$work/photos/cats"
# what a run writes must not become a class of its data
pairs=("${folder[@]}" data.train.path="$work/pairs" model.classes=2)
mkdir -p "$work/pairs/"{a,b}
cp "$DFT_SOURCE/tests/golden/data/images/rgb.png" "$work/pairs/a/"
cp "$DFT_SOURCE/tests/golden/data/images/rgb.png" "$work/pairs/b/"
ln -s pairs "$work/alias"
for key in run_dir cache.directory data.decoded_cache; do
  both 2 "$key: $work/pairs/new/one is inside $work/pairs, whose folders are classes; name one outside" "${pairs[@]}" $key="$work/pairs/new/one"
done
both 2 "run_dir: $work/alias is inside $work/pairs" "${pairs[@]}" run_dir="$work/alias"
[ "$(ls -A "$work/pairs")" = "$(printf 'a\nb')" ] || fail "a refused run leaves something among the classes"
for _ in 1 2; do expect 0 "Results in" "$DFT" "${pairs[@]}" run_dir="$work/pairs/.run"; done # hidden: no class
expect 0 "2 samples" "$DFT" check "${pairs[@]}"
expect 0 "samples 2" "$DFT" eval "$work/pairs/.run/final.pb" "${pairs[@]}" data.validation.path="$work/pairs" run_dir="$work/pairs/new"
expect 65 "cats: the class folder 'a' is missing, which $work/pairs/.run/final.pb has" "$DFT" eval "$work/pairs/.run/final.pb" "${pairs[@]}" \
  data.train.path="$work/photos/cats" data.validation.path="$work/photos/cats"
touch "$work/pairs/a/photo.heic"
expect 0 "1 file was passed over for its name or place, as a/photo.heic" "$DFT" "${pairs[@]}" run_dir="$work/pairs.run"
# commands that run alone, started once per rank: ranks that pack would stand in each other's way
expect 2 "dft pack works alone: start it once, without mpirun or srun" np_quiet 3 pack "$work/pairs" "$work/packed"
[ ! -e "$work/packed" ] || fail "a refused dft pack leaves something"
expect 0 "2 samples of 2 classes" timeout 60 mpirun --oversubscribe --bind-to none -np 2 \
  bash -c "env -u OMPI_COMM_WORLD_SIZE '$DFT' pack '$work/pairs' '$work'/packed\$OMPI_COMM_WORLD_RANK"
same "$work/packed0/shard-000000.tar" "$work/packed1/shard-000000.tar" "each rank packs a folder of its own"
# so many classes that their matrix has no room; so many that no checkpoint has
ok "5000 classes" np 1 "$config" run_dir="$work/wide" model.classes=5000 data.train.samples=6000 data.validation.samples=40 \
  "phases=[{name: head, epochs: 1}]" data.limit=20
expect 0 "confusion matrix: 5000 classes are too many for a table" np_quiet 2 eval "$work/wide/final.pb" "$config" model.classes=5000 \
  data.train.samples=6000 data.validation.samples=40 --json "$work/wide.json"
grep -q '"support": 40}, "confusion": null}' "$work/wide.json" || fail "no matrix, but no null for it"
for words in "plan" "check" ""; do
  expect 2 "phase 'head': a checkpoint of it would be of some 2" "$DFT" $words "$config" model.alpha=1.4 model.classes=100000 run_dir="$work/vast"
done
expect 0 "data.batch_size: 2 images in all for 3 ranks: some have nothing to do" np_quiet 3 "$config" run_dir="$work/idle" data.batch_size=2 \
  "phases=[{name: head, epochs: 1}]"
# the split of another seed holds what training has seen
ok "train with a split" np 1 "$config" run_dir="$work/split" data.validation="{split: 0.25}"
expect 0 "" "$DFT" eval "$work/split/final.pb" "$config" data.validation="{split: 0.25}"
grep -q "trained on another part" "$work/out" && fail "the same split is told to be another one"
expect 0 "was trained on another part of the data" "$DFT" eval "$work/split/final.pb" "$config" data.validation="{split: 0.25}" seed=8
both 65 "exported.pb was exported, without its optimizer" "$config" run_dir="$work/again" checkpoint.resume="$work/exported.pb"
"$DFT" "$config" run_dir="$work/unheard" 2>/dev/null | true
[ "${PIPESTATUS[0]}" = 0 ] || fail "the run ended with its reader"
same "$work/heard/final.pb" "$work/unheard/final.pb" "a run that nobody reads"
same "$work/heard/history.csv" "$work/unheard/history.csv" "a run that nobody reads"
echo "every error has its line and its code"
