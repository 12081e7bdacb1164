#!/usr/bin/env bash
# What reaches a device's step besides plain batches: augmented and mixed images, single ones, samples left out.
source "$DFT_SOURCE/tests/common.sh"
source "$DFT_SOURCE/tests/cuda/common.sh"
export OMP_NUM_THREADS=1 DFT_HOST_CUDA=devices=3
# the later phases by small steps: larger ones of so small a batch are far apart between the CPU's own kernel sets
small_config "$work/cpu" | sed 's/learning_rate: 0.001,/learning_rate: 0.000001,/; s/0.0001}/0.00001}/' >"$work/config.yaml"

# both NAME TOLERANCE KEY=VALUE...: near the CPU's, the same at 1 and 3 devices
both() {
  local name=$1 tolerance=$2
  shift 2
  ok "$name on the CPU" on_cpu np 1 "$work/config.yaml" run_dir="$work/$name-cpu" "$@"
  for ranks in 1 3; do
    ok "$name on $ranks devices" on_device np $ranks "$work/config.yaml" run_dir="$work/$name-$ranks" "$@"
  done
  same "$work/$name-1/final.pb" "$work/$name-3/final.pb" "$name"
  near "$name" "$work/$name-cpu/history.csv" "$work/$name-1/history.csv" "$tolerance" "4 6"
}
both mixed 1e-2 data.augment.mixup=0.4
both views 1e-2 'data.augment={flip: horizontal}' cache.views=2 phases.0.epochs=3
both augmented 1e-2 'data.augment={flip: horizontal}' phases.1.epochs=2
both max 1e-2 model.pooling=max phases.0.optimizer.name=adamw phases.2.optimizer.learning_rate=1e-9
both one_image 1e-2 data.batch_size=1 data.limit=7 phases.1.optimizer.learning_rate=1e-9 phases.2.optimizer.learning_rate=1e-9

# a sample that cannot be read is left out
mkdir -p "$work/photos/a" "$work/photos/b"
python3 - "$work/photos" <<'PYTHON' || fail "no photos"
import struct, sys
for c, shade in (("a", 40), ("b", 200)):
    for i in range(24):
        w, h = 40 + i, 36
        pixels = bytes((shade, (10 * i + x) % 256, 255 - shade)[k] for x in range(w * h) for k in range(3))
        with open(f"{sys.argv[1]}/{c}/{i}.bmp", "wb") as f:
            f.write(struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54 + len(pixels), 0, 0, 54, 40, w, h, 1, 24, 0, len(pixels),
                                0, 0, 0, 0) + pixels)
for name in ("a/2", "a/17", "b/9"):
    open(f"{sys.argv[1]}/{name}.bmp", "r+b").truncate(60)
PYTHON
cat >"$work/photos.yaml" <<END
model: {alpha: 0.35, input_shape: [32, 32, 3], classes: 2}
data: {format: image_folder, batch_size: 8, train: {path: $work/photos}, on_corrupt: skip}
phases: [{name: head, epochs: 6}, {name: tail, unfreeze_last: 20, epochs: 3}]
END
for ranks in 1 2; do
  ok "left out" on_device np $ranks "$work/photos.yaml" run_dir="$work/left$ranks"
  grep -q "left out" "$work/out" || fail "nothing was left out"
done
same "$work/left1/final.pb" "$work/left2/final.pb" "a sample left out"
ok "left out on the CPU" on_cpu np 1 "$work/photos.yaml" run_dir="$work/left-cpu"
awk -F, 'NR > 1 {$6 = 0; $5 = 0} 1' OFS=, "$work/left-cpu/history.csv" >"$work/a"
awk -F, 'NR > 1 {$6 = 0; $5 = 0} 1' OFS=, "$work/left1/history.csv" >"$work/b"
near "a sample left out" "$work/a" "$work/b" 2e-3
