"""Prints optimizer_goldens.h: eight steps of Keras' optimizers on seven weights. Run with Keras 3 installed:

    python tests/golden/make_optimizer_goldens.py > tests/golden/optimizer_goldens.h
"""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np

STEPS, COUNT = 8, 7
CASES = {
    "adam": keras.optimizers.Adam(0.01),
    "adam_betas": keras.optimizers.Adam(0.02, beta_1=0.8, beta_2=0.95, epsilon=1e-4),
    "adamw": keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "sgd": keras.optimizers.SGD(0.05),
    "sgd_decay": keras.optimizers.SGD(0.05, weight_decay=0.3),
    "sgd_momentum": keras.optimizers.SGD(0.05, momentum=0.9),
    "sgd_nesterov": keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.02),
}


def initial():
    return np.array([(i * 5 % 7 - 3) / 4 for i in range(COUNT)], "float32")


def gradient(step):
    """Small fractions, exact in float32, so that C makes the same ones."""
    return np.array([((step * 13 + i * 29) % 17 - 8) / 16 for i in range(COUNT)], "float32")


print("/* Made by make_optimizer_goldens.py with Keras %s: weights after each step. */" % keras.__version__)
for name, optimizer in CASES.items():
    w = keras.Variable(initial())
    rows = []
    for step in range(STEPS):
        optimizer.apply([keras.ops.convert_to_tensor(gradient(step))], [w])
        rows.append("    {" + ", ".join("%.9gf" % v if "." in "%.9g" % v or "e" in "%.9g" % v else "%.1ff" % v
                                         for v in w.numpy()) + "},")
    print("static const float golden_%s[%d][%d] = {" % (name, STEPS, COUNT))
    print("\n".join(rows))
    print("};")
