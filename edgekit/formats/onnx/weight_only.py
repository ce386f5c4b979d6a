"""Model without integer activations -> ONNX: weights as codes, read by kernels where ONNX Runtime has them.

Linear layers become MatMulNBits (groups) or DynamicQuantizeLinear + MatMulInteger (dynamic, one scale per channel), and
an `nn.LSTM` with dynamic activations DynamicQuantizeLSTM. All other codes make the file smaller and nothing else: ONNX
Runtime turns them into float32 once, when it loads the file.
"""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from torch import fx

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.weight_only import (
    Rounding,
    affine_rounding,
    decode_weights,
    group_rounding,
    round_inputs,
    stored_layers,
)
from edgekit.formats.conventions.witness import Witness
from edgekit.formats.files import Preprocesses, describe_tensors, write_artifact
from edgekit.formats.onnx.code_nodes import (
    MICROSOFT,
    Parts,
    decode,
    matmul_integer,
    matmul_nbits,
    needed_opset,
    quantise_dynamically,
)
from edgekit.formats.onnx.export import to_onnx
from edgekit.formats.onnx.fused import optimised_graph
from edgekit.formats.onnx.half import in_half_precision
from edgekit.formats.onnx.lstm import quantise_lstms
from edgekit.nets.graph import LINEAR
from edgekit.nets.lstm import lstm_weights
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import QuantisationTable, WeightCodes
from edgekit.schema.manifest import ArtifactRow, InFloat
from edgekit.schema.recipe import Export, FormatName
from edgekit.schema.scheme import precision_of

logger = logging.getLogger(__name__)
_PRODUCTS = ("MatMul", "Gemm")


@dataclass(frozen=True)
class _Found:
    """A weight as an exported graph has it."""

    name: str
    codes: WeightCodes
    transposed: bool


def export_weight_only(
    model: Model,
    convention: str,
    folder: Path,
    stem: str,
    options: Export,
    preprocess: Preprocesses = (),
    format_name: FormatName = "onnx",
) -> Artifact:
    """Write `folder/stem.onnx` of a model whose table has no integer activations.

    Raises:
        FormatError: TensorRT is asked for; activations are minifloats; an operator has no ONNX form; or a check fails.
    """
    import onnxruntime

    table = model.table
    assert table is not None
    if format_name == "tensorrt":
        raise FormatError(
            f"TensorRT files with {_title(table)} are not written",
            f"convention {convention}",
            "use integer activations for it, or drop tensorrt from export.formats; engines are built with fp16 anyway",
        )
    program = trace(model, options.samples)
    rows = decode_weights(program, table)
    opset = max(options.opset, *(needed_opset(weight.number) for weight in table.weights.values()))
    if opset != options.opset:
        logger.info("opset %d instead of %d: the first with a type for %s", opset, options.opset, _title(table))
    options = options.model_copy(update={"opset": opset})
    if table.activations == "fp16":
        proto = to_onnx(in_half_precision(program.module), model, options)
        stored: tuple[InFloat, ...] = ()
    else:
        proto = to_onnx(program.module, model, options)
        recurrent = quantise_lstms(proto.graph, lstm_weights(program), table)
        stored = (*store_codes(proto, program, table), *recurrent)
    path = write_artifact(folder / f"{stem}.onnx", proto.SerializeToString(deterministic=True))
    fused, in_float = optimised_graph(path.path)
    inputs, outputs = describe_tensors(model, options.samples, preprocess)
    row = ArtifactRow(
        format=format_name,
        convention=convention,
        path=path.path.name,
        sha256=path.sha256,
        size_bytes=path.size_bytes,
        precision=precision_of(next(iter(table.weights.values())).number, table.activations),
        inputs=inputs,
        outputs=outputs,
        quantisation=rows,
        fused=fused,
        fused_by=f"onnxruntime {onnxruntime.__version__} on {platform.machine()}",
        in_float=in_float if table.activations == "fp16" else stored,
    )
    if table.activations == "dynamic":
        _round_inputs(program, table)
    return Artifact(folder, row, Witness(program.module))


def store_codes(model: onnx.ModelProto, program: Program, table: QuantisationTable) -> tuple[InFloat, ...]:
    """Put codes in place of the weights of an exported program, which are found by what they contain.

    Returns:
        The layers that compute with float32 weights, since their codes are read by no kernel.

    Raises:
        FormatError: a weight is not in the graph, or the graph is refused.
    """
    graph = model.graph
    known = _known(program, table)
    in_float: dict[str, InFloat] = {}
    met: set[str] = set()
    quantised: set[str] = set()
    for tensor in list(graph.initializer):
        found = known.get(_content(numpy_helper.to_array(tensor)))
        if found is None or tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        met.add(found.name)
        left = []
        for node in [n for n in graph.node if tensor.name in n.input]:
            parts = _kernel(node, tensor.name, found, table, quantised)
            if parts is None:
                left.append(node)
            else:
                _replace(graph, node, parts)
        if left:
            parts = Parts()
            decode(parts, tensor.name, found.codes, tensor.name, found.transposed)
            _insert(graph, 0, parts)
            in_float[found.name] = InFloat(
                node=found.name,
                op=left[0].op_type,
                reason=f"its {found.codes.number} weights are turned into float32 when the file is loaded",
            )
        graph.initializer.remove(tensor)
    missing = {found.name for found in known.values()} - met
    if missing:
        raise FormatError(
            f"the exporter changed the weight {min(missing)!r}, so that its codes fit no longer",
            f"opset {model.opset_import[0].version}",
            "report this with the network",
        )
    if any(node.domain == MICROSOFT for node in graph.node):
        model.opset_import.append(onnx.helper.make_opsetid(MICROSOFT, 1))
    onnx.checker.check_model(model, full_check=True)
    return tuple(in_float.values())


def _known(program: Program, table: QuantisationTable) -> dict[tuple[tuple[int, ...], bytes], _Found]:
    known = {}
    for node in stored_layers(program, table).values():
        name = program.weight_name(node)
        values = table.weights[name].values().numpy()
        if node.target in LINEAR:
            known[_content(values.T)] = _Found(name, table.weights[name], transposed=True)
        known[_content(values)] = _Found(name, table.weights[name], transposed=False)
    return known


def _content(values: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return values.shape, np.ascontiguousarray(values).tobytes()


def _kernel(
    node: onnx.NodeProto, weight: str, found: _Found, table: QuantisationTable, quantised: set[str]
) -> Parts | None:
    """The nodes that read codes in place of a matrix product; None where the runtime has no kernel for them.

    Args:
        weight: name of the float initialiser.
        quantised: activations that have dynamic codes already; added to.
    """
    dynamic = table.activations == "dynamic"
    if node.op_type not in _PRODUCTS or node.input[1] != weight or found.codes.codes.dim() != 2:
        return None
    source, output, parts = node.input[0], node.output[0], Parts()
    bias = node.input[2] if len(node.input) > 2 else ""
    if found.codes.group is not None:
        matmul_nbits(parts, output, found.codes, source, bias, output, integer=dynamic)
    elif dynamic:
        if source not in quantised:
            quantise_dynamically(parts, source)
            quantised.add(source)
        matmul_integer(parts, output, found.codes, source, bias, output)
    else:
        return None
    return parts


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, parts: Parts) -> None:
    index = list(graph.node).index(node)
    del graph.node[index]
    _insert(graph, index, parts)


def _insert(graph: onnx.GraphProto, index: int, parts: Parts) -> None:
    for offset, new in enumerate(parts.nodes):
        graph.node.insert(index + offset, new)
    graph.initializer.extend(parts.initializers)


def _round_inputs(program: Program, table: QuantisationTable) -> None:
    """What ONNX Runtime does to the inputs of dynamic layers: a grid of the whole tensor, or one of each group."""
    roundings: dict[fx.Node, Rounding] = {}
    for node in stored_layers(program, table).values():
        if node.target in LINEAR:
            group = table.weights[program.weight_name(node)].group
            roundings[node] = affine_rounding(None) if group is None else group_rounding(group)
    round_inputs(program.module, roundings)


def _title(table: QuantisationTable) -> str:
    number = next(iter(table.weights.values())).number
    return f"{number} weights and {table.activations} activations"
