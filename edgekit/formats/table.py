"""Every format, by name. A row is added by hand; nothing registers itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import FormatError
from edgekit.formats.artifact import Artifact
from edgekit.nets.model import Model
from edgekit.nets.recurrent import feedback
from edgekit.schema.recipe import Export
from edgekit.schema.tensors import Preprocess

ExportFunction = Callable[[Model, str, Path, str, Export, Preprocess | None], Artifact]


@dataclass(frozen=True)
class Format:
    """How a model becomes a file of this format.

    `load` imports and returns the export function: (model, convention name, folder, file stem, export options,
    preprocess to record for the first input) -> Artifact. A model with a quantisation table is exported in integers,
    one without in float32.
    """

    load: Callable[[], ExportFunction]
    suffix: str


def _onnx() -> ExportFunction:
    from edgekit.formats.onnx.export import export_onnx

    return export_onnx


def _tflite() -> ExportFunction:
    from edgekit.formats.tflite.export import export_tflite

    return export_tflite


def _tensorrt() -> ExportFunction:
    from edgekit.formats.tensorrt.export import export_tensorrt

    return export_tensorrt


FORMATS: Mapping[str, Format] = {
    "onnx": Format(_onnx, ".onnx"),
    "tflite": Format(_tflite, ".tflite"),
    "tensorrt": Format(_tensorrt, ".onnx"),
}


def export(
    model: Model,
    name: str,
    convention: str,
    folder: Path,
    stem: str,
    options: Export,
    preprocess: Preprocess | None = None,
    formats: Mapping[str, Format] = FORMATS,
) -> Artifact:
    """Write `model` in the format called `name` to `folder/stem + suffix`.

    Raises:
        FormatError: no such format, or the network cannot be expressed in it.
    """
    if name not in formats:
        raise FormatError(f"no format is called {name!r}", "export.formats", f"formats: {', '.join(sorted(formats))}")
    artifact = formats[name].load()(model, convention, folder, stem, options, preprocess)
    return replace(artifact, row=artifact.row.model_copy(update={"feedback": feedback(model)}))
