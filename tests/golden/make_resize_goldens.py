#!/usr/bin/env python3
"""Writes tests/golden/resize_goldens.h: values of keras.ops.image.resize (TensorFlow backend).

    python3 tests/golden/make_resize_goldens.py > tests/golden/resize_goldens.h

Needs keras and tensorflow. Pixel i of a source image is (i * 2654435761 mod 2^32) >> 24, which both sides compute;
of each result only every `step`-th value is written. clang-format puts the arrays in shape.
"""
import numpy as np
import keras
import tensorflow as tf

assert keras.backend.backend() == "tensorflow"

# source height, width, channels, result height, width, mode, step (prime, so that all rows, columns and channels are hit)
CASES = [
    (28, 28, 1, 96, 96, "STRETCH", 37),
    (28, 28, 3, 96, 96, "STRETCH", 113),
    (37, 51, 3, 33, 47, "STRETCH", 23),
    (200, 150, 1, 96, 97, "STRETCH", 41),
    (1, 1, 1, 33, 32, "STRETCH", 29),
    (2, 3, 1, 35, 32, "STRETCH", 7),
    (96, 96, 3, 32, 32, "STRETCH", 17),
    (31, 500, 3, 96, 224, "STRETCH", 307),
    (28, 45, 1, 96, 96, "CROP", 43),
    (61, 40, 3, 33, 70, "CROP", 31),
    (28, 45, 1, 96, 96, "PAD", 43),
    (61, 40, 3, 33, 70, "PAD", 31),
]


def source(height, width, channels):
    i = np.arange(height * width * channels, dtype=np.uint64)
    return ((i * 2654435761 % 2**32) >> 24).astype(np.float32).reshape(height, width, channels)


print(f"/* Made by make_resize_goldens.py with Keras {keras.__version__}, TensorFlow {tf.__version__}. */")
print("/* clang-format off */")
for k, (h, w, c, oh, ow, mode, step) in enumerate(CASES):
    result = keras.ops.image.resize(source(h, w, c), (oh, ow), interpolation="bilinear", antialias=False,
                                    crop_to_aspect_ratio=mode == "CROP", pad_to_aspect_ratio=mode == "PAD")
    values = np.asarray(result, np.float32).reshape(-1)[::step]
    print(f"static const float golden_{k}[] = {{")
    for i in range(0, len(values), 10):
        print("  " + ", ".join(f"{v:.9g}f" if "." in f"{v:.9g}" or "e" in f"{v:.9g}" else f"{v:.9g}.0f" for v in values[i:i + 10]) + ",")
    print("};")
print("static const struct golden {\n  int height, width, channels, out_height, out_width;\n  dft_resize mode;\n  int step, count;\n  const float *values;\n} goldens[] = {")
for k, (h, w, c, oh, ow, mode, step) in enumerate(CASES):
    print(f"  {{{h}, {w}, {c}, {oh}, {ow}, DFT_RESIZE_{mode}, {step}, (int)(sizeof golden_{k} / sizeof *golden_{k}), golden_{k}}},")
print("};\n/* clang-format on */")
