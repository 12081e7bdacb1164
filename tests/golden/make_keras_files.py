"""Makes tests/golden/keras/: small weight files saved by Keras itself, read by tests/unit/test_weights_files.c.

Needs Keras 3 and Keras 2: pip install tensorflow-cpu keras tf_keras h5py. The committed files were made with
Keras 3.15.1, tf_keras 2.21.0 and h5py 3.14.0.

usage: make_keras_files.py DIRECTORY

The model is a stub of MobileNetV2 with its names. Value i of tensor LAYER/VARIABLE is
((crc32("LAYER/VARIABLE") + 389*i) mod 1024) / 512 - 1, which float16 holds exactly, too.
"""

import os
import sys
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
import h5py
import keras
import numpy as np
import tf_keras
from keras.src.legacy.saving import legacy_h5_format

OTHER_NAMES = {  # as in some published files: Keras binds these by order
    "Conv1": "conv2d_1", "bn_Conv1": "batch_normalization_1",
    "expanded_conv_depthwise": "mobl_conv_0_depthwise", "expanded_conv_depthwise_BN": "batch_normalization_2",
    "expanded_conv_project": "conv2d_2", "expanded_conv_project_BN": "batch_normalization_3",
    "predictions": "dense_1"}


def base(k, names):
    k.backend.clear_session()
    x = inputs = k.Input((8, 8, 3))
    x = k.layers.Conv2D(2, 3, use_bias=False, name=names("Conv1"))(x)
    x = k.layers.BatchNormalization(name=names("bn_Conv1"))(x)
    x = k.layers.ReLU(6.0, name="Conv1_relu")(x)
    x = k.layers.DepthwiseConv2D(3, use_bias=False, name=names("expanded_conv_depthwise"))(x)
    x = k.layers.BatchNormalization(name=names("expanded_conv_depthwise_BN"))(x)
    x = k.layers.Conv2D(3, 1, use_bias=False, name=names("expanded_conv_project"))(x)
    x = k.layers.BatchNormalization(name=names("expanded_conv_project_BN"))(x)
    return k.Model(inputs, k.layers.GlobalAveragePooling2D()(x), name="base")


def flat(k, names=lambda name: name):
    b = base(k, names)
    return fill(k.Model(b.input, k.layers.Dense(2, name=names("predictions"))(b.output)))


def nested(k):
    b = base(k, lambda name: name)
    return fill(k.Sequential([k.Input((8, 8, 3)), b, k.layers.Dropout(0.2), k.layers.Dense(2, name="predictions")]))


def fill(model):
    true_names = {v: k for k, v in OTHER_NAMES.items()}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            fill(layer)
            continue
        for v in layer.weights:
            variable = v.name.split("/")[-1].split(":")[0].replace("depthwise_kernel", "kernel")
            seed = zlib.crc32(f"{true_names.get(layer.name, layer.name)}/{variable}".encode())
            i = np.arange(int(np.prod(v.shape)), dtype=np.int64)
            v.assign((((seed + 389 * i) % 1024) / 512.0 - 1.0).astype("float32").reshape(v.shape))
    return model


def save_published(model, path):
    with h5py.File(path, "w") as f:
        legacy_h5_format.save_weights_to_hdf5_group(f, model)


def old_strings(path):
    """Attributes as older h5py wrote them (fixed-length), the long list in parts as Keras splits it."""
    with h5py.File(path, "a") as f:
        names = [n.encode() for n in f.attrs["layer_names"]]
        del f.attrs["layer_names"]
        f.attrs["layer_names0"], f.attrs["layer_names1"] = np.array(names[:4]), np.array(names[4:])
        for group in f.values():
            weights = [n.encode() for n in group.attrs["weight_names"]]
            group.attrs["weight_names"] = np.array(weights) if weights else np.array([])


def other_types(path):
    """Kernels as gzip'd float16 chunks, the rest as float64."""
    with h5py.File(path, "a") as f:
        datasets = []
        f.visititems(lambda name, o: datasets.append(name) if isinstance(o, h5py.Dataset) else None)
        for name in datasets:
            values = f[name][()]
            del f[name]
            if "kernel" in name:
                f.create_dataset(name, data=values.astype("float16"), chunks=values.shape, compression="gzip")
            else:
                f.create_dataset(name, data=values.astype("float64"))


def main(directory):
    os.makedirs(directory, exist_ok=True)
    path = lambda name: os.path.join(directory, name)
    save_published(flat(keras), path("keras3_flat.h5"))
    save_published(nested(keras), path("keras3_nested.h5"))
    flat(keras).save_weights(path("keras3_flat.weights.h5"))
    nested(keras).save_weights(path("keras3_nested.weights.h5"))
    flat(tf_keras).save_weights(path("keras2_flat.h5"))
    flat(tf_keras, OTHER_NAMES.get).save_weights(path("keras2_other_names.h5"))
    old_strings(path("keras2_other_names.h5"))
    flat(tf_keras).save_weights(path("keras2_unnamed.weights.h5"))  # Keras 2 and early Keras 3: no names
    nested(tf_keras).save_weights(path("keras2_nested_unnamed.weights.h5"))
    flat(keras).save(path("keras3_whole_model.h5"), include_optimizer=False)
    save_published(flat(keras), path("other_types.h5"))
    other_types(path("other_types.h5"))


main(sys.argv[1])
