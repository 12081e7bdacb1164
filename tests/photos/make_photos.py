#!/usr/bin/env python3
"""Writes Fashion-MNIST images as people's photos lie around: make_photos.py OUT TRAIN_PER_CLASS VALIDATION_PER_CLASS

OUT/train and OUT/validation hold a folder per class (three of them, with a sub-folder, names whose order is not
the labels' order, endings in capitals) of PNG, BMP, TIFF, WebP and GIF files, all lossless, in colour and grey.
OUT/train-images.npy, train-labels.npy, validation-...: the same pixels in the order of dft's image_folder.
The encoder is Pillow: not what dft decodes with.
"""
import gzip
import os
import struct
import sys

from PIL import Image

SOURCE = "/usr/share/datasets/fashion-mnist/"
# Sorted by bytes, as Keras sorts: capitals before small letters.
CLASSES = [("Ankle boot", 9), ("Trouser", 1), ("bag", 8)]
KINDS = [("png", {}), ("PNG", {}), ("bmp", {}), ("tif", {"compression": "tiff_lzw"}), ("webp", {"lossless": True}), ("gif", {})]


def read(name):
    data = gzip.open(SOURCE + name).read()
    dims = data[3]
    return data[4 + 4 * dims :]


def pixels(images, index):
    """28x28 grey, tinted by rows in every second image so that colour matters; bytes of RGB."""
    grey = images[784 * index : 784 * (index + 1)]
    if index % 2 == 0:
        return b"".join(bytes((v, v, v)) for v in grey), True
    return b"".join(bytes((v, v // 2, 255 - v)) for v in grey), False


def write_npy(path, kind, shape, data):
    head = "{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind, shape)
    head += " " * (-(11 + len(head)) % 64) + "\n"
    with open(path, "wb") as f:
        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + data)


def write_split(out, split, file, per_class):
    images, labels = read(file + "-images-idx3-ubyte.gz"), read(file + "-labels-idx1-ubyte.gz")
    all_pixels, all_labels = [], []
    for number, (name, label) in enumerate(CLASSES):
        chosen = [i for i, l in enumerate(labels) if l == label][:per_class]
        listed = []
        for k, index in enumerate(chosen):
            rgb, grey = pixels(images, index)
            ending, options = KINDS[k % len(KINDS)]
            if ending == "gif" and not grey:  # at most 256 colours
                ending, options = "png", {}
            directory = os.path.join(name, "more") if k % 5 == 4 else name
            file_name = "%d.%s" % (index, ending)
            os.makedirs(os.path.join(out, split, directory), exist_ok=True)
            image = Image.frombytes("RGB", (28, 28), rgb)
            image.convert("L" if grey and ending != "webp" else "RGB").save(os.path.join(out, split, directory, file_name), **options)
            listed.append((directory, file_name, rgb))
        # The folder's order: directories by path, then names, byte by byte.
        listed.sort(key=lambda x: (x[0].encode(), x[1].encode()))
        all_pixels += [x[2] for x in listed]
        all_labels += [number] * len(listed)
    n = len(all_labels)
    write_npy(os.path.join(out, split + "-images.npy"), "|u1", "(%d, 28, 28, 3)" % n, b"".join(all_pixels))
    write_npy(os.path.join(out, split + "-labels.npy"), "|u1", "(%d,)" % n, bytes(all_labels))


def main():
    out, train, validation = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    write_split(out, "train", "train", train)
    write_split(out, "validation", "t10k", validation)


main()
