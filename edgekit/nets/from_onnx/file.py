"""The .onnx file: read, checked, brought into one form. No torch: a plan reads inputs and digests from here.

Nothing in a file is executed: it is parsed as protocol buffers, and only operators that edgekit knows are carried out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 7
_QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
_FLOAT_MODEL = "give the float model: edgekit quantises it, and proves what that costs"


@dataclass(frozen=True)
class OnnxFile:
    """A checked graph with all its weights in it, functions inlined, every float in 32 bits.

    Attributes:
        opset: of the standard operators.
        where: the file with its recipe key, for messages.
    """

    proto: onnx.ModelProto
    opset: int
    where: str

    @property
    def one_batch(self) -> bool:
        """Whether the file was written for one batch: the first size of its inputs is a number."""
        stored = {tensor.name for tensor in self.proto.graph.initializer}
        inputs = (value for value in self.proto.graph.input if value.name not in stored)
        return all(value.type.tensor_type.shape.dim[0].dim_value > 0 for value in inputs)


def read_onnx(path: Path, where: str) -> OnnxFile:
    """The graph in a file, its weights loaded also where they lie in files beside it.

    Raises:
        ModelError: no such file, damaged, refused by onnx's checker, older than operator set 7, or quantised already.
        MissingExtraError: onnx is not installed.
    """
    onnx = import_onnx(where)
    model = parse(path, where)
    try:
        for tensor in _external(model):
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.ClearField("external_data")
            tensor.data_location = onnx.TensorProto.DEFAULT
    except (OSError, ValueError, onnx.checker.ValidationError) as err:
        raise ModelError(
            f"weights that lie outside the file cannot be read: {_line(err)}", where, "keep both files in one folder"
        ) from err
    return prepare(model, where)


def prepare(model: onnx.ModelProto, where: str) -> OnnxFile:
    """A parsed graph with all its data, checked and brought into one form."""
    import onnx
    import onnx.inliner

    opset = _check(model, where)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _refuse_quantised(model, where)
    _widen(model)
    return OnnxFile(model, opset, where)


def onnx_files(path: Path, where: str) -> tuple[Path, ...]:
    """The file, and those beside it that hold its weights.

    Raises:
        ModelError: it cannot be read, or one of the others is absent.
        MissingExtraError: onnx is not installed.
    """
    model = parse(path, where)
    locations = {entry.value for t in _external(model) for entry in t.external_data if entry.key == "location"}
    files = (path, *(path.parent / location for location in sorted(locations)))
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise ModelError(f"its weights are in {absent[0]}, which is absent", where, "put it beside the file")
    return files


def import_onnx(where: str) -> Any:
    """The onnx package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import onnx
        import onnx.external_data_helper
    except ImportError as err:
        raise MissingExtraError(f"onnx is not installed: {err}", where, "pip install 'edgekit[onnx]'") from err
    return onnx


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: initializers and those in attributes, below subgraphs too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
            yield from _graph_tensors(graph)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of subgraphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for below in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from nodes_of(below)


def parse(path: Path, where: str) -> onnx.ModelProto:
    """A file as protocol buffers, unchecked, without the weights that lie beside it.

    Raises:
        ModelError: no such file, damaged, or weights that lie outside its folder.
        MissingExtraError: onnx is not installed.
    """
    library = import_onnx(where)
    try:
        model: onnx.ModelProto = library.load(str(path), load_external_data=False, format="protobuf")
    except OSError as err:
        raise ModelError(f"the file cannot be read: {err.strerror}", where, "correct model.onnx") from err
    except Exception as err:  # protobuf's DecodeError among them, whose package has no types
        raise ModelError(
            f"the file is damaged, or no ONNX: {_line(err)}", where, "give a file that `onnx.checker` accepts"
        ) from err
    if not model.ir_version or not model.HasField("graph"):
        raise ModelError("the file holds no ONNX graph", where, "give a file that `onnx.checker` accepts")
    for tensor in _external(model):
        for entry in tensor.external_data:
            if entry.key == "location" and not _beside(path, entry.value):
                raise ModelError(
                    f"tensor {tensor.name!r} lies in {entry.value!r}, outside the folder of the file",
                    where,
                    "save the weights in the file, or beside it",
                )
    return model


def _beside(path: Path, location: str) -> bool:
    folder = path.parent.resolve()
    return bool(location) and (folder / location).resolve().is_relative_to(folder)


def _external(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    import onnx

    return [tensor for tensor in tensors_of(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]


def _check(model: onnx.ModelProto, where: str) -> int:
    import onnx

    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    newest = onnx.defs.onnx_opset_version()
    if opset is None:
        raise ModelError("the graph names no set of standard operators", where, "export it with operator set 18")
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelError(
            f"operator set {opset}; {OLDEST_OPSET} to {newest} are read",
            where,
            "export the network again with operator set 18"
            + ("" if opset < OLDEST_OPSET else ", or install a newer onnx"),
        )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as err:
        raise ModelError(
            f"onnx's checker refuses the graph: {_line(err)}", where, "export the network again; the file is not valid"
        ) from err
    return int(opset)


def _refuse_quantised(model: onnx.ModelProto, where: str) -> None:
    for node in nodes_of(model.graph):
        if node.op_type in _QUANTISED or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"the network is quantised already: it has the operator {node.op_type}",
                f"{where}, node {node.name or node.output[0]}",
                _FLOAT_MODEL,
            )


def _widen(model: onnx.ModelProto) -> None:
    """Floats of 16 and 64 bits become float32 in place, in weights, casts, inputs and outputs alike."""
    import numpy as np
    import onnx

    others = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
    for tensor in tensors_of(model):
        if tensor.data_type in others:
            wide = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wide, tensor.name))
    for node in nodes_of(model.graph):
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i in others:
                attribute.i = onnx.TensorProto.FLOAT
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type in others:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def _line(err: Exception) -> str:
    return next((line.strip() for line in str(err).splitlines() if line.strip()), type(err).__name__)[:300]
