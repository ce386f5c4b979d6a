"""Runs in NNCF's own environment: `python nncf_onnx.py FLOAT.onnx SAMPLES.npy INT8.onnx INPUT`. NNCF's defaults."""

import json
import sys
import time

import nncf
import numpy as np
import onnx
from memory import Memory


def main(source: str, samples: str, target: str, name: str) -> None:
    """Post-training quantisation with as many samples as there are; the preset is the library's default."""
    inputs = np.load(samples)
    data = nncf.Dataset([{name: inputs[index : index + 1]} for index in range(len(inputs))])
    started, memory = time.perf_counter(), Memory()
    onnx.save(nncf.quantize(onnx.load(source), data, subset_size=len(inputs)), target)
    print(json.dumps({"seconds": time.perf_counter() - started, "peak_rss_mb": memory.grown_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:5])
