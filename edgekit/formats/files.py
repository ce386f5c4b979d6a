"""Writing an artifact to disk, and describing its inputs and outputs. Shared by the formats."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from edgekit.nets.model import Model
from edgekit.schema.tensors import LAYOUT_BY_RANK, ArtifactTensor, Preprocess

Preprocesses: TypeAlias = tuple[Preprocess, ...]
"""Of the network's inputs, in order; of fewer where only the first ones are preprocessed."""


@dataclass(frozen=True)
class WrittenFile:
    """A file on disk and its digest."""

    path: Path
    sha256: str
    size_bytes: int


def write_artifact(path: Path, content: bytes) -> WrittenFile:
    """Write `content` under a temporary name, sync it, rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return WrittenFile(path, hashlib.sha256(content).hexdigest(), len(content))


def describe_tensors(
    model: Model, batch: int, preprocess: Preprocesses
) -> tuple[tuple[ArtifactTensor, ...], tuple[ArtifactTensor, ...]]:
    """Inputs and outputs of an artifact that takes and gives floats in the network's own layout."""
    inputs = tuple(
        ArtifactTensor(
            name=spec.name,
            network_name=spec.name,
            shape=(batch, *spec.shape[1:]),
            dtype=spec.dtype,
            layout=spec.layout,
            preprocess=preprocess[index] if index < len(preprocess) else None,
        )
        for index, spec in enumerate(model.inputs)
    )
    outputs = tuple(
        ArtifactTensor(
            name=spec.name,
            network_name=spec.name,
            shape=(batch, *spec.shape[1:]),
            dtype=spec.dtype,
            layout=LAYOUT_BY_RANK[len(spec.shape)],
        )
        for spec in model.outputs
    )
    return inputs, outputs
