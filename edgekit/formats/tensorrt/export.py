"""Model -> ONNX under TensorRT's convention + the plan to build the engine on the board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from edgekit.formats.artifact import Artifact
from edgekit.formats.files import Preprocesses
from edgekit.formats.onnx.export import export_onnx
from edgekit.formats.onnx.zeros import weights_of
from edgekit.formats.tensorrt.conformance import check_conformance
from edgekit.formats.tensorrt.engine import write_engine_plan
from edgekit.nets.model import Model
from edgekit.schema.recipe import Export


def export_tensorrt(
    model: Model, convention: str, folder: Path, stem: str, options: Export, preprocess: Preprocesses = ()
) -> Artifact:
    """Write `folder/stem.onnx` and `folder/engine.json`; the engine itself is deferred to the board.

    `fused` stays empty: only TensorRT can say what it fused. The conformance table says which of its rules hold.

    Raises:
        FormatError: as `export_onnx`.
    """
    artifact = export_onnx(model, convention, folder, stem, options, preprocess, format_name="tensorrt")
    integer = artifact.row.precision == "int8"
    proto = onnx.load(artifact.path)
    row = artifact.row.model_copy(
        update={
            "engine": "deferred",
            "fused": {},
            "fused_by": "",
            "in_float": tuple(item for item in artifact.row.in_float if "ONNX Runtime" not in item.reason),
            "conformance": check_conformance(proto) if integer else (),
            "two_of_four": sum(weight.two_of_four for weight in weights_of(proto)),
        }
    )
    write_engine_plan(folder, row)
    return replace(artifact, row=row)
