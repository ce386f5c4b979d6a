"""The Artifact record: one exported file, how it is quantised, and the PyTorch program it must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edgekit.schema.manifest import ArtifactRow


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
