"""What ONNX' and safetensors' own libraries make of exported files; called by test_export.sh.

    export_files.py DIRECTORY NAME...

NAME.onnx, NAME.safetensors and NAME.npy (dft's predictions of x.npy) lie in DIRECTORY.
"""
import json
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors import safe_open

PREPROCESSING = {"mobilenet_v2": lambda x: x / 127.5 - 1, "unit": lambda x: x / 255, "none": lambda x: x}


def check_onnx(path, images, expected):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    x = PREPROCESSING[metadata["preprocessing"]](images).astype(np.float32)
    (got,) = session.run(None, {"image": x})
    worst = np.abs(got - expected).max()
    print(f"{path}: onnxruntime {onnxruntime.__version__} is off by {worst:.2g}; {metadata}")
    assert worst < 1e-6, worst
    return {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}


def check_safetensors(path, tensors):
    with safe_open(path, "np") as file:
        names = json.loads(file.metadata().get("dft_class_names", "[]"))
        keys = set(file.keys())
        assert keys == {k for k in tensors if not k.startswith("relu6/")}, keys ^ set(tensors)
        for key in keys:
            ours, theirs = file.get_tensor(key), tensors[key]
            if ours.ndim == 4:  # [h,w,in,out] or, depthwise, [h,w,c,1]: to [out,in,h,w]
                ours = ours.transpose(3, 2, 0, 1) if "depthwise" not in key else ours.transpose(2, 3, 0, 1)
            assert ours.dtype == np.float32 and np.array_equal(ours, theirs), key
    print(f"{path}: {len(keys)} tensors, classes {names}")


directory = sys.argv[1]
images = np.load(f"{directory}/x.npy")
for name in sys.argv[2:]:
    weights = check_onnx(f"{directory}/{name}.onnx", images, np.load(f"{directory}/{name}.npy"))
    check_safetensors(f"{directory}/{name}.safetensors", weights)
