"""ONNX files that take any number of samples, made of the same network's files for two and for three.

What differs between the two files is what follows the batch: sizes in shapes, and stored tensors that are repeated once
for each sample. Exactly that becomes symbolic; a difference of another kind is refused by name. Two and three, since a
program of one sample is simplified in ways that hold for no other.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.formats.files import Preprocesses, write_artifact
from edgekit.formats.onnx.fused import optimised_graph
from edgekit.nets.model import Model
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.recipe import Export, FormatName

_NAME = "batch"
_CHECKED = (1, 3, 8)  # samples at once that every file is run with
_FIX = "set export.batch to a number"


def export_free_batch(
    model: Model,
    convention: str,
    folder: Path,
    stem: str,
    options: Export,
    preprocess: Preprocesses,
    format_name: FormatName,
) -> Artifact:
    """Write `folder/stem.onnx` with a batch that is free. Everything that the artifact's row says is of one sample.

    Raises:
        FormatError: something other than sizes differs between batches, or the file gives other answers at another
            batch; and as `export_onnx`.
    """
    from edgekit.formats.onnx.export import export_onnx  # which calls this

    def at(batch: int, place: Path) -> Artifact:
        fixed = options.model_copy(update={"batch": batch})
        return export_onnx(model, convention, place, stem, fixed, preprocess, format_name)

    one = at(1, folder)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as place:
        two, three = (onnx.load(at(batch, Path(place)).path) for batch in (2, 3))
        proto = free_batch(two, three)
        _check(proto, one, model)
    path = write_artifact(one.path, proto.SerializeToString(deterministic=True))
    fused, in_float = optimised_graph(path.path)
    # what the runtime computes in float is a fact of this file, what the convention keeps is one of the network
    kept = tuple(item for item in one.row.in_float if not item.reason.startswith("ONNX Runtime"))
    update = {
        "sha256": path.sha256,
        "size_bytes": path.size_bytes,
        "fused": fused,
        "in_float": one.row.in_float if one.row.computes_in_float else (*kept, *in_float),
        "free_batch": True,
    }
    return replace(one, row=one.row.model_copy(update=update))


def free_batch(two: onnx.ModelProto, three: onnx.ModelProto) -> onnx.ModelProto:
    """The one file of which both are cases.

    Args:
        two, three: of one network, for 2 and for 3 samples.

    Raises:
        FormatError: they differ in an operator, or in a tensor that is neither sizes nor repeated samples.
    """
    made = onnx.ModelProto()
    made.CopyFrom(two)
    graph = made.graph
    nodes = list(zip(two.graph.node, three.graph.node, strict=False))
    different = next((one for one, other in nodes if one != other), None)
    if different is not None or len(two.graph.node) != len(three.graph.node):
        name = different.name or different.output[0] if different is not None else "the graph"
        raise FormatError("it is another operator at another batch", f"onnx, node {name}, export.batch: dynamic", _FIX)
    for ours, theirs in ((graph.input, three.graph.input), (graph.output, three.graph.output)):
        for value, other in zip(ours, theirs, strict=True):
            _free_dimensions(value, other)
    others = {tensor.name: tensor for tensor in three.graph.initializer}
    helpers: list[onnx.NodeProto] = []
    stored: list[onnx.TensorProto] = []
    for tensor in graph.initializer:
        other = others[tensor.name]
        if tensor == other:
            stored.append(tensor)
            continue
        new, more = _following(tensor.name, numpy_helper.to_array(tensor), numpy_helper.to_array(other), graph)
        stored += new
        helpers += more
    if helpers:
        size = helper.make_node("Shape", [graph.input[0].name], [f"{_NAME}.size"], f"{_NAME}.size", start=0, end=1)
        helpers.insert(0, size)
    del graph.initializer[:]
    graph.initializer.extend(stored)
    nodes_of_two = list(graph.node)
    del graph.node[:]
    graph.node.extend([*helpers, *nodes_of_two])
    onnx.checker.check_model(made, full_check=True)
    return made


def _free_dimensions(value: onnx.ValueInfoProto, other: onnx.ValueInfoProto) -> None:
    for ours, theirs in zip(value.type.tensor_type.shape.dim, other.type.tensor_type.shape.dim, strict=True):
        if ours.dim_value == theirs.dim_value:
            continue
        if (ours.dim_value, theirs.dim_value) == (2, 3):
            ours.dim_param = _NAME
        else:  # a multiple of the batch, which ONNX has no word for
            ours.Clear()


def _following(
    name: str, two: NDArray[Any], three: NDArray[Any], graph: onnx.GraphProto
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Stored tensors and operators that make `name` for any batch."""
    if two.shape == three.shape and two.ndim == 1 and np.issubdtype(two.dtype, np.integer):
        times = np.where(two == three, 0, three - two)
        if np.array_equal(2 * times + np.where(times == 0, two, 0), two):
            readers = [node for node in graph.node if name in node.input]
            if all(node.op_type == "Reshape" for node in readers) and (times != 0).sum() == 1 and not (two == -1).any():
                return [numpy_helper.from_array(np.where(times == 0, two, -1).astype(two.dtype), name)], []
            return _sizes(name, two, times)
    longer = (
        [axis for axis, size in enumerate(two.shape) if size != three.shape[axis]] if two.ndim == three.ndim else []
    )
    if len(longer) == 1 and (two.shape[longer[0]], three.shape[longer[0]]) == (2, 3):
        (axis,) = longer
        sample = np.take(two, [0], axis)
        if np.array_equal(np.repeat(sample, 3, axis), three) and np.array_equal(np.repeat(sample, 2, axis), two):
            ones = np.ones(two.ndim, np.int64)
            sizes, nodes = _sizes(f"{name}.sizes", ones, np.eye(two.ndim, dtype=np.int64)[axis])
            repeat = helper.make_node("Expand", [f"{name}.sample", f"{name}.sizes"], [name], f"{name}.repeated")
            return [numpy_helper.from_array(sample, f"{name}.sample"), *sizes], [*nodes, repeat]
    raise FormatError(
        f"the tensor {name} is {two.shape} for 2 samples and {three.shape} for 3, and no size or repetition",
        "onnx, export.batch: dynamic",
        _FIX,
    )


def _sizes(name: str, fixed: NDArray[Any], times: NDArray[Any]) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """A list of sizes, of which some are so many times the batch: times * batch where times is not 0, else fixed."""
    stored, nodes, parts = [], [], []
    for place, (size, factor) in enumerate(zip(fixed.tolist(), times.tolist(), strict=True)):
        part = f"{name}.{place}"
        stored.append(numpy_helper.from_array(np.array([factor or size], np.int64), part))
        if factor:
            nodes.append(helper.make_node("Mul", [f"{_NAME}.size", part], [f"{part}.all"], f"{part}.all"))
        parts.append(f"{part}.all" if factor else part)
    return stored, [*nodes, helper.make_node("Concat", parts, [name], name, axis=0)]


def _check(proto: onnx.ModelProto, one: Artifact, model: Model) -> None:
    """Run it at several batches: the answers are those of the file for one sample.

    Raises:
        FormatError: ONNX Runtime refuses a batch, or other answers come.
    """
    import onnxruntime

    most = max(_CHECKED)
    examples = {spec.name: x.numpy() for spec, x in zip(model.inputs, model.example(most, seed=1), strict=True)}
    where = f"{one.row.path}, export.batch: dynamic"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for content in (one.path.read_bytes(), proto.SerializeToString())
    ]

    def run(session: Any, start: int, stop: int) -> list[NDArray[Any]]:
        return list(session.run(None, {name: array[start:stop] for name, array in examples.items()}))

    apart = [np.concatenate(parts) for parts in zip(*(run(sessions[0], i, i + 1) for i in range(most)), strict=True)]
    for batch in _CHECKED:
        try:
            together = run(sessions[1], 0, batch)
        except Exception as err:  # the runtime raises a class of its own per status code
            raise FormatError(f"it does not run at batch {batch}: {str(err).splitlines()[0]}", where, _FIX) from err
        for wanted, found in zip(apart, together, strict=True):
            if not np.allclose(found, wanted[:batch], rtol=0, atol=_tolerance(wanted, one.row), equal_nan=True):
                raise FormatError(f"it gives other answers at batch {batch} than one by one", where, _FIX)


def _tolerance(wanted: NDArray[Any], row: ArtifactRow) -> float:
    """Kernels sum in another order at another batch; in an integer network that may change a code."""
    if row.computes_in_float:
        return 1e-5 * float(np.abs(wanted).max())
    return 1.5 * float(np.ptp(wanted)) / 255
