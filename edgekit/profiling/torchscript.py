"""A network as the TorchScript file that the runtime `torch-cuda` takes: PyTorch's own speed on a board's GPU.

It is no artifact: it is made for one measurement and not put into a bundle. The runtime says why it is TorchScript and
neither a .pt2 nor a pickle.
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekit.errors import FormatError
from edgekit.schema.manifest import ArtifactRow

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SEED = 0


@dataclass(frozen=True)
class TorchScript:
    """A file and what is needed to run it: its row, and the options of the runtime `torch-cuda`."""

    path: Path
    row: ArtifactRow
    runtime_options: dict[str, Any]


def write_torchscript(network: nn.Module, row: ArtifactRow, path: Path) -> TorchScript:
    """Trace a float network at the shapes of its ONNX file.

    The file says nothing of where it was made: TorchScript's debug records, which hold paths of sources, are left out.

    Args:
        network: takes the inputs of `row` in their order, in its layouts, and gives its outputs in their order; it is
            traced as it is in evaluation, and its mode is put back.
        row: of the float ONNX file of the same network.
        path: to write.

    Raises:
        FormatError: the network cannot be traced, or what was traced computes something else.
    """
    generator = torch.Generator().manual_seed(_SEED)
    shapes = [tensor.shape for tensor in row.inputs]
    example, other = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    script: Any = torch.jit  # untyped
    training = network.training
    network.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, and boards have it all the same
            traced = script.trace(network, tuple(example), check_trace=False)
            traced.save(str(path))
            _without_debug_records(path)
            again = script.load(str(path))
            expected, found = _all(network(*other)), _all(again(*other))
    except (RuntimeError, TypeError, ValueError) as err:
        raise FormatError(
            f"the network cannot be traced: {err}", path.name, "measure its ONNX file or its engine instead"
        ) from err
    finally:
        network.train(training)
    same = len(expected) == len(found) == len(row.outputs)
    if not same or not all(torch.equal(mine, theirs) for mine, theirs in zip(expected, found, strict=True)):
        raise FormatError(
            "what was traced does not compute what the network computes",
            path.name,
            "its forward depends on values of its inputs; measure its ONNX file or its engine instead",
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    names = {"inputs": [t.name for t in row.inputs], "outputs": [t.name for t in row.outputs]}
    own_row = row.model_copy(update={"path": path.name, "sha256": digest, "size_bytes": len(content)})
    return TorchScript(path, own_row, names)


def _all(given: Any) -> list[torch.Tensor]:
    return list(given) if isinstance(given, (tuple, list)) else [given]


def _without_debug_records(path: Path) -> None:
    """The same archive without *.debug_pkl and without times."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if not name.endswith(".debug_pkl")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
