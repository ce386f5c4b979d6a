"""A graph without the numbers of its weights: what is kept beside a model's weights so that it can be made again.

The user's file may change or go; a stored step must not notice. So the graph is stored with the step, and its large
tensors, which are in the step's weights, as one number each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ModelError
from edgekit.nets.from_onnx.file import OnnxFile, import_onnx, prepare, tensors_of
from edgekit.nets.from_onnx.fold import FEW

if TYPE_CHECKING:
    import onnx

_MARK = "edgekit: every number is "
_OTHER = 0.5  # in place of numbers that differ: no layer is chosen by what it is, but by whether all are 0


def structure_of(file: OnnxFile) -> bytes:
    """The graph as bytes, large float tensors without their numbers."""
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(file.proto)
    for tensor in tensors_of(model):
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size > FEW:
            value = float(array.flat[0]) if (array == array.flat[0]).all() else _OTHER
            dims, name = list(tensor.dims), tensor.name
            tensor.Clear()
            tensor.name, tensor.data_type, tensor.doc_string = name, onnx.TensorProto.FLOAT, f"{_MARK}{value!r}"
            tensor.dims.extend(dims)
    model.producer_name = model.producer_version = model.domain = model.doc_string = ""
    model.ClearField("metadata_props")
    return bytes(model.SerializeToString(deterministic=True))


def read_structure(content: bytes, where: str) -> OnnxFile:
    """The graph that `structure_of` gave the bytes of; its large tensors hold one number throughout.

    Raises:
        ModelError: the bytes are damaged.
    """
    library = import_onnx(where)
    model: onnx.ModelProto = library.ModelProto()
    try:
        model.ParseFromString(content)
        for tensor in tensors_of(model):
            if tensor.doc_string.startswith(_MARK):
                value = float(tensor.doc_string.removeprefix(_MARK))
                tensor.CopyFrom(
                    library.numpy_helper.from_array(np.full(list(tensor.dims), value, np.float32), tensor.name)
                )
    except Exception as err:  # protobuf's DecodeError among them
        raise ModelError(f"is damaged: {err}", where, "build the model again") from err
    return prepare(model, where)
