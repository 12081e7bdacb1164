#!/usr/bin/env python3
"""Writes the seeds of onnx and safetensors into the folders beside this file, by the formats' own libraries:
the stub of tests/unit/keras_sample.h, which the unit tests expect in them. Needs numpy, onnx, safetensors."""
import pathlib
import zlib

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
BN = ["gamma", "beta", "moving_mean", "moving_variance"]
SAMPLE = {
    "Conv1/kernel": (3, 3, 3, 2),
    **{f"bn_Conv1/{v}": (2,) for v in BN},
    "expanded_conv_depthwise/kernel": (3, 3, 2, 1),
    **{f"expanded_conv_depthwise_BN/{v}": (2,) for v in BN},
    "expanded_conv_project/kernel": (1, 1, 2, 3),
    **{f"expanded_conv_project_BN/{v}": (3,) for v in BN},
    "predictions/kernel": (3, 2),
    "predictions/bias": (2,),
}


def values(name, shape):
    seed = zlib.crc32(name.encode())
    i = np.arange(np.prod(shape), dtype=np.int64)
    return (((seed + 389 * i) % 1024).astype(np.float32) / 512 - 1).reshape(shape)


tensors = {name: values(name, shape) for name, shape in SAMPLE.items()}
(here / "onnx").mkdir(exist_ok=True)
(here / "safetensors").mkdir(exist_ok=True)
save_file(tensors, here / "safetensors/sample.safetensors", {"dft_class_names": '["cat","dog"]', "format": "np"})
save_file({n: t.astype(np.float16) for n, t in tensors.items()}, here / "safetensors/halves.safetensors")
save_file({f"model/{n}:0": t.astype(np.float64) for n, t in tensors.items()} | {"seed": np.arange(2)},
          here / "safetensors/doubles.safetensors")


def to_onnx(name, t):
    if t.ndim == 4:
        return t.transpose(2, 3, 0, 1) if "depthwise" in name else t.transpose(3, 2, 0, 1)
    return t


def node(op, layer, variables, at, **attributes):
    return helper.make_node(op, [at] + [f"{layer}/{v}" for v in variables], [layer], name=layer, **attributes)


def graph(dtype, raw):
    initializers = []
    for name, t in tensors.items():
        t = np.ascontiguousarray(to_onnx(name, t)).astype(helper.tensor_dtype_to_np_dtype(dtype))
        initializers.append(helper.make_tensor(name, dtype, t.shape, t.tobytes() if raw else t.ravel(), raw=raw))
    nodes = [
        node("Conv", "Conv1", ["kernel"], "x", strides=[2, 2], pads=[0, 0, 1, 1]),
        node("BatchNormalization", "bn_Conv1", BN, "Conv1", epsilon=1e-3),
        node("Conv", "expanded_conv_depthwise", ["kernel"], "bn_Conv1", group=2, pads=[1, 1, 1, 1]),
        node("BatchNormalization", "expanded_conv_depthwise_BN", BN, "expanded_conv_depthwise", epsilon=1e-3),
        node("Conv", "expanded_conv_project", ["kernel"], "expanded_conv_depthwise_BN"),
        node("BatchNormalization", "expanded_conv_project_BN", BN, "expanded_conv_project", epsilon=1e-3),
        helper.make_node("GlobalAveragePool", ["expanded_conv_project_BN"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", "predictions", ["kernel", "bias"], "flat"),
    ]
    x = helper.make_tensor_value_info("x", dtype, ["n", 3, 8, 8])
    y = helper.make_tensor_value_info("predictions", dtype, ["n", 2])
    model = helper.make_model(helper.make_graph(nodes, "sample", [x], [y], initializers),
                              opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"dft_class_names": '["cat","dog"]'})
    return model


for file, dtype, raw in [("sample", TensorProto.FLOAT, True), ("fields", TensorProto.FLOAT, False),
                         ("doubles", TensorProto.DOUBLE, False), ("halves", TensorProto.FLOAT16, True)]:
    onnx.save(graph(dtype, raw), here / f"onnx/{file}.onnx")
