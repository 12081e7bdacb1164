#!/usr/bin/env python3
"""Makes the goldens under tests/golden/data with Keras 3 on TensorFlow (CPU).

    python3 -m venv V && V/bin/pip install keras==3.15.1 tensorflow-cpu==2.21.0
    V/bin/python tests/golden/make_goldens.py [PART...]     # parts: layers, calibration, model, trajectory

Weights, images and labels come from a formula over Philox4x32-10 that golden.c computes bit for bit as
well, so no tensor of theirs is stored. Exception: the BatchNorm moving statistics, which have to fit the
formula's network to keep its activations alive through 155 layers; `calibration_*.bin` holds them.

Every run is made twice, in float32 (these values are stored) and in float64. The distance between the two is
Keras' own rounding error; it is stored beside each value as its "noise", and the tests of dft take their
tolerances from it.

A .bin file is a list of records: u32 length of name, name, u32 count, count float32; little-endian.
"""
import os
import struct
import subprocess
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")

# --- shared with golden.c --------------------------------------------------------------------------
SEED = 20260131
STREAM_SHUFFLE, STREAM_IMAGE, STREAM_INIT = 1, 4, 6
CLASSES = 5
TRAIN, VALIDATION, BATCH = 24, 10, 10  # the last batch has 4 samples
BLOCK = 8  # pictures are made of squares of 8x8 pixels


def philox(seed, stream, sub, index):
    """dft_rng_block for an array of indices: uint32 [n, 4]."""
    u32 = np.uint64(0xFFFFFFFF)
    index = np.asarray(index, np.uint64)
    c = [index & u32, index >> np.uint64(32), np.full(index.shape, sub, np.uint64), np.full(index.shape, stream, np.uint64)]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & u32, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & u32]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, -1).astype(np.uint32)


def stream_bits(stream, sub, first, count):
    """Elements first..first+count-1 of the stream of 32-bit words; element j is lane j%4 of block j/4."""
    blocks = np.arange(first // 4, (first + count + 3) // 4, dtype=np.uint64)
    words = philox(SEED, stream, sub, blocks).reshape(-1)
    return words[first % 4 : first % 4 + count]


def permute(seed, epoch, n):
    """The sampler: dft_rng_permute(seed, DFT_STREAM_SHUFFLE, epoch, n, position) for all positions."""
    half = ((n - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1

    def feistel(x):
        left, right = x >> half, x & mask
        for r in range(6):
            b = philox(seed, STREAM_SHUFFLE, epoch, [(right << 3) | r])[0]
            left, right = right, left ^ ((int(b[1]) << 32 | int(b[0])) & mask)
        return left << half | right

    order = []
    for x in range(n):
        x = feistel(x)
        while x >= n:
            x = feistel(x)
        order.append(x)
    return np.array(order)


def pictures(first, count, size):
    """uint8 [count, size, size, 3]: squares of the class' colours, of the picture's own, and pixel noise."""
    grid = (size + BLOCK - 1) // BLOCK
    byte = lambda sub, at, n: (stream_bits(STREAM_IMAGE, sub, at, n) >> 24).astype(np.int32)
    coarse, fine = grid * grid * 3, size * size * 3
    out = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        s = first + i
        spread = lambda a: a.reshape(grid, grid, 3).repeat(BLOCK, 0).repeat(BLOCK, 1)[:size, :size]
        kind = spread(byte(0, (s % CLASSES) * coarse, coarse))
        own = spread(byte(1, s * coarse, coarse))
        noise = byte(2, s * fine, fine).reshape(size, size, 3)
        out[i] = (9 * kind + 4 * own + 3 * noise) >> 4
    return out


def labels(first, count):
    return (np.arange(first, first + count) % CLASSES).astype(np.int32)


def formula(tensor, path, shape):
    """float32 values of the tensor-th variable of the model (in Keras' order, the head's two last).

    What follows a BatchNorm with ReLU6 is mostly inside (0, 6), and what comes out of a block is small beside
    what goes around it: in a plain random network this deep, rounding grows by chaos to percents."""
    layer, variable = path.split("/")
    n = int(np.prod(shape))
    u = (stream_bits(STREAM_INIT, tensor, 0, n) >> 8).astype(np.float32) * np.float32(2.0**-24)
    two, one, half = np.float32(2), np.float32(1), np.float32(0.5)
    linear = layer.endswith("project_BN")
    if variable == "kernel":
        fan_in = shape[0] if len(shape) == 2 else 9 if shape[3] == 1 else shape[0] * shape[1] * shape[2]
        value = (two * u - one) * np.float32(np.sqrt(6.0 / fan_in))
    elif variable == "gamma" and linear:  # [0.25, 0.75)
        value = (half + u) * half
    elif variable == "gamma":  # [0.75, 1.25), and every 8th [2.25, 3.75): these reach the 6
        value = one + (u - half) * half
        value[::8] *= np.float32(3)
    elif variable == "beta" and not linear:  # [0.5, 1.5)
        value = half + u
    else:  # beta, bias: [-0.25, 0.25)
        value = (u - half) * half
    return value.reshape(shape)


# --- the files --------------------------------------------------------------------------------------------
def write_records(path, records):
    with open(os.path.join(DATA, path), "wb") as f:
        for name, values in records:
            values = np.ascontiguousarray(values, "<f4").reshape(-1)
            f.write(struct.pack("<I", len(name)) + name.encode() + struct.pack("<I", values.size) + values.tobytes())


def read_records(path):
    data, at, out = open(os.path.join(DATA, path), "rb").read(), 0, {}
    while at < len(data):
        (n,) = struct.unpack_from("<I", data, at)
        name = data[at + 4 : at + 4 + n].decode()
        (count,) = struct.unpack_from("<I", data, at + 4 + n)
        out[name] = np.frombuffer(data, "<f4", count, at + 8 + n)
        at += 8 + n + 4 * count
    return out


def sample(a, most):
    """At most `most` elements, evenly spread: element k*n/most of the flat tensor."""
    a = np.asarray(a).reshape(-1)
    n = a.size
    return a if n <= most else a[(np.arange(most) * n) // most]


# --- the model --------------------------------------------------------------------------------------------
def keras_model(alpha, size):
    import keras

    keras.backend.clear_session()
    base = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=alpha, include_top=False, weights=None, pooling="avg"
    )
    head = keras.layers.Dense(CLASSES, activation="softmax", name="predictions")(base.output)
    return base, keras.Model(base.input, head)


def set_weights(model, alpha, calibrated=True):
    stats = read_records(f"calibration_{tag(alpha)}.bin") if calibrated else {}
    for i, w in enumerate(model.weights):
        if "/moving_" in w.path:
            if calibrated:
                w.assign(stats[w.path])
        else:
            w.assign(formula(i, w.path, tuple(w.shape)))


def tag(alpha):
    return "%03d" % round(alpha * 100)


def batch_of(order, size):
    """Model-ready images and labels of the training samples `order`, in keras.floatx()."""
    import keras

    x = pictures(0, TRAIN + VALIDATION, size).astype(np.float32) / np.float32(127.5) - np.float32(1)
    return x[order].astype(keras.config.floatx()), labels(0, TRAIN + VALIDATION)[order]


def unfreeze(base, last):
    """last 0: only the head; -1: all layers; else Keras' base.layers[-last:]."""
    base.trainable = True
    for l in base.layers:
        l.trainable = False
    for l in base.layers if last == -1 else base.layers[-last:] if last else []:
        l.trainable = True


UNFREEZE = {"last20": 20, "last47": 47, "all": -1}

# The first picture of the batch whose gradients are taken. An activation at ReLU6's kink may fall on either
# side by rounding alone, which moves gradients by percents. Of these batches (found to give dft's kernel sets
# the same masks) the one is taken for which Keras' float32 and float64 are closest.
FIRSTS = {
    (0.35, 96): {"last20": (3, 4, 5, 7), "last47": (0, 3, 6), "all": (0, 8)},
    (0.35, 75): {"last20": (0, 1, 3), "last47": (0, 6, 10), "all": (4, 6, 8, 11, 14)},
    (1.0, 96): {"last20": (0, 3, 5), "last47": (2, 6, 10, 12), "all": (3, 4, 5, 6, 8, 10, 11, 13)},
    (1.0, 75): {"last20": (0, 3, 6), "last47": (0, 8, 10), "all": (11, 24)},
}
ALPHAS, SIZES = (0.35, 1.0), (96, 75)


# --- parts ------------------------------------------------------------------------------------------------
def make_layers():
    """layers.txt: one line per layer of several models: alpha height width index name class h w c parameters."""
    import keras

    shapes = [(a, 96, 96) for a in (0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)]
    shapes += [(0.35, 75, 75), (0.35, 33, 32), (1.0, 224, 224), (1.0, 97, 130)]
    with open(os.path.join(DATA, "layers.txt"), "w") as f:
        for alpha, h, w in shapes:
            keras.backend.clear_session()
            base = keras.applications.MobileNetV2(
                input_shape=(h, w, 3), alpha=alpha, include_top=False, weights=None, pooling="avg"
            )
            for i, l in enumerate(base.layers):
                s = l.output.shape[1:]
                s = s if len(s) == 3 else (1, 1, s[0])
                f.write(f"{alpha} {h} {w} {i} {l.name} {type(l).__name__} {s[0]} {s[1]} {s[2]} {l.count_params()}\n")


def make_calibration():
    """Moving statistics near those of the training pictures at size 96, kept off them on purpose (so that a
    BatchNorm in the wrong mode shows) and rounded to 8 bits of mantissa (they pack well)."""
    import keras

    keras.config.set_floatx("float64")
    for alpha in ALPHAS:
        base, model = keras_model(alpha, 96)
        set_weights(model, alpha, calibrated=False)
        x, _ = batch_of(np.arange(TRAIN), 96)
        for l in base.layers:
            if isinstance(l, keras.layers.BatchNormalization):
                l.momentum = 0.0
        model(x, training=True)
        rng, records = np.random.default_rng(1), []
        for l in base.layers:
            if isinstance(l, keras.layers.BatchNormalization):
                mean, var = l.moving_mean.numpy(), np.maximum(l.moving_variance.numpy(), 1e-3)
                mean = mean + np.sqrt(var) * rng.uniform(-0.1, 0.1, mean.shape)
                var = var * rng.uniform(0.8, 1.25, var.shape)
                for name, v in (("moving_mean", mean), ("moving_variance", var)):
                    bits = v.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
                    records.append((f"{l.name}/{name}", bits.view(np.float32)))
        write_records(f"calibration_{tag(alpha)}.bin", records)


def compute_model(alpha, size):
    """name -> full tensor: activations of 4 pictures in inference and of a batch in training mode, and the
    gradients of that batch for each trainable set."""
    import keras
    import tensorflow as tf

    base, model = keras_model(alpha, size)
    set_weights(model, alpha)
    start = model.get_weights()
    x, y = batch_of(np.arange(BATCH), size)
    out = {}
    every = keras.Model(base.input, [l.output for l in model.layers])
    for l, a in zip(model.layers, every(x[:4], training=False)):
        out[f"inference/{l.name}"] = a.numpy()
    unfreeze(base, -1)
    for l, a in zip(model.layers, every(x, training=True)):
        out[f"training/{l.name}"] = a.numpy()
    loss_of = keras.losses.SparseCategoricalCrossentropy()
    for name, last in {"head": 0, **UNFREEZE}.items():
        for first in FIRSTS[alpha, size].get(name, (0,)):
            model.set_weights(start)
            unfreeze(base, last)
            x, y = batch_of(np.arange(first, first + BATCH), size)
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            trained = model.trainable_weights
            out[f"{name}@{first}/loss"] = loss.numpy()
            for w, g in zip(trained, tape.gradient(loss, [w.value for w in trained])):
                out[f"{name}@{first}/{w.path}"] = g.numpy()
    return out


# Two phases each, (shuffle, optimizer, depth, optimizer): the seed's program first, then other mixes of
# optimizers. Learning rates are kept where rounding does not grow into chaos within these few steps.
ADAM, ADAMW = ("adam", {"learning_rate": 0.001}), ("adamw", {"learning_rate": 0.001, "weight_decay": 0.01})
TRAJECTORIES = {
    "last20": (False, ADAM, 20, ("adam", {"learning_rate": 1e-5})),
    "last47": (True, ("sgd", {"learning_rate": 0.001}), 47, ("sgd", {"learning_rate": 0.0003, "momentum": 0.9, "nesterov": True})),
    "all": (True, ADAMW, -1, ("sgd", {"learning_rate": 0.00003, "momentum": 0.9, "nesterov": True})),
}
EPOCHS = (3, 2)


def compute_trajectory(alpha, size, name):
    """name -> full tensor: history [epochs, 4], predictions on the validation pictures, and per variable its
    update w - w0."""
    import keras

    shuffle, first, last, second = TRAJECTORIES[name]
    base, model = keras_model(alpha, size)
    set_weights(model, alpha)
    start = [np.float64(w.numpy()) for w in model.weights]
    validation = batch_of(np.arange(TRAIN, TRAIN + VALIDATION), size)
    history, epoch = [], 0
    for count, depth, (optimizer, arguments) in ((EPOCHS[0], 0, first), (EPOCHS[1], last, second)):
        unfreeze(base, depth)
        make = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
        model.compile(
            optimizer=make[optimizer](**arguments), loss="sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
        )
        for _ in range(count):
            order = permute(SEED, epoch, TRAIN) if shuffle else np.arange(TRAIN)
            x, y = batch_of(order, size)
            h = model.fit(x, y, batch_size=BATCH, epochs=1, shuffle=False, validation_data=validation, verbose=0).history
            history.append([h[k][0] for k in ("accuracy", "loss", "val_accuracy", "val_loss")])
            epoch += 1
    out = {"history": np.array(history), "predictions": model.predict(validation[0], verbose=0)}
    for w, w0 in zip(model.weights, start):
        out[f"update/{w.path}"] = np.float64(w.numpy()) - w0
    return out


def trajectory_yaml(alpha, size, name):
    shuffle, first, last, second = TRAJECTORIES[name]

    def optimizer(o):
        # Python writes 1e-05: YAML 1.1 wants the dot.
        value = lambda v: str(v).lower() if isinstance(v, bool) else "%.8f" % v
        return "{name: %s%s}" % (o[0], "".join(f", {k}: {value(v)}" for k, v in o[1].items()))

    thaw = "unfreeze: all" if last == -1 else f"unfreeze_last: {last}"
    return f"""# Made by make_goldens.py; paths are relative to where "golden_tool inputs" wrote its files.
seed: {SEED}
run_dir: run
model:
  alpha: {alpha}
  input_shape: [{size}, {size}, 3]
  classes: {CLASSES}
  weights: weights.pb
data:
  format: npy
  batch_size: {BATCH}
  shuffle: {str(shuffle).lower()}
  train: {{images: train_images.npy, labels: train_labels.npy}}
  validation: {{images: validation_images.npy, labels: validation_labels.npy}}
phases:
  - {{name: head, epochs: {EPOCHS[0]}, optimizer: {optimizer(first)}}}
  - {{name: tail, {thaw}, epochs: {EPOCHS[1]}, optimizer: {optimizer(second)}}}
log: {{verbose: 0, tensorboard: false}}
"""


def records_of(f32, f64, most):
    """Per tensor NAME: its sum and L2 norm (of all elements) and Keras' own noise (relative L2 and
    largest distance of the float32 tensor from the float64 one); NAME# holds a sample of its elements. A tensor whose float64 value is rounding
    error itself (a gradient that is zero in exact arithmetic, what Adam makes of it) has
    the record NAME alone, empty; one that is plainly zero, none."""
    records = []
    for name, a in f32.items():
        b = np.float64(f64[name])
        a = np.float64(a)
        norm = np.linalg.norm(b)
        if not np.any(a) and not np.any(b):
            continue
        noise = np.linalg.norm(a - b) / norm
        if norm <= 1e-9 * np.sqrt(b.size) or noise > 0.5:
            records.append((name, []))
            continue
        records.append((name, [a.sum(), np.linalg.norm(a), noise, np.max(np.abs(a - b))]))
        records.append((name + "#", sample(a, most)))
    return records


def twice(*arguments):
    """Runs one computation in float32 and in float64, each in a process of its own."""
    results = []
    for floatx in ("float32", "float64"):
        path = os.path.join("/tmp", f"golden-{os.getpid()}-{floatx}.npz")
        subprocess.run([sys.executable, __file__, "compute", floatx, path, *map(str, arguments)], check=True)
        with np.load(path) as z:
            results.append({k: z[k] for k in z.files})
        os.unlink(path)
    return results


def distances(prefix, f32, f64):
    """Of the tensors PREFIX*: (distance float32 from float64, float64's norm, name)."""
    for k in f32:
        if k.startswith(prefix):
            distance, norm = np.linalg.norm(np.float64(f32[k]) - f64[k]), np.linalg.norm(f64[k])
            if norm > 1e-9 * np.sqrt(f64[k].size) and distance < 0.5 * norm:
                yield distance, norm, k


def report(title, f32, f64):
    for prefix in sorted({k.split("/")[0] for k in f32}):
        of = list(distances(prefix, f32, f64))
        worst, where = max((d / n, k) for d, n, k in of)
        total = np.sqrt(sum(d * d for d, n, k in of) / sum(n * n for d, n, k in of))
        print(f"{title} {prefix}: float32/float64 distance {total:.2g}, worst {worst:.2g} ({where})", flush=True)


def make_model():
    for alpha in ALPHAS:
        for size in SIZES:
            f32, f64 = twice("model", alpha, size)
            report(f"model {alpha} {size}", f32, f64)
            for name in ("head", *UNFREEZE):
                batches = sorted({k.split("/")[0] for k in f32 if k.startswith(name + "@")})
                best = min(batches, key=lambda b: max(d / n for d, n, _ in distances(b + "/", f32, f64)))
                for r in (f32, f64):
                    for k in [k for k in r if k.startswith(name + "@")]:
                        value = r.pop(k)
                        if k.startswith(best + "/"):
                            r[name + k[len(best) :]] = value
                    r[f"{name}/first"] = np.float64(best.split("@")[1])
            write_records(f"model_{tag(alpha)}_{size}.bin", records_of(f32, f64, 96))


def make_trajectory():
    for alpha in ALPHAS:
        for size in SIZES:
            for name in TRAJECTORIES:
                f32, f64 = twice("trajectory", alpha, size, name)
                report(f"trajectory {alpha} {size} {name}", f32, f64)
                print(np.array2string(f32["history"], precision=6), "\n", f32["history"] - f64["history"], flush=True)
                stem = f"trajectory_{tag(alpha)}_{size}_{name}"
                write_records(stem + ".bin", records_of(f32, f64, 64))
                with open(os.path.join(DATA, stem + ".yaml"), "w") as f:
                    f.write(trajectory_yaml(alpha, size, name))


def compute(floatx, path, what, alpha, size, *rest):
    import keras

    keras.config.set_floatx(floatx)
    run = {"model": compute_model, "trajectory": compute_trajectory}[what]
    np.savez(path, **run(float(alpha), int(size), *rest))


def main():
    if sys.argv[1:2] == ["compute"]:
        return compute(*sys.argv[2:])
    os.makedirs(DATA, exist_ok=True)
    parts = {"layers": make_layers, "calibration": make_calibration, "model": make_model, "trajectory": make_trajectory}
    for part in sys.argv[1:] or parts:
        parts[part]()


if __name__ == "__main__":
    main()
