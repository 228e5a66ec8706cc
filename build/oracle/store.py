"""The safetensors container, written and read by hand.

A file is an 8-byte little-endian header length, a JSON header padded with
spaces to a multiple of 8, then the tensors' bytes in the header's order.
"""

import json
import os
import struct

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U8": "|u1"}
CODES = {np.dtype(numpy_name): code for code, numpy_name in DTYPES.items()}


def write(path, tensors, settings):
    """Write {name: array} and a JSON-able settings object; replaces path in one step."""
    header = {"__metadata__": {"settings": json.dumps(settings, sort_keys=True)}}
    chunks, offset = [], 0
    for name, array in tensors.items():
        array = np.asarray(array)
        data = array.tobytes()  # C order, also for a transposed array
        header[name] = {
            "dtype": CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path + ".partial"
    with open(partial, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))
        f.flush()
        os.fsync(f.fileno())
    os.replace(partial, path)


def read(path):
    """Return ({name: array}, settings)."""
    with open(path, "rb") as f:
        blob = f.read()
    (length,) = struct.unpack_from("<Q", blob)
    header = json.loads(blob[8 : 8 + length])
    settings = json.loads(header.pop("__metadata__")["settings"])
    body, tensors = blob[8 + length :], {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(body[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, settings
