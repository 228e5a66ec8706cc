"""Prints, as JSON, what TensorBoard's own reader finds in the folder argv[1]:
scalars {tag: [[step, value], ...]}, images {tag: [[step, width, height, pixel]]},
histograms {tag: [[step, min, max, num, sum, sum_squares, [bucket, ...]]]}.
Not a number, which JSON has not, is "nan".
"""

import io
import json
import sys

from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

reader = event_accumulator.EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "histograms": 0})
reader.Reload()
tags = reader.Tags()


def number(v):
    return v if v == v and abs(v) != float("inf") else str(v)


def image(e):
    pixel = Image.open(io.BytesIO(e.encoded_image_string)).convert("RGBA").getpixel((1, 0))
    return [e.step, e.width, e.height, list(pixel)]


def histogram(e):
    h = e.histogram_value
    return [e.step, h.min, h.max, h.num, h.sum, h.sum_squares, list(h.bucket)]


print(json.dumps({
    "scalars": {t: [[e.step, number(e.value)] for e in reader.Scalars(t)] for t in tags["scalars"]},
    "images": {t: [image(e) for e in reader.Images(t)] for t in tags["images"]},
    "histograms": {t: [histogram(e) for e in reader.Histograms(t)] for t in tags["histograms"]},
}))
