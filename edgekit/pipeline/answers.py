"""What an artifact answers on this machine: for verifying a bundle's parity samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekit.pipeline.choose import LOCAL_RUNTIMES
from edgekit.release.parity import Array
from edgekit.release.verify import Answers
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.tensors import Layout


def answer_here(path: Path, row: ArtifactRow, inputs: Mapping[str, Array], layouts: Mapping[str, Layout]) -> Answers:
    """The outputs of an artifact in the runtime that this machine has for it; for TensorRT's a stand-in.

    Args:
        inputs: by name, in the layouts of the network.

    Raises:
        DeviceError: the runtime failed.
    """
    from edgekit.profiling.inference import infer  # here, for a check of digests alone needs none of it

    device = Device(name="local", target="local")
    found = infer(device, path, row, LOCAL_RUNTIMES[row.format], inputs, layouts)
    stand_in = " (stand-in)" if row.format == "tensorrt" else ""
    return Answers(found.outputs, found.codes, f"{found.runtime} {found.runtime_version}{stand_in}")
