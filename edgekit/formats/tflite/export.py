"""Model -> TFLite: full int8 with integer inputs and outputs, or float32. Images are channels-last."""

from __future__ import annotations

import platform
from pathlib import Path

from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.convention import find_convention
from edgekit.formats.conventions.grids import Grid
from edgekit.formats.conventions.lowering import Lowered, lower
from edgekit.formats.conventions.witness import Witness
from edgekit.formats.files import Preprocesses, describe_tensors, write_artifact
from edgekit.formats.tflite.convert import CHANNELS_LAST, convert
from edgekit.formats.tflite.float_layers import marked
from edgekit.formats.tflite.fused import executed_operators
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.recipe import Export
from edgekit.schema.tensors import ArtifactTensor


def export_tflite(
    model: Model, convention: str, folder: Path, stem: str, options: Export, preprocess: Preprocesses = ()
) -> Artifact:
    """Write `folder/stem.tflite`.

    A model with a quantisation table becomes integers from input to output; one without becomes float32.

    Raises:
        MissingExtraError: litert-torch is not installed.
        FormatError: an operator has no TFLite form, or LiteRT refuses the file.
    """
    if model.table is not None and not model.table.integer:
        from edgekit.formats.tflite.weight_only import export_weight_only  # which describes tensors by this file

        return export_weight_only(model, convention, folder, stem, options, preprocess)
    lowered: Lowered | None = None
    if model.table is None:
        module = trace(model, options.samples).module
    else:
        lowered = lower(model, find_convention(convention), options.samples)
        module = lowered.module
    with marked(module, () if lowered is None else lowered.islands) as marks:
        content = convert(module, model, options.samples, integer=lowered is not None)
    import ai_edge_litert

    from edgekit.formats.tflite.rewrite import rewrite  # the schema of the file comes with ai-edge-litert

    content = rewrite(content, [spec.name for spec in model.inputs], [spec.name for spec in model.outputs], marks)
    written = write_artifact(folder / f"{stem}.tflite", content)
    fused, in_float = executed_operators(written.path)
    inputs, outputs = litert_tensors(model, options.samples, preprocess, lowered)
    row = ArtifactRow(
        format="tflite",
        convention=convention,
        path=written.path.name,
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        precision="fp32" if lowered is None else "int8",
        inputs=inputs,
        outputs=outputs,
        quantisation=() if lowered is None else lowered.tensors,
        fused=fused,
        fused_by=f"ai-edge-litert {ai_edge_litert.__version__} on {platform.machine()}",
        in_float=() if lowered is None else (*lowered.in_float, *in_float),
    )
    return Artifact(folder, row, Witness(module, None if lowered is None else find_convention(convention)))


def litert_tensors(
    model: Model, batch: int, preprocess: Preprocesses, lowered: Lowered | None
) -> tuple[tuple[ArtifactTensor, ...], tuple[ArtifactTensor, ...]]:
    """Inputs and outputs as LiteRT sees them: channels-last, and in codes where the program has a grid."""
    inputs, outputs = describe_tensors(model, batch, preprocess)
    grids_in = lowered.inputs if lowered else (None,) * len(inputs)
    grids_out = lowered.outputs if lowered else (None,) * len(outputs)
    return (
        tuple(_as_litert(tensor, grid) for tensor, grid in zip(inputs, grids_in, strict=True)),
        tuple(_as_litert(tensor, grid) for tensor, grid in zip(outputs, grids_out, strict=True)),
    )


def _as_litert(tensor: ArtifactTensor, grid: Grid | None) -> ArtifactTensor:
    update: dict[str, object] = {}
    if tensor.layout in CHANNELS_LAST:
        n, c, h, w = tensor.shape
        update = {"layout": CHANNELS_LAST[tensor.layout], "shape": (n, h, w, c)}
    if tensor.dtype == "int64":  # the converter counts in 32 bits
        update["dtype"] = "int32"
    if grid is not None:
        update |= {"dtype": grid.dtype, "scale": grid.scale, "zero_point": grid.zero_point}
    return tensor.model_copy(update=update)
