"""A model is exported as the target's first format and measured as the target runs it."""

from typing import Any

import pytest
from torch import nn

from edgekit.errors import DeviceError
from edgekit.formats.artifact import Artifact
from edgekit.formats.table import Format
from edgekit.pipeline.choose import stand_in_for
from edgekit.pipeline.latency import measure_model
from edgekit.schema.device import Device
from edgekit.schema.load import load_target
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.recipe import Export
from tests import nets

X86 = load_target("cpu-x86-64").target
asked: list[tuple[Any, ...]] = []


def write(model, convention, folder, stem, options, preprocess):
    (folder / f"{stem}.onnx").write_bytes(b"file")
    asked.append(("export", model.table, convention, options.batch))
    row = ArtifactRow(
        format="onnx",
        convention=convention,
        path=f"{stem}.onnx",
        sha256="0" * 64,
        size_bytes=4,
        precision="fp32",
        inputs=(),
        outputs=(),
    )
    return Artifact(folder, row, nn.Identity())


def profile(device, path, row, runtime, settings, *, stand_in_for):
    assert path.read_bytes() == b"file"
    asked.append(("profile", device.name, row.path, runtime, settings.threads, settings.batch, stand_in_for))
    return "told"


FORMATS = {"onnx": Format(lambda: write, ".onnx", lambda step, model, form: step)}


def measured(target, device):
    asked.clear()
    return measure_model(nets.model(nets.TINY_CONV), device, target, Export(batch=2), formats=FORMATS, profile=profile)


def test_it_is_the_targets_first_format_in_its_runtime():
    assert measured(X86, Device(name="bench", target="cpu-x86-64")) == "told"
    assert asked[0] == ("export", None, "onnxruntime-x86-vnni", 2)
    device = Device(name="bench", target="cpu-x86-64")
    assert asked[1] == ("profile", "bench", "model.onnx", "onnxruntime", 1, 2, stand_in_for(device, X86))


def test_another_device_stands_in_with_what_it_has():
    zero = load_target("raspberry-pi-zero-2w").target
    first = next(i for i, row in enumerate(zero.formats) if row.format == "onnx")
    zero = zero.model_copy(update={"formats": zero.formats[first:]})
    measured(zero, Device(name="bench", target="cpu-x86-64"))
    assert asked[1][-1] == "raspberry-pi-zero-2w"
    assert asked[1][3] == "onnxruntime"
    assert asked[1][4] == zero.threads


def test_an_engine_is_built_on_the_board():
    with pytest.raises(DeviceError) as caught:
        measured(load_target("jetson").target, Device(name="orin", target="jetson-orin-nano"))
    assert "engine" in caught.value.what
