#!/usr/bin/env python3
"""Writes tests/golden/augment_keras_goldens.h (with keras on tensorflow) or augment_torchvision_goldens.h.

    python3 tests/golden/make_augment_goldens.py keras > tests/golden/augment_keras_goldens.h
    python3 tests/golden/make_augment_goldens.py torchvision > tests/golden/augment_torchvision_goldens.h

The image is 33 x 40; value i of it is (i * 2654435761 mod 2^32) >> 24, which both sides compute. Of each result every
STEP-th value is written. Layers are given ranges of one point, so that nothing is random.
"""
import math
import sys
import numpy as np

H, W, STEP = 33, 40, 17
i = np.arange(H * W * 3, dtype=np.uint64)
IMAGE = ((i * 2654435761 % 2**32) >> 24).astype(np.float32).reshape(H, W, 3)


def compose(*maps):
    """The map that shows the image through maps[0], then maps[1], ...: each is output position -> input position."""
    product = np.eye(3)
    for m in maps:
        product = product @ np.vstack([np.reshape(m, (2, 3)), [0, 0, 1]])
    return np.append(product[:2].reshape(-1), [0, 0])


def rotation(turns):
    c, s, x, y = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns), (W - 1) / 2, (H - 1) / 2
    return [c, -s, x - c * x + s * y, s, c, y - s * x - c * y]


def zoom(factor):
    z = 1 + factor
    return [z, 0, (W - 1) / 2 * (1 - z), 0, z, (H - 1) / 2 * (1 - z)]


def translation(fraction):
    return [1, 0, -fraction * W, 0, 1, -fraction * H]


def keras_cases():
    import keras
    assert keras.backend.backend() == "tensorflow"
    layers, affine = keras.layers, keras.ops.image.affine_transform
    print(f"/* Made by make_augment_goldens.py with Keras {keras.__version__}. */")
    call = lambda layer: layer(IMAGE, training=True)
    for mode in "reflect", "constant", "nearest", "wrap":
        fill = {"fill_mode": mode, "fill_value": 77.0}
        yaml = f"fill_mode: {mode}, fill_value: 77"
        yield f"rotation: [0.11, 0.11], {yaml}", call(layers.RandomRotation((0.11, 0.11), **fill))
        yield f"zoom: [0.31, 0.31], {yaml}", call(layers.RandomZoom((0.31, 0.31), **fill))
        yield f"zoom: [-0.43, -0.43], {yaml}", call(layers.RandomZoom((-0.43, -0.43), **fill))
        yield f"translation: [0.23, 0.23], {yaml}", call(layers.RandomTranslation((0.23, 0.23), (0.23, 0.23), **fill))
        yield f"translation: [-0.87, -0.87], {yaml}", call(layers.RandomTranslation((-0.87, -0.87), (-0.87, -0.87), **fill))
        three = compose(rotation(-0.07), zoom(0.6), translation(0.13))
        yield (f"rotation: [-0.07, -0.07], zoom: [0.6, 0.6], translation: [0.13, 0.13], {yaml}",
               affine(IMAGE, three.astype(np.float32), interpolation="bilinear", **fill))
    yield "brightness: [0.3, 0.3]", call(layers.RandomBrightness((0.3, 0.3)))
    yield "brightness: [-0.6, -0.6]", call(layers.RandomBrightness((-0.6, -0.6)))
    # (lower, upper) gives factors from 1 - lower to 1 + upper
    yield "contrast: [0.4, 0.4]", call(layers.RandomContrast((-0.4, 0.4)))
    yield "brightness: [0.1, 0.1], contrast: [0.4, 0.4]", layers.RandomContrast((-0.4, 0.4))(
        call(layers.RandomBrightness((0.1, 0.1))), training=True)
    unit = lambda layer: layer(IMAGE / 255, training=True)
    yield "brightness: [0.3, 0.3], value_range: [0, 1]", unit(layers.RandomBrightness((0.3, 0.3), value_range=(0, 1)))
    yield "contrast: [0.9, 0.9], value_range: [0, 1]", unit(layers.RandomContrast((-0.9, 0.9), value_range=(0, 1)))


def torchvision_cases():
    import torch
    import torchvision
    import torchvision.transforms.functional as F
    from torchvision.transforms.autoaugment import _apply_op
    print(f"/* Made by make_augment_goldens.py with torchvision {torchvision.__version__}. */")
    byte = torch.from_numpy(IMAGE.transpose(2, 0, 1).copy()).to(torch.uint8)
    real = byte.to(torch.float32) / 255
    back = lambda t: (t.numpy() * (255 if t.dtype == torch.float32 else 1)).astype(np.float32).transpose(1, 2, 0)
    names = {"ShearX": 0.3, "ShearY": 0.3, "TranslateX": 150 / 331 * W, "TranslateY": 150 / 331 * H, "Rotate": 30.0,
             "Brightness": 0.9, "Color": 0.9, "Contrast": 0.9, "Sharpness": 0.9}
    apply = lambda image, name, m: back(_apply_op(image, name, m, F.InterpolationMode.BILINEAR, [0.0, 0.0, 0.0]))
    upper = lambda name: "".join("_" + c if c.isupper() else c.upper() for c in name)[1:]
    for name, most in names.items():
        for strength in 0.3, -1.0:
            yield f"DFT_RAND_{upper(name)}, {strength}", apply(real, name, most * strength)
    for strength in 0.3, 1.0:
        yield f"DFT_RAND_POSTERIZE, {strength}", apply(byte, "Posterize", 8 - round(4 * strength))
        yield f"DFT_RAND_SOLARIZE, {strength}", apply(byte, "Solarize", 255 - 255 * strength)
    dark = torch.div(byte, 3, rounding_mode="floor")
    yield "DFT_RAND_AUTO_CONTRAST, 0, .third = true", apply(dark.to(torch.float32) / 255, "AutoContrast", 0)
    yield "DFT_RAND_EQUALIZE, 0", apply(byte, "Equalize", 0)
    yield "DFT_RAND_EQUALIZE, 0, .third = true", apply(dark, "Equalize", 0)
    yield "DFT_RAND_IDENTITY, 0.3", apply(byte, "Identity", 0)


which = sys.argv[1]
cases = list({"keras": keras_cases, "torchvision": torchvision_cases}[which]())
print("/* clang-format off */")
for k, (_, result) in enumerate(cases):
    values = np.asarray(result, np.float32).reshape(-1)[::STEP]
    print(f"static const float {which}_{k}[] = {{")
    for at in range(0, len(values), 12):
        print("  " + ", ".join(f"{v:.7g}" for v in values[at:at + 12]) + ",")
    print("};")
what = "const char *config;" if which == "keras" else "dft_rand_op op;\n  double strength;\n  bool third; /* of an image of a third of the brightness */"
print(f"static const struct {which}_golden {{\n  {what}\n  const float *values;\n}} {which}_goldens[] = {{")
for k, (case, _) in enumerate(cases):
    print(f'  {{"data.augment={{{case}}}", {which}_{k}}},' if which == "keras" else f"  {{{case}, .values = {which}_{k}}},")
print("};")
print(f"enum {{ {which.upper()}_HEIGHT = {H}, {which.upper()}_WIDTH = {W}, {which.upper()}_STEP = {STEP} }};")
print("/* clang-format on */")
