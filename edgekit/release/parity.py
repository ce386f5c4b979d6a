"""parity.safetensors: inputs, and what each artifact must answer. Written at build time, re-run by `verify --parity`.

Tensors are called `input/<name>`, `output/<artifact>/<name>` and `codes/<artifact>/<name>`, each (samples, ...).
Tolerances and layouts are canonical JSON under the one metadata key `edgekit`: safetensors writes several in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgekit.errors import BundleError
from edgekit.schema.base import Record
from edgekit.schema.tensors import Layout
from edgekit.store.digests import canonical_json

Array = NDArray[np.generic]


class Tolerance(Record):
    """How far an artifact's answers may lie from those stored."""

    output: float = Field(ge=0, description="largest absolute difference of an output as a real number")
    code: int = Field(0, ge=0, description="largest difference of an integer code")


class _Metadata(Record):
    version: int = 1
    samples: str
    layouts: dict[str, Layout]
    tolerances: dict[str, Tolerance]


@dataclass(frozen=True)
class Expected:
    """What one artifact must answer, by the network's names of its outputs.

    Attributes:
        outputs: as real numbers, (samples, ...).
        codes: the integer codes of the same, only of those outputs that the artifact itself gives as codes.
    """

    outputs: Mapping[str, Array]
    tolerance: Tolerance
    codes: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class ParitySamples:
    """Inputs as the network takes them, (samples, ...) in `layouts`, and answers by path of the artifact."""

    inputs: Mapping[str, Array]
    layouts: Mapping[str, Layout]
    expected: Mapping[str, Expected]
    synthetic: bool = False


def parity_bytes(samples: ParitySamples) -> bytes:
    """The file's content; equal samples give equal bytes.

    Raises:
        BundleError: the arrays do not all have the same number of samples.
    """
    tensors: dict[str, Array] = {f"input/{name}": value for name, value in samples.inputs.items()}
    for path, expected in samples.expected.items():
        tensors |= {f"output/{path}/{name}": value for name, value in expected.outputs.items()}
        tensors |= {f"codes/{path}/{name}": value for name, value in expected.codes.items()}
    counts = {len(value) for value in tensors.values()}
    if len(counts) != 1:
        raise BundleError(
            f"parity tensors have {sorted(counts)} samples", "parity.safetensors", "give each the same samples"
        )
    metadata = _Metadata(
        samples="synthetic" if samples.synthetic else "real",
        layouts=dict(samples.layouts),
        tolerances={path: expected.tolerance for path, expected in samples.expected.items()},
    )
    text = canonical_json(metadata.model_dump(mode="json")).decode("utf-8")
    # safetensors writes memory as it lies, so a transposed view must be copied first
    plain = {name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())}
    return save(plain, metadata={"edgekit": text})


def read_parity(path: Path) -> ParitySamples:
    """The samples of a bundle's parity.safetensors.

    Raises:
        BundleError: the file is not what `parity_bytes` writes.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = _Metadata.model_validate_json((file.metadata() or {}).get("edgekit", ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, a handle is no mapping
    except (OSError, SafetensorError, ValidationError) as err:
        raise BundleError(
            f"no parity samples: {str(err).splitlines()[0]}", str(path), "build the bundle again"
        ) from err
    expected = {
        artifact: Expected(_under(tensors, f"output/{artifact}/"), tolerance, _under(tensors, f"codes/{artifact}/"))
        for artifact, tolerance in metadata.tolerances.items()
    }
    return ParitySamples(
        _under(tensors, "input/"), dict(metadata.layouts), expected, synthetic=metadata.samples == "synthetic"
    )


def _under(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
