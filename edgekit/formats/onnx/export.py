"""Model + convention -> ONNX: QDQ with weights stored as integers, or float32."""

from __future__ import annotations

import contextlib
import logging
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import fx

from edgekit.errors import FormatError, MissingExtraError
from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.convention import find_convention
from edgekit.formats.conventions.lowering import Lowered, lower
from edgekit.formats.conventions.witness import Witness
from edgekit.formats.files import Preprocesses, describe_tensors, write_artifact
from edgekit.formats.onnx.constants import fold_masks, share_operands
from edgekit.formats.onnx.float_layers import keep_islands_in_float, keep_layers_in_float
from edgekit.formats.onnx.fused import optimised_graph
from edgekit.formats.onnx.rewrite import clean, declare_wide_codes, fuse_pads, order_gelus, use_global_pools
from edgekit.formats.refusal import refusal
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.recipe import Export, FormatName


def export_onnx(
    model: Model,
    convention: str,
    folder: Path,
    stem: str,
    options: Export,
    preprocess: Preprocesses = (),
    format_name: FormatName = "onnx",
) -> Artifact:
    """Write `folder/stem.onnx`.

    A model with a quantisation table becomes Q/DQ placed by the convention; one without becomes float32. The file is
    checked by onnx's full checker, and by ONNX Runtime, whose optimised graph is counted into `fused`.

    Raises:
        FormatError: an operator has no ONNX form, or a check fails.
    """
    import onnxruntime

    if options.batch == "dynamic":
        from edgekit.formats.onnx.free_batch import export_free_batch  # which calls this

        return export_free_batch(model, convention, folder, stem, options, preprocess, format_name)
    if model.table is not None and not model.table.integer:
        from edgekit.formats.onnx.weight_only import export_weight_only  # which calls `to_onnx` of this file

        return export_weight_only(model, convention, folder, stem, options, preprocess, format_name)
    lowered: Lowered | None = None
    if model.table is None:
        module = trace(model, options.samples).module
    else:
        lowered = lower(model, find_convention(convention), options.samples)
        module = lowered.module
    keeps_floats = lowered is not None and find_convention(convention).takes_up_floats
    if lowered is not None and keeps_floats:
        keep_islands_in_float(module, lowered.islands)
    proto = to_onnx(module, model, options)
    if keeps_floats:
        keep_layers_in_float(proto)
    path = write_artifact(folder / f"{stem}.onnx", proto.SerializeToString(deterministic=True))
    fused, in_float = optimised_graph(path.path)
    inputs, outputs = describe_tensors(model, options.samples, preprocess)
    row = ArtifactRow(
        format=format_name,
        convention=convention,
        path=path.path.name,
        sha256=path.sha256,
        size_bytes=path.size_bytes,
        precision="fp32" if lowered is None else "int8",
        inputs=inputs,
        outputs=outputs,
        quantisation=() if lowered is None else lowered.tensors,
        fused=fused,
        fused_by=f"onnxruntime {onnxruntime.__version__} on {platform.machine()}",
        in_float=() if lowered is None else (*lowered.in_float, *in_float),
    )
    return Artifact(folder, row, Witness(module, None if lowered is None else find_convention(convention)))


def to_onnx(module: fx.GraphModule, model: Model, options: Export) -> onnx.ModelProto:
    """The graph of a program, cleaned and checked.

    Raises:
        FormatError: an operator has no ONNX form, or the checker refuses the graph.
    """
    with _quiet():
        try:
            program = torch.onnx.export(
                module,
                model.example(options.samples),
                dynamo=True,
                # 21 wrote an output_dtype that contradicts a uint8 zero point (torch 2.13), so 18 is the default
                opset_version=options.opset,
                input_names=[spec.name for spec in model.inputs],
                output_names=[spec.name for spec in model.outputs],
                external_data=False,
                verbose=False,
                custom_translation_table=_kept_nodes(module),
            )
        except Exception as err:  # the exporter raises many kinds; the others mean that an operator is not expressible
            if isinstance(err, ImportError) or isinstance(err.__cause__, ImportError):
                missing = err if isinstance(err, ImportError) else err.__cause__
                raise MissingExtraError(
                    f"{getattr(missing, 'name', None) or 'a library'} is not installed: {missing}",
                    "format onnx",
                    "pip install 'edgekit[onnx]'",
                ) from err
            raise refusal(module, model, "onnx", _alone, err) from err
    assert program is not None
    proto = program.model_proto
    clean(proto)
    declare_wide_codes(proto)
    use_global_pools(proto.graph)
    order_gelus(proto.graph)
    fuse_pads(proto.graph)
    fold_masks(proto.graph)
    share_operands(proto.graph)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except onnx.checker.ValidationError as err:
        raise FormatError(
            f"onnx's checker refused the graph: {err}", f"opset {options.opset}", "try another opset"
        ) from err
    return proto


def _kept_nodes(module: fx.GraphModule) -> dict[Any, Any]:
    """How nodes of the user's own .onnx file that stayed as they are get written."""
    kept = getattr(torch.ops.edgekit, "onnx_node", None)
    if kept is None or not any(node.target is kept.default for node in module.graph.nodes):
        return {}
    from edgekit.nets.from_onnx.kept import write_node

    return {kept.default: write_node}


def _alone(module: fx.GraphModule, examples: tuple[torch.Tensor, ...]) -> None:
    torch.onnx.export(module, examples, dynamo=True, external_data=False, verbose=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress and its own deprecations; a user can act on none of them."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
