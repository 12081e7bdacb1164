#!/usr/bin/env python3
"""Writes the seeds of idx and npy into the folders beside this file. Needs numpy."""
import gzip
import pathlib
import struct

import numpy as np

here = pathlib.Path(__file__).parent


def idx(a):
    return bytes([0, 0, 8, a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.tobytes()


def put(name, data):
    (here / name).write_bytes(data)


grey = np.arange(6 * 2 * 3, dtype=np.uint8).reshape(6, 3, 2)
labels = np.arange(6, dtype=np.uint8)
put("idx/grey.idx", idx(grey))
put("idx/rgb.idx", idx(grey.reshape(2, 2, 3, 3)))
put("idx/labels.idx", idx(labels))
put("idx/grey.idx.gz", gzip.compress(idx(grey), mtime=0))
put("idx/labels.idx.gz", gzip.compress(idx(labels), mtime=0))
put("idx/truncated.idx", idx(grey)[:-3])
put("idx/huge.idx", bytes([0, 0, 8, 4]) + b"\xff" * 16)

for name, array in {
    "grey_u1": grey,
    "rgb_f4": grey.reshape(2, 2, 3, 3).astype("<f4") / 4,
    "one_image": grey.reshape(6, 2, 3),
    "one_channel_u1": grey[..., None],
    "labels_i8": labels.astype("<i8"),
    "labels_column_u2": labels.astype("<u2")[:, None],
    "one_hot_f8": np.eye(6)[::-1],
    "one_hot_u1": np.eye(3, dtype=np.uint8),
    "fortran": np.asfortranarray(np.ones((3, 4), np.uint8)),
    "big_endian": grey.astype(">f4"),
    "empty": grey[:0],
}.items():
    np.save(here / "npy" / f"{name}.npy", array)
for version in (2, 3):
    with open(here / "npy" / f"version{version}.npy", "wb") as f:
        np.lib.format.write_array(f, grey, version=(version, 0))
put("npy/truncated.npy", (here / "npy/grey_u1.npy").read_bytes()[:-5])
put("npy/grey.npy.gz", gzip.compress((here / "npy/grey_u1.npy").read_bytes(), mtime=0))
