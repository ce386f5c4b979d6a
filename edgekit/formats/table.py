"""Every format, by name. A row is added by hand; nothing registers itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.formats.files import Preprocesses
from edgekit.formats.recurrent import Form, in_form, tensors_once
from edgekit.nets.model import Model
from edgekit.nets.recurrent import recurrent_network, step_model
from edgekit.nets.steps import declared_states
from edgekit.schema.recipe import Export

ExportFunction = Callable[[Model, str, Path, str, Export, Preprocesses], Artifact]
FormFunction = Callable[[Artifact, Model, Form], Artifact]


@dataclass(frozen=True)
class Format:
    """How a model becomes a file of this format.

    `load` imports and returns the export function: (model, convention name, folder, file stem, export options,
    preprocessing to record for the inputs) -> Artifact. A model with a quantisation table is exported in integers,
    one without in float32. `in_form` makes the artifact of a recurrent network in the form asked for, from that of
    one step.
    """

    load: Callable[[], ExportFunction]
    suffix: str
    in_form: FormFunction


def _onnx() -> ExportFunction:
    from edgekit.formats.onnx.export import export_onnx

    return export_onnx


def _tflite() -> ExportFunction:
    from edgekit.formats.tflite.export import export_tflite

    return export_tflite


def _tensorrt() -> ExportFunction:
    from edgekit.formats.tensorrt.export import export_tensorrt

    return export_tensorrt


def _onnx_in_form(step: Artifact, model: Model, form: Form) -> Artifact:
    from edgekit.formats.onnx.fused import optimised_graph
    from edgekit.formats.onnx.unroll import count_nodes, unroll

    return in_form(step, model, form, unroll, count_nodes, optimised_graph)


def _tflite_in_form(step: Artifact, model: Model, form: Form) -> Artifact:
    from edgekit.formats.tflite.fused import executed_operators
    from edgekit.formats.tflite.unroll import count_nodes, unroll

    return in_form(step, model, form, unroll, count_nodes, executed_operators)


def _tensorrt_in_form(step: Artifact, model: Model, form: Form) -> Artifact:
    from edgekit.formats.onnx.unroll import count_nodes, unroll
    from edgekit.formats.tensorrt.engine import write_engine_plan

    artifact = in_form(step, model, form, unroll, count_nodes, None)
    write_engine_plan(artifact.folder, artifact.row)
    return artifact


FORMATS: Mapping[str, Format] = {
    "onnx": Format(_onnx, ".onnx", _onnx_in_form),
    "tflite": Format(_tflite, ".tflite", _tflite_in_form),
    "tensorrt": Format(_tensorrt, ".onnx", _tensorrt_in_form),
}


def export(
    model: Model,
    name: str,
    convention: str,
    folder: Path,
    stem: str,
    options: Export,
    preprocess: Preprocesses = (),
    formats: Mapping[str, Format] = FORMATS,
) -> Artifact:
    """Write `model` in the format called `name` to `folder/stem + suffix`.

    A recurrent network is exported as one step; unless `options` ask for that, the file is then unrolled.

    Raises:
        FormatError: no such format, or the network cannot be expressed in it.
    """
    if name not in formats:
        raise FormatError(f"no format is called {name!r}", "export.formats", f"formats: {', '.join(sorted(formats))}")
    row, back = formats[name], declared_states(model.inputs)
    if recurrent_network(model) is not None:
        if options.batch == "dynamic" and options.recurrent == "unrolled":
            raise FormatError(
                "a sequence is unrolled for one number of samples, and the batch is dynamic",
                "export.batch",
                "set export.recurrent: step, or export.batch to a number",
            )
        step = export(step_model(model), name, convention, folder, stem, options, preprocess, formats)
        return row.in_form(step, model, options.recurrent)
    artifact = row.load()(model, convention, folder, stem, options, preprocess)
    if not back:
        return artifact
    update = {"feedback": back, "quantisation": tensors_once(artifact.row.quantisation)}
    return replace(artifact, row=artifact.row.model_copy(update=update))
