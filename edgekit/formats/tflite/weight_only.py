"""Model without integer activations -> TFLite: weights as codes, for LiteRT's hybrid kernels or unfolded at first."""

from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

from torch import fx

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.weight_only import (
    Rounding,
    affine_rounding,
    decode_weights,
    round_inputs,
    stored_layers,
)
from edgekit.formats.conventions.witness import Witness
from edgekit.formats.files import Preprocesses, write_artifact
from edgekit.formats.tflite.convert import convert
from edgekit.formats.tflite.export import litert_tensors
from edgekit.formats.tflite.fused import executed_operators
from edgekit.nets.graph import LINEAR, conv2d_defaults
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import QuantisationTable, WeightCodes
from edgekit.schema.manifest import ArtifactRow, InFloat
from edgekit.schema.recipe import Export
from edgekit.schema.scheme import precision_of

_NUMBERS = ("int4", "int8", "fp16")


def export_weight_only(
    model: Model, convention: str, folder: Path, stem: str, options: Export, preprocess: Preprocesses = ()
) -> Artifact:
    """Write `folder/stem.tflite` of a model whose table has no integer activations.

    Raises:
        MissingExtraError: litert-torch is not installed.
        FormatError: TFLite has no such weights, an operator has no TFLite form, or LiteRT refuses the file.
    """
    assert model.table is not None
    table = _storable(model.table)
    program = trace(model, options.samples)
    rows = decode_weights(program, table)
    content = convert(program.module, model, options.samples, integer=False)
    import ai_edge_litert

    from edgekit.formats.tflite.rewrite import rewrite  # the schema of the file comes with ai-edge-litert

    content = rewrite(content, [spec.name for spec in model.inputs], [spec.name for spec in model.outputs])
    content, stored = store_codes(content, program, table)
    written = write_artifact(folder / f"{stem}.tflite", content)
    fused, _ = executed_operators(written.path)
    inputs, outputs = litert_tensors(model, options.samples, preprocess, None)
    if table.activations == "dynamic":
        _round_inputs(program, table)
    row = ArtifactRow(
        format="tflite",
        convention=convention,
        path=written.path.name,
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        precision=precision_of(next(iter(table.weights.values())).number, table.activations),
        inputs=inputs,
        outputs=outputs,
        quantisation=rows,
        fused=fused,
        fused_by=f"ai-edge-litert {ai_edge_litert.__version__} on {platform.machine()}",
        in_float=stored,
    )
    return Artifact(folder, row, Witness(program.module))


def store_codes(content: bytes, program: Program, table: QuantisationTable) -> tuple[bytes, tuple[InFloat, ...]]:
    """Put codes in place of the weights of a converted graph, which are found by what they contain.

    Returns:
        The file, and the layers that compute with float32 weights.

    Raises:
        FormatError: a weight is not in the graph.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    from edgekit.formats.tflite.codes import Laid, allow_half_precision, layouts, put_codes

    known: dict[bytes, Laid] = {}
    names = {program.weight_name(node) for node in stored_layers(program, table).values()}
    for name in names:
        known |= layouts(name, table.weights[name])
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    met, in_float = put_codes(model, known, hybrid=table.activations == "dynamic")
    if missing := names - met:
        raise FormatError(
            f"the converter changed the weight {min(missing)!r}, so that its codes fit no longer",
            "format tflite",
            "report this with the network, and drop tflite from export.formats until then",
        )
    if table.activations == "fp16":
        allow_half_precision(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), in_float


def _storable(table: QuantisationTable) -> QuantisationTable:
    """The table as LiteRT takes it: scales of groups are float16 in the file, and bfloat16 in XNNPACK's kernel.

    Raises:
        FormatError: TFLite has no such weights.
    """
    for name, weight in table.weights.items():
        if weight.number not in _NUMBERS:
            raise FormatError(
                f"TFLite has no {weight.number} weights",
                f"weight {name}",
                f"use {', '.join(_NUMBERS)} weights, or drop tflite from export.formats",
            )
        if weight.group is not None and table.activations == "float":
            raise FormatError(
                f"TFLite has no {weight.number} weights in groups beside float activations",
                f"weight {name}",
                "set `activations: dynamic`, leave out group_size, or drop tflite from export.formats",
            )
    weights = {
        name: weight if weight.group is None else replace(weight, scale=weight.scale.bfloat16().half().float())
        for name, weight in table.weights.items()
    }
    return replace(table, weights=weights)


def _round_inputs(program: Program, table: QuantisationTable) -> None:
    """What LiteRT does to the inputs of its hybrid kernels: a grid for each row, each image, or each pixel."""
    from edgekit.formats.tflite.codes import in_blocks

    roundings: dict[fx.Node, Rounding] = {}
    for node in stored_layers(program, table).values():
        weight = table.weights[program.weight_name(node)]
        if weight.group is None or in_blocks(weight):
            roundings[node] = affine_rounding(_sharing(node, weight))
    round_inputs(program.module, roundings)


def _sharing(node: fx.Node, weight: WeightCodes) -> tuple[int, ...]:
    """Axes of a layer's input that share a grid."""
    if node.target in LINEAR:
        return (-1,)
    if weight.codes.dim() == 4 and weight.number == "int8" and _is_pointwise(node, weight):
        return (1,)  # XNNPACK computes it as a linear layer over the pixels
    return tuple(range(1 - weight.codes.dim(), 0))


def _is_pointwise(node: fx.Node, weight: WeightCodes) -> bool:
    """A 1x1 convolution that reads every pixel once."""
    _, _, _, stride, padding, _, groups = conv2d_defaults(node)
    plain = stride == [1, 1] and padding == [0, 0] and groups == 1
    return plain and weight.codes.shape[2:] == (1, 1)
