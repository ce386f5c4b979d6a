"""Zeros in what is shipped: how many each file holds, what it weighs compressed, and whether its runtime skips them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgekit.formats.artifact import StoredWeight
from edgekit.numerics.sparsity import bitmask_bytes
from edgekit.schema.manifest import ArtifactRow, StepRow
from edgekit.schema.sparsity import SparseArtifact, SparseSpeed
from edgekit.schema.target import Target, TargetFormat

_LEVEL = 6  # of zlib, and of the common .zip


def _onnx(path: Path) -> tuple[StoredWeight, ...]:
    from edgekit.formats.onnx.zeros import stored_weights

    return stored_weights(path)


def _tflite(path: Path) -> tuple[StoredWeight, ...]:
    from edgekit.formats.tflite.zeros import stored_weights

    return stored_weights(path)


_READERS: Mapping[str, Callable[[Path], tuple[StoredWeight, ...]]] = {
    "onnx": _onnx,
    "tensorrt": _onnx,
    "tflite": _tflite,
}


def sparse_artifacts(
    files: Sequence[tuple[Path, ArtifactRow]], target: Target, steps: Sequence[StepRow]
) -> tuple[SparseArtifact, ...]:
    """A row for every file, if a step of the model made weights zero: counted in the file, not in the network.

    Steps after it may have filled zeros: a 1x1 branch is merged into a kernel, a rotation mixes channels.
    """
    if not any(step.sparsity is not None for step in steps if step.model == "model"):
        return ()
    return tuple(_row(path, row, target) for path, row in files)


def _row(path: Path, row: ArtifactRow, target: Target) -> SparseArtifact:
    weights = _READERS[row.format](path)
    content = path.read_bytes()
    dense = sum(weight.count * weight.value_bytes for weight in weights)
    sparse = sum(bitmask_bytes(weight.count, weight.count - weight.zeros, weight.value_bytes) for weight in weights)
    on = next(entry for entry in target.formats if entry.format == row.format)
    two_of_four = sum(weight.two_of_four for weight in weights)
    faster, reason = _faster(on, two_of_four, len(weights))
    return SparseArtifact(
        artifact=row.path,
        zeros=sum(weight.zeros for weight in weights),
        weights=sum(weight.count for weight in weights),
        size_bytes=len(content),
        deflated_bytes=len(zlib.compress(content, _LEVEL)),
        bitmask_bytes=len(content) - dense + sparse,
        tensors=len(weights),
        two_of_four=two_of_four,
        runtime=on.runtime,
        faster=faster,
        reason=reason,
        source="" if on.sparse is None else on.sparse.source,
    )


def _faster(on: TargetFormat, two_of_four: int, tensors: int) -> tuple[SparseSpeed, str]:
    if on.sparse is None:
        return "not known", f"the target says nothing of zeros in {on.runtime}"
    if on.sparse.pattern == "none":
        return "no", on.sparse.reason
    if not two_of_four:
        return "no", f"no weight is {on.sparse.pattern}, which its sparse kernels want"
    return "where it has a kernel", f"{two_of_four} of {tensors} weights are {on.sparse.pattern}: {on.sparse.reason}"
