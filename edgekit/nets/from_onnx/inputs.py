"""Inputs of a graph: as the file has them, and as a recipe declares them. No torch: a plan reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import ModelError
from edgekit.nets.from_onnx.file import parse
from edgekit.schema.tensors import LAYOUT_BY_RANK, DType, InputSpec, Layout

if TYPE_CHECKING:
    import onnx


def onnx_inputs(path: Path, declared: tuple[InputSpec, ...], where: str) -> tuple[InputSpec, ...]:
    """Inputs of a file as the recipe declares them, else as the file says: batch 1 where it leaves the batch open.

    Raises:
        ModelError: the file cannot be read; an input has an open dimension besides the batch, or is declared otherwise
            than the file has it.
    """
    return describe_inputs(parse(path, where), declared, where)


def describe_inputs(model: onnx.ModelProto, declared: tuple[InputSpec, ...], where: str) -> tuple[InputSpec, ...]:
    """The same of a parsed graph."""
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    if not inputs:
        raise ModelError("the graph has no input", where, "export the network with its inputs")
    names = [value.name for value in inputs]
    if declared and sorted(spec.name for spec in declared) != sorted(names):
        raise ModelError(
            f"inputs {', '.join(spec.name for spec in declared)} are declared, and the graph has {', '.join(names)}",
            f"model.inputs; {where}",
            "declare the graph's own names, or leave model.inputs out",
        )
    own = {spec.name: spec for spec in declared}
    return tuple(_describe(value, own.get(value.name), where) for value in inputs)


def _describe(value: onnx.ValueInfoProto, declared: InputSpec | None, where: str) -> InputSpec:
    import onnx

    kind = value.type.tensor_type
    dtypes: dict[int, DType] = {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.FLOAT16: "float32",  # computed in float32
        onnx.TensorProto.BFLOAT16: "float32",
        onnx.TensorProto.DOUBLE: "float32",
        onnx.TensorProto.INT64: "int64",
        onnx.TensorProto.INT32: "int32",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.UINT8: "uint8",
    }
    at = f"{where}, input {value.name}"
    if kind.elem_type not in dtypes or not kind.HasField("shape") or not kind.shape.dim:
        found = "no tensor with a batch" if kind.elem_type in dtypes else "of a type that no network here takes"
        raise ModelError(f"input {value.name!r} is {found}", at, "give inputs of float32, int64 or int32, batch first")
    dims = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim]
    shown = [dim or d.dim_param or "?" for dim, d in zip(dims, kind.shape.dim, strict=True)]
    if declared is not None:
        same = len(declared.shape) == len(dims) and all(
            dim in (None, given) for dim, given in zip(dims[1:], declared.shape[1:], strict=True)
        )
        if not same or declared.dtype != dtypes[kind.elem_type]:
            raise ModelError(
                f"input {value.name!r} is declared {declared.dtype} {list(declared.shape)}, and the graph has "
                f"{dtypes[kind.elem_type]} [{', '.join(map(str, shown))}]",
                f"model.inputs; {where}",
                "declare what the graph has; open dimensions may have any size",
            )
        return declared
    if None in dims[1:]:
        name = value.name
        example = ", ".join(["1", *(str(dim or "...") for dim in dims[1:])])
        raise ModelError(
            f"input {name!r} is [{', '.join(map(str, shown))}]: sizes besides the batch are open",
            at,
            f"fix them: model.inputs: [{{name: {name}, shape: [{example}]}}]",
        )
    shape = (dims[0] or 1, *(dim for dim in dims[1:] if dim is not None))
    dtype = dtypes[kind.elem_type]
    return InputSpec(name=value.name, shape=shape, dtype=dtype, layout=_layout(shape, dtype))


def _layout(shape: tuple[int, ...], dtype: DType) -> Layout:
    """Layout of a batch by its rank; an image has its channels last where only that side can be channels."""
    if len(shape) == 4:
        return "NHWC" if shape[-1] in (1, 3, 4) and shape[1] not in (1, 3, 4) else "NCHW"
    if len(shape) == 2 and dtype != "float32":
        return "NT"
    return LAYOUT_BY_RANK.get(len(shape), "NCHW")
