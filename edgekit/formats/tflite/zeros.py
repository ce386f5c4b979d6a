"""Zeros among the weights of a TFLite file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.formats.artifact import StoredWeight
from edgekit.formats.tflite.graph import CONVOLUTIONS, Graph, Op

_WEIGHTED = (*CONVOLUTIONS, Op.FULLY_CONNECTED, Op.TRANSPOSE_CONV)
_TYPES: Mapping[int, type[np.generic]] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
}


def stored_weights(path: Path) -> tuple[StoredWeight, ...]:
    """Every weight of a convolution or linear layer that the file holds in whole bytes.

    Weights of edgekit's files are symmetric, so the code 0 stands for 0. No runtime of this format reads 2:4.
    """
    graph = Graph(schema.ModelT.InitFromPackedBuf(path.read_bytes()))
    found: dict[int, StoredWeight] = {}
    for op in graph.sub.operators:
        if graph.kind(op) not in _WEIGHTED:
            continue
        index = int(op.inputs[1])
        maker = graph.maker(index)
        if maker is not None and graph.kind(maker) == Op.DEQUANTIZE:
            index = int(maker.inputs[0])
        tensor = graph.sub.tensors[index]
        dtype = _TYPES.get(tensor.type)
        content = None if dtype is None else graph.data(index, dtype)
        if content is not None:
            found[index] = StoredWeight(
                name=tensor.name.decode(),
                count=math.prod(graph.shape(index)),
                zeros=int((content == 0).sum()),
                value_bytes=content.dtype.itemsize,
                two_of_four=False,
            )
    return tuple(found.values())
