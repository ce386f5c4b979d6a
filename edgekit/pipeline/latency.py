"""What a pass is told of time: a model as the target's first format, measured on the named device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from edgekit.errors import DeviceError
from edgekit.formats.table import FORMATS, Format, export
from edgekit.nets.model import Model
from edgekit.pipeline.choose import LOCAL_RUNTIMES, stand_in_for
from edgekit.profiling.jobs import profile
from edgekit.schema.device import Device
from edgekit.schema.profile import MeasureSettings, Profile
from edgekit.schema.recipe import Export
from edgekit.schema.target import Target

# a search compares medians of many models: each is measured shorter than what is shipped
_DURATION_S, _PERCENTILE = 1.0, 90.0


def measure_model(
    model: Model,
    device: Device,
    target: Target,
    options: Export,
    *,
    formats: Mapping[str, Format] = FORMATS,
    profile: Callable[..., Profile] = profile,
) -> Profile:
    """Export a model, in integers where it has a quantisation table, and measure it.

    Raises:
        DeviceError: the device failed, or the target's first format has no runtime that a model can be handed to.
        FormatError: the model cannot be exported.
    """
    first = target.formats[0]
    if first.format == "tensorrt":
        raise DeviceError(
            "a TensorRT engine is built on the board, so single layers are not measured",
            f"device {device.name}, target {target.name}",
            "set a budget of size_bytes or bit_operations_ratio, or a target whose first format is another",
        )
    instead_of = stand_in_for(device, target)
    runtime = LOCAL_RUNTIMES[first.format] if instead_of else first.runtime
    settings = MeasureSettings(
        threads=target.threads, batch=options.samples, duration_s=_DURATION_S, percentile=_PERCENTILE
    )
    options = options.model_copy(update={"batch": options.samples})  # what is measured need not take any other
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        artifact = export(model, first.format, first.convention, Path(folder), "model", options, formats=formats)
        return profile(device, artifact.path, artifact.row, runtime, settings, stand_in_for=instead_of)
