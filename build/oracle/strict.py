"""Loads safetensors files into the reference models, strictly, and runs them.

For each line of standard input, an object

    {"model": ..., "args": [...], "kwargs": {...}, "mean": [...], "std": [...],
     "file": ..., "x": ..., "shape": [N,C,H,W], "want": ...}

the model of models.py of that name takes the weights with
load_state_dict(strict=True), and its logits for the float32 values of the file x
are compared with those of the file want. One line is the answer: the largest
difference, or an error. The files are read here, without a library, as the
format's text says.
"""

import json
import struct
import sys

import numpy as np
import torch

import models

TYPES = {"F32": torch.float32, "I64": torch.int64}


def load_file(path):
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(size)), f.read()
    assert header.pop("__metadata__")["format"] == "pt"
    out = {}
    for name, t in header.items():
        begin, end = t["data_offsets"]
        out[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=TYPES[t["dtype"]]).reshape(t["shape"])
    return out


def run(case):
    net = getattr(models, case["model"])(*case["args"], **case["kwargs"])
    net.load_state_dict(load_file(case["file"]), strict=True)
    net.float().eval()
    x = torch.from_numpy(np.fromfile(case["x"], "<f4").reshape(case["shape"]))
    if case["mean"]:
        x = models.Normalize(case["mean"], case["std"]).float()(x)
    with torch.no_grad():
        got = net(x)
    want = torch.from_numpy(np.fromfile(case["want"], "<f4").reshape(got.shape))
    return {"difference": (got - want).abs().max().item(), "largest": want.abs().max().item()}


for line in sys.stdin:
    try:
        answer = run(json.loads(line))
    except Exception as err:  # the test says which file it was
        answer = {"error": f"{type(err).__name__}: {err}"}
    print(json.dumps(answer), flush=True)
