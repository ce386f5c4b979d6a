"""The Artifact record: one exported file, how it is quantised, the PyTorch program it must agree with; its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edgekit.schema.manifest import ArtifactRow


@dataclass(frozen=True)
class StoredWeight:
    """A weight as an exported file holds it.

    Attributes:
        two_of_four: of every four inputs in a row of an output, at least two are zero.
    """

    name: str
    count: int
    zeros: int
    value_bytes: int
    two_of_four: bool


@dataclass(frozen=True)
class Artifact:
    """One exported file.

    Attributes:
        folder: where the file lies; `row.path` is relative to it.
        row: what the manifest says of it.
        program: the same function in PyTorch, with Q/DQ where the artifact has integers. Takes the network's float
            inputs in the network's own layout at batch `row.inputs[0].shape[0]`, gives a tuple of float outputs.
            The witness for parity.
    """

    folder: Path
    row: ArtifactRow
    program: nn.Module

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.folder / self.row.path
