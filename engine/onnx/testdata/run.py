"""Checks ONNX files and runs them: for each line of standard input, an object

    {"file": ..., "shapes": {input: [...], ...}, "outputs": {name: path, ...}}

the file must pass the checker (shapes inferred). It is run on the little-endian
elements in FILE.INPUT of each input, of that shape, and each output goes to its
path likewise. One line is the answer: the declared shapes of inputs and outputs
and the real ones of outputs, or an error.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime

onnxruntime.set_default_logger_severity(3)

TYPES = {"float": "<f4", "double": "<f8", "int32": "<i4", "uint32": "<u4", "uint8": "u1", "bool": "?"}


def run(case):
    onnx.checker.check_model(case["file"], full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(case["file"], options, providers=["CPUExecutionProvider"])
    feed = {}
    for i in session.get_inputs():
        element = TYPES[i.type.removeprefix("tensor(").removesuffix(")")]
        feed[i.name] = np.fromfile(f"{case['file']}.{i.name}", element).reshape(case["shapes"][i.name])
    names = [o.name for o in session.get_outputs()]
    assert sorted(names) == sorted(case["outputs"]), names
    shapes = {}
    for name, value in zip(names, session.run(names, feed)):
        value.tofile(case["outputs"][name])
        shapes[name] = list(value.shape)
    declared = {v.name: v.shape for v in [*session.get_inputs(), *session.get_outputs()]}
    return {"declared": declared, "shapes": shapes}


for line in sys.stdin:
    try:
        answer = run(json.loads(line))
    except Exception as err:  # the test says which file it was
        answer = {"error": f"{type(err).__name__}: {err}"}
    print(json.dumps(answer), flush=True)
