"""Checks ONNX files and runs them: for each line of standard input, an object

    {"file": ..., "x": ..., "shape": [N,C,H,W], "want": ..., "classes": ...}

the file must pass the checker (shapes inferred), and its "logits" for the
float32 values of x are compared with those of want. One line is the answer:
the largest difference, or an error.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime

onnxruntime.set_default_logger_severity(3)


def run(case):
    onnx.checker.check_model(case["file"], full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(case["file"], options, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["x"], "inputs"
    assert session.get_inputs()[0].shape == ["N"] + case["shape"][1:], session.get_inputs()[0].shape
    assert session.get_outputs()[0].shape == ["N", case["classes"]], session.get_outputs()[0].shape
    x = np.fromfile(case["x"], "<f4").reshape(case["shape"])
    want = np.fromfile(case["want"], "<f4").reshape(len(x), case["classes"])
    (got,) = session.run(["logits"], {"x": x})
    assert got.dtype == np.float32 and got.shape == want.shape, got.shape
    return {"difference": float(np.abs(got - want).max()), "largest": float(np.abs(want).max())}


for line in sys.stdin:
    try:
        answer = run(json.loads(line))
    except Exception as err:  # the test says which file it was
        answer = {"error": f"{type(err).__name__}: {err}"}
    print(json.dumps(answer), flush=True)
