"""Holds dft's Keras files against Keras itself; run by test_keras_files.sh.

usage: keras_files.py TOOL DIRECTORY        TOOL is the built keras_file_tool; DIRECTORY is scratch space

1. Keras saves base, flat and nested models in both layouts: dft must read the same values under the same names.
2. dft's model takes their weights, by name or, where layers have other names or none, by order.
3. dft writes both layouts: Keras must load them into every model that weights.h says, all weights equal.
"""

import itertools
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
import h5py
import keras
import numpy as np
from keras.src.legacy.saving import legacy_h5_format

TOOL, DIRECTORY = sys.argv[1:3]
ALPHA, SIZE, CLASSES = 0.35, 96, 5
KINDS = {1: "h5", 2: "weights.h5"}


def base():
    keras.backend.clear_session()
    return keras.applications.MobileNetV2(
        include_top=False, pooling="avg", input_shape=(SIZE, SIZE, 3), alpha=ALPHA, weights=None)


def head():
    return keras.layers.Dense(CLASSES, activation="softmax", name="predictions")


def flat():
    b = base()
    return keras.Model(b.input, head()(b.output))


def flat_dropout():
    b = base()
    return keras.Model(b.input, head()(keras.layers.Dropout(0.2)(b.output)))


def own_pooling():
    keras.backend.clear_session()
    b = keras.applications.MobileNetV2(
        include_top=False, input_shape=(SIZE, SIZE, 3), alpha=ALPHA, weights=None)
    return keras.Model(b.input, head()(keras.layers.GlobalAveragePooling2D()(b.output)))


def sequential():
    b = base()
    b.trainable = False
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), b, head()])


def sequential_dropout():
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), base(), keras.layers.Dropout(0.2), head()])


def nested():
    b, x = base(), keras.Input((SIZE, SIZE, 3))
    y = b(keras.applications.mobilenet_v2.preprocess_input(x), training=False)
    return keras.Model(x, head()(y))


def layers_of(model):
    """All layers with those of nested models, in order."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)
        else:
            yield layer


def tensors_of(model):
    """{(layer, variable): values} of everything that is a weight."""
    return {(layer.name, v.name): np.asarray(v)
            for layer in layers_of(model) for v in layer.weights}


def randomize(model, seed):
    rng = np.random.default_rng(seed)
    for layer in layers_of(model):
        for v in layer.weights:
            v.assign(rng.standard_normal(v.shape).astype("float32"))


def read_with_dft(path, bind=False):
    """What dft reads, or its model binds: (layout, class names, {(layer, variable): values})."""
    out = os.path.join(DIRECTORY, "read.bin")
    model = ["bind", str(ALPHA), str(SIZE), str(CLASSES)] if bind else ["read"]
    subprocess.run([TOOL, *model, path, out], check=True)
    tensors = {}
    with open(out, "rb") as f:
        kind, classes = map(int, f.readline().split())
        names = [f.readline().decode().rstrip("\n") for _ in range(classes)]
        while line := f.readline():
            layer, variable, sizes = line.decode().rstrip("\n").split("\t")
            shape = tuple(map(int, sizes.split(",")))
            values = np.frombuffer(f.read(4 * int(np.prod(shape))), "<f4").reshape(shape)
            assert (layer, variable) not in tensors, f"{path}: {layer} {variable} twice"
            tensors[layer, variable] = values
    return KINDS[kind], names, tensors


def save(model, layout, path):
    if layout == "weights.h5":
        model.save_weights(path)
    else:  # what Keras 2's save_weights and the published files hold
        with h5py.File(path, "w") as f:
            legacy_h5_format.save_weights_to_hdf5_group(f, model)


def assert_same(got, want, what):
    assert got.keys() == want.keys(), f"{what}: {sorted(got.keys() ^ want.keys())[:4]}"
    for key in want:
        assert got[key].shape == want[key].shape, f"{what}: {key}: {got[key].shape}"
        assert np.array_equal(got[key], want[key]), f"{what}: {key} differs"


def check_reading():
    for make, layout in itertools.product((base, flat, sequential, nested), ("h5", "weights.h5")):
        model = make()
        randomize(model, 1)
        path = os.path.join(DIRECTORY, f"{make.__name__}.{layout}")
        save(model, layout, path)
        kind, _, tensors = read_with_dft(path)
        assert kind == layout, f"{path}: taken for {kind}"
        assert_same(tensors, tensors_of(model), f"dft reads {path}")
        print(f"ok: dft reads {make.__name__}.{layout}, {len(tensors)} tensors")
    model = flat()
    randomize(model, 2)
    path = os.path.join(DIRECTORY, "whole.h5")
    model.save(path)  # the whole model: /model_weights, and an optimizer's place
    assert_same(read_with_dft(path)[2], tensors_of(model), "dft reads model.save's file")
    print("ok: dft reads model.save's .h5")


def without_names(path):
    """A `.weights.h5` as Keras 2 and early Keras 3 wrote it: by class and number only."""
    def strip(_, o):  # returns None: goes on
        if "name" in o.attrs:
            del o.attrs["name"]

    with h5py.File(path, "a") as f:
        f.visititems(strip)


def with_other_names(path):
    """A published file whose layers are named as nobody names them."""
    with h5py.File(path, "a") as f:
        names = [n if isinstance(n, str) else n.decode() for n in f.attrs["layer_names"]]
        for i, name in enumerate(names):
            f.move(name, f"some_layer_{i}")
        f.attrs["layer_names"] = [f"some_layer_{i}" for i in range(len(names))]


def check_binding():
    for make, layout, change in itertools.product(
            (flat, sequential), ("h5", "weights.h5"), (None, "other names")):
        model = make()
        randomize(model, 4)
        path = os.path.join(DIRECTORY, f"bind_{make.__name__}.{layout}")
        save(model, layout, path)
        if change and layout == "weights.h5":
            without_names(path)
        elif change and make is sequential:
            continue  # there the names are inside weight_names
        elif change:
            with_other_names(path)
        assert_same(read_with_dft(path, bind=True)[2], tensors_of(model), f"dft's model binds {path}")
    layers = os.path.join(DIRECTORY, "model.txt")
    subprocess.run([TOOL, "layers", str(ALPHA), str(SIZE), str(CLASSES), layers], check=True)
    want = [f"{l.name} {type(l).__name__}" for l in flat().layers]
    got = open(layers).read().split("\n")[:-1]
    assert got == want, f"dft's layers are not Keras': {set(got) ^ set(want)}"
    print("ok: dft's model binds them, and has Keras' layers")


def export(model, layout, name):
    """dft's own file with `model`'s weights and layers."""
    source = os.path.join(DIRECTORY, "source.weights.h5")
    layers = os.path.join(DIRECTORY, "layers.txt")
    out = os.path.join(DIRECTORY, f"{name}.{layout}")
    model.save_weights(source)
    with open(layers, "w") as f:
        f.writelines(f"{l.name} {type(l).__name__}\n" for l in model.layers)
    subprocess.run([TOOL, "write", layout, source, layers, out], check=True)
    return out


def check_loading(path, make, want, **how):
    model = make()
    randomize(model, 9)
    model.load_weights(path, **how)
    got = tensors_of(model)
    assert_same(got, {key: want[key] for key in got}, f"Keras loads {path} into {make.__name__}")
    print(f"ok: Keras loads {os.path.basename(path)} into {make.__name__} {how or ''}")


def check_writing():
    for make in (flat, base):
        model = make()
        randomize(model, 3)
        want = tensors_of(model)
        name = f"dft_{make.__name__}"
        h5 = export(model, "h5", name)
        v3 = export(model, "weights.h5", name)
        assert_same(read_with_dft(h5)[2], want, "dft reads its own .h5")
        assert_same(read_with_dft(v3)[2], want, "dft reads its own .weights.h5")
        check_loading(h5, make, want)
        check_loading(h5, make, want, by_name=True)
        check_loading(h5, base, want, by_name=True)
        check_loading(v3, base, want)
        if make is flat:
            for target in (flat_dropout, own_pooling):
                check_loading(h5, target, want)
            for target in (flat, flat_dropout, own_pooling, sequential, sequential_dropout, nested):
                check_loading(v3, target, want)


check_reading()
check_binding()
check_writing()
