"""An .onnx or .tflite file of anyone's, described by what it says of itself: enough to feed it and to measure it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from edgekit.errors import FormatError, SchemaError
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.scheme import ArtifactPrecision
from edgekit.schema.tensors import LAYOUT_BY_RANK, ArtifactTensor, DType, Layout

UNKNOWN_CONVENTION = "not known: the file came without a manifest"
_LAYOUTS: Mapping[str, Mapping[int, Layout]] = {"onnx": LAYOUT_BY_RANK, "tflite": {**LAYOUT_BY_RANK, 4: "NHWC"}}
_FULL_RANGE = 1.0  # of codes whose scale the file does not say: they fill the range of their type all the same


@dataclass(frozen=True)
class _Tensor:
    """One input or output as a file tells it; None in `shape`: not fixed."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scale: float | None = None
    zero_point: int | None = None


def describe_file(
    path: Path, *, batch: int | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> ArtifactRow:
    """What can be said of a file without its manifest: its tensors, its digest, whether it holds integer operators.

    Args:
        path: ends with .onnx or .tflite.
        batch: first axis of inputs whose file leaves it open; None: 1.
        shapes: of inputs whose file leaves more open, by name.

    Raises:
        SchemaError: no such file, another kind of file, or an axis is open and nobody says how long it is.
        FormatError: the file cannot be read.
    """
    readers = {".onnx": _read_onnx, ".tflite": _read_tflite}
    if path.suffix not in readers:
        raise SchemaError(f"no model that can be measured: {path.name}", str(path), "name an .onnx or .tflite file")
    if not path.is_file():
        raise SchemaError("there is no such file", str(path), "name a file that exists")
    inputs, outputs, precision = readers[path.suffix](path)
    if not inputs or not outputs:  # an empty file is a valid ONNX model of nothing
        missing = "input" if not inputs else "output"
        raise FormatError(f"it has no {missing}, so there is nothing to run", str(path), "export it again")
    kind: Literal["onnx", "tflite"] = "onnx" if path.suffix == ".onnx" else "tflite"
    unknown = sorted(set(shapes or {}) - {tensor.name for tensor in inputs})
    if unknown:
        known = ", ".join(tensor.name for tensor in inputs)
        raise SchemaError(f"no input is called {unknown[0]!r}", str(path), f"inputs: {known}")
    content = path.read_bytes()
    return ArtifactRow(
        format=kind,
        convention=UNKNOWN_CONVENTION,
        path=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        precision=precision,
        inputs=tuple(_described(tensor, kind, path, batch, (shapes or {}).get(tensor.name)) for tensor in inputs),
        # shapes of outputs follow from those of inputs; an open axis is told as 1
        outputs=tuple(_described(tensor, kind, path, 1, [size or 1 for size in tensor.shape]) for tensor in outputs),
    )


def _described(
    tensor: _Tensor, kind: str, path: Path, batch: int | None, shape: Sequence[int] | None
) -> ArtifactTensor:
    if tensor.dtype not in get_args(DType):
        raise FormatError(
            f"tensor {tensor.name!r} is of type {tensor.dtype}",
            str(path),
            f"the agent can feed {', '.join(get_args(DType))}",
        )
    own = list(tensor.shape)
    if shape is None and own and own[0] is None:
        own[0] = batch or 1
    sizes = own if shape is None else list(shape)
    fits = len(sizes) == len(own) and all(mine is None or mine == size for mine, size in zip(own, sizes, strict=True))
    if None in sizes or not fits:
        told = "x".join("?" if size is None else str(size) for size in tensor.shape)
        raise SchemaError(
            f"input {tensor.name!r} is {told} in the file" + (f", not {'x'.join(map(str, sizes))}" if shape else ""),
            str(path),
            f"say how long each axis is: --input-shape {tensor.name}:{told.replace('?', '1')}",
        )
    codes = tensor.dtype in ("int8", "uint8")
    return ArtifactTensor(
        name=tensor.name,
        network_name=tensor.name,
        shape=tuple(size for size in sizes if size is not None),
        dtype=tensor.dtype,
        layout=_LAYOUTS[kind].get(len(sizes), "N"),
        scale=(tensor.scale or _FULL_RANGE) if codes else None,
        zero_point=(tensor.zero_point or 0) if codes else None,
    )


def _read_onnx(path: Path) -> tuple[list[_Tensor], list[_Tensor], ArtifactPrecision]:
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as err:  # protobuf's own, of several kinds
        raise FormatError(f"this is no ONNX file: {err}", str(path), "export it again") from err
    if any(constant.data_location == onnx.TensorProto.EXTERNAL for constant in graph.initializer):
        raise FormatError("its weights lie in another file", str(path), "save it with the weights inside")
    constants = {constant.name for constant in graph.initializer}
    inputs = [_onnx_tensor(value) for value in graph.input if value.name not in constants]
    integer = any("QuantizeLinear" in node.op_type or "Integer" in node.op_type for node in graph.node)
    types = {constant.data_type for constant in graph.initializer}
    half = onnx.TensorProto.FLOAT16 in types and onnx.TensorProto.FLOAT not in types
    return inputs, [_onnx_tensor(value) for value in graph.output], "int8" if integer else "fp16" if half else "fp32"


def _onnx_tensor(value: Any) -> _Tensor:
    import onnx

    tensor = value.type.tensor_type
    known = tensor.elem_type in onnx.TensorProto.DataType.values() and tensor.elem_type != onnx.TensorProto.UNDEFINED
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if known else "no tensor"
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    return _Tensor(value.name, dtype, shape)


def _read_tflite(path: Path) -> tuple[list[_Tensor], list[_Tensor], ArtifactPrecision]:
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name.lower() for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise FormatError("this is no TFLite file", str(path), "convert it again")
    try:
        graph = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0]
    except Exception as err:  # whatever a damaged flatbuffer leads to
        raise FormatError(f"this TFLite file cannot be read: {err}", str(path), "convert it again") from err

    def read(index: int) -> _Tensor:
        tensor = graph.tensors[index]
        grid = tensor.quantization
        scales: Sequence[float] = grid.scale if grid is not None and grid.scale is not None else ()
        points: Sequence[int] = grid.zeroPoint if grid is not None and grid.zeroPoint is not None else ()
        return _Tensor(
            tensor.name.decode(),
            names[tensor.type],
            # the interpreter runs the shape that the file was converted with, whatever it says of open axes
            tuple(int(size) for size in (tensor.shape if tensor.shape is not None else ())),
            float(scales[0]) if len(scales) == 1 else None,
            int(points[0]) if len(points) == 1 else None,
        )

    whole = {tensor.type for tensor in graph.tensors}
    integer = schema.TensorType.INT8 in whole or schema.TensorType.UINT8 in whole
    return [read(i) for i in graph.inputs], [read(i) for i in graph.outputs], "int8" if integer else "fp32"
