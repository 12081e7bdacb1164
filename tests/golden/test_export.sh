#!/usr/bin/env bash
# Exported models: an ONNX file run by plain loops predicts what dft does, and weights come back bit for bit through
# ONNX and safetensors. With DFT_EXPORT_PYTHON (a Python with numpy, onnx, onnxruntime and safetensors) the libraries
# themselves read the files too.
source "$DFT_SOURCE/tests/common.sh"
tool=$DFT_BUILD/tests/onnx_tool
export OMP_NUM_THREADS=1
# trained weights: in a fresh network all images look alike
small_config "$work/run" | sed "s|alpha: 0.35|alpha: 1.0, weights: $DFT_SOURCE/configs/weights/fashion5-pretrained.pb|" >"$work/config.yaml"
config=$work/config.yaml
still="phases=[{name: still, epochs: 1, optimizer: {name: sgd, learning_rate: 0.0}}]"

# seven images of 33 x 40
{
  printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '<f4', 'fortran_order': False, 'shape': (7, 33, 40, 3), }"
  perl -e 'print pack("f<", ($_ * (1 + int($_ / 3960)) + int($_ / 97) * 31) % 256) for 0 .. 7 * 33 * 40 * 3 - 1'
} >"$work/x.npy"

try() { # NAME SPREAD SETTING...: train, export, compare; probabilities must differ by so much between images
  local name=$1 spread=$2
  shift 2
  ok "train $name" np 1 "$config" run_dir="$work/$name" "$@"
  expect 0 "" "$DFT" export "$work/$name/final.pb" "$work/$name.onnx"
  ok "predict $name" np 1 predict "$work/$name/final.pb" "$work/x.npy" --output "$work/$name.npy"
  "$tool" "$work/$name.onnx" "$work/x.npy" "$work/$name.npy" "$spread" || fail "$name: ONNX predicts something else"
  expect 0 "" "$DFT" export "$work/$name/final.pb" "$work/$name.safetensors"
  for kind in onnx safetensors; do # through the file and out again
    ok "train from $kind" np 1 "$config" run_dir="$work/$name.$kind.run" "$@" model.weights="$work/$name.$kind" "$still" \
      model.dropout=0
    grep -q "260 tensors by name; head: from the file" "$work/out" || { cat "$work/out" >&2; fail "$name: from $kind"; }
    expect 0 "" "$DFT" export "$work/$name.$kind.run/final.pb" "$work/again.$kind"
    same "$work/$name.$kind" "$work/again.$kind" "$name through $kind"
  done
}
try avg 0.01
try max 0.01 model.pooling=max data.preprocessing=unit
# alpha 0.1 has an addition more. Its fresh weights let little through: small variances make BatchNormalization amplify
narrow=(model.alpha=0.1 data.preprocessing=none "model.class_names=[a, b ü, c]")
ok "train a narrow one" np 1 "$config" run_dir="$work/fresh" model.weights=none "${narrow[@]}" "$still"
expect 0 "" "$DFT" export "$work/fresh/final.pb" "$work/fresh.safetensors"
perl -0777 -pe 'my ($length, $header, $all) = (unpack("Q<"), $_, $_);
  while ($header =~ m|moving_variance":\{[^}]*"data_offsets":\[(\d+),(\d+)\]|g) {
    substr($all, 8 + $length + $1, $2 - $1) = pack("f<", 0.2) x (($2 - $1) / 4);
  }
  $_ = $all' "$work/fresh.safetensors" >"$work/loud.safetensors"
try narrow 0.01 model.weights="$work/loud.safetensors" "${narrow[@]}" "$still"

expect 0 "" "$DFT" export "$work/avg/final.pb" "$work/base.onnx" --no-head
ok "from a base" np 1 "$config" run_dir="$work/base.run" model.weights="$work/base.onnx" "$still"
grep -q "260 tensors by name; head: starts fresh, the file has no head" "$work/out" || fail "a head out of nothing"
# the base that comes with dft has no head to leave out
expect 0 "" "$DFT" export "$DFT_SOURCE/configs/weights/fashion5-pretrained.pb" "$work/shipped.onnx" --no-head
expect 65 "the file has no head" "$DFT" export "$DFT_SOURCE/configs/weights/fashion5-pretrained.pb" "$work/shipped.onnx"
# as many classes as there may be
ok "train many" np 1 "$config" run_dir="$work/many" model.alpha=0.1 model.weights=none model.classes=21841 data.batch_size=2 \
  data.train.samples=2 data.validation.samples=1 "$still"
for kind in onnx safetensors h5 weights.h5; do
  expect 0 "" "$DFT" export "$work/many/final.pb" "$work/many.$kind"
  expect 0 "head: from the file" "$DFT" check "$config" model.alpha=0.1 model.classes=21841 model.weights="$work/many.$kind"
done
mkfifo "$work/pipe"
expect 65 "pipe: not a regular file" timeout 20 "$DFT" "$config" model.weights="$work/pipe" run_dir="$work/pipe.run"
head -c 100000 "$work/avg.onnx" >"$work/cut.onnx"
expect 65 "cut.onnx: truncated or damaged" "$DFT" "$config" model.weights="$work/cut.onnx" run_dir="$work/cut.run"
head -c 100000 "$work/avg.safetensors" >"$work/cut.safetensors"
expect 65 "lies beyond the file's end: it is truncated" "$DFT" "$config" model.weights="$work/cut.safetensors" run_dir="$work/cut.run"

if [ -n "${DFT_EXPORT_PYTHON:-}" ]; then
  "$DFT_EXPORT_PYTHON" "$DFT_SOURCE/tests/golden/export_files.py" "$work" avg max narrow || fail "the libraries"
else
  echo "not tried with the libraries themselves: DFT_EXPORT_PYTHON is not set"
fi
echo "ONNX and safetensors files hold the same model"
