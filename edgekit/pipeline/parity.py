"""Parity: does an artifact in its runtime do what its PyTorch program does?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from edgekit.data.samples import filled, in_batches
from edgekit.errors import FormatError, StoreError
from edgekit.formats.artifact import Artifact
from edgekit.formats.recurrent import over_time
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.schema.gates import TOLERATED_CODES
from edgekit.schema.manifest import ArtifactRow, ParityRow

SAMPLES = 16
FLOAT_TOLERANCE_RATIO = 1e-5  # of the largest expected output: float32 sums in another order
HALF_TOLERANCE_RATIO = 2**-7  # of the same: float16 keeps 11 bits, and rounds after every operator
_CODES = 255
_KINDS = ("input", "output", "scale")


@dataclass(frozen=True)
class Expected:
    """Parity samples and what the witness gives for them.

    Attributes:
        inputs: of each input of the network, (N, ...) as it takes them.
        outputs: (N, ...) float32, by the network's names.
        scales: of the integer grids that outputs lie on, by the same names; without those that lie on none.
    """

    inputs: tuple[torch.Tensor, ...]
    outputs: dict[str, torch.Tensor]
    scales: dict[str, float]


def expect(artifact: Artifact, inputs: tuple[torch.Tensor, ...], edges: Mapping[str, str]) -> Expected:
    """What the artifact's PyTorch program gives for `inputs`, each (N, ...), in batches of the artifact's own size.

    Inputs are sequences (N, T, ...) for one step of a recurrent network, which runs over them from states of zeros.

    Args:
        edges: of `output_edges`.
    """
    batch, count = artifact.row.inputs[0].shape[0], len(inputs[0])
    with torch.no_grad():
        parts = [_answers(artifact, part) for part in in_batches(filled(inputs, batch), batch)]
    outputs = {
        tensor.network_name: torch.cat([part[i] for part in parts])[:count].float().contiguous()
        for i, tensor in enumerate(artifact.row.outputs)
    }
    grids = {q.tensor: q.scale[0] for q in artifact.row.quantisation if q.role == "activation"}
    scales = {name: grids[edge] for name, edge in edges.items() if edge in grids}
    scales |= {tensor.network_name: tensor.scale for tensor in artifact.row.outputs if tensor.scale is not None}
    return Expected(tuple(own.contiguous().clone() for own in inputs), outputs, scales)


def _answers(artifact: Artifact, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Outputs of the artifact's program; after the last step where it is one step of a recurrent network."""
    program = over_time(artifact.program, artifact.row) if artifact.row.feedback else artifact.program
    return cast(tuple[torch.Tensor, ...], program(*batch))


def expected_codes(row: ArtifactRow, expected: Expected) -> dict[str, NDArray[np.integer[Any]]]:
    """Integer codes of what the program gives, in the network's layout: of outputs that the artifact gives as codes."""
    found: dict[str, NDArray[np.integer[Any]]] = {}
    for tensor in row.outputs:
        if tensor.scale is not None and tensor.zero_point is not None:
            limits = np.iinfo(tensor.dtype)
            codes = np.rint(expected.outputs[tensor.network_name].double().numpy() / tensor.scale) + tensor.zero_point
            found[tensor.network_name] = np.clip(codes, limits.min, limits.max).astype(tensor.dtype)
    return found


def output_edges(model: Model) -> dict[str, str]:
    """Activation name, as quantisation calls it, of each of a model's outputs."""
    program = trace(model)
    (output,) = (node for node in program.module.graph.nodes if node.op == "output")
    made = output.args[0] if isinstance(output.args[0], tuple | list) else [output.args[0]]
    return {spec.name: program.names[node] for spec, node in zip(model.outputs, made, strict=True)}


def save_expected(expected: Expected, path: Path) -> None:
    """Write to a safetensors file."""
    tensors = {f"input:{index}": tensor for index, tensor in enumerate(expected.inputs)}
    tensors |= {f"output:{name}": tensor for name, tensor in expected.outputs.items()}
    scales = {f"scale:{k}": torch.tensor(v, dtype=torch.float64) for k, v in expected.scales.items()}
    save_file({**tensors, **scales}, path)


def load_expected(path: Path) -> Expected:
    """Read what `save_expected` wrote.

    Raises:
        StoreError: it holds no parity samples.
    """
    tensors = load_file(path)
    if "input:0" not in tensors:
        raise StoreError("holds no parity samples", str(path), "build with --no-cache")
    named = {kind: {n.partition(":")[2]: t for n, t in tensors.items() if n.startswith(f"{kind}:")} for kind in _KINDS}
    inputs = tuple(named["input"][str(index)] for index in range(len(named["input"])))
    return Expected(inputs, named["output"], {name: float(t) for name, t in named["scale"].items()})


def judge_parity(
    row: ArtifactRow, expected: Expected, given: dict[str, NDArray[np.float32]], codes: int = TOLERATED_CODES
) -> ParityRow:
    """Compare an artifact's outputs with its program's.

    Tolerated are `codes` codes of an output's own grid and half a code more, since both sides are floats that stand for
    codes; the same of an 8-bit grid over the expected range where an integer or dynamic network has a float output; and
    for a float artifact `FLOAT_TOLERANCE_RATIO` of the largest value, or `HALF_TOLERANCE_RATIO`. States of a recurrent
    network are judged by the answer that they make: a state that adds up keeps every code that ever fell otherwise.

    Raises:
        FormatError: an output is not finite.
    """
    errors, tolerances, code_errors = [], [], []
    for tensor in row.outputs:
        reference = expected.outputs[tensor.network_name].numpy()
        for who, values in (("the artifact", given[tensor.network_name]), ("its PyTorch program", reference)):
            if not np.isfinite(values).all():
                raise FormatError(
                    f"{who} gives NaN or infinity in output {tensor.network_name!r}",
                    f"{row.path}, parity samples",
                    "check weights and preprocessing; a network that overflows cannot be compared or shipped",
                )
        if tensor.network_name in row.feedback:
            continue
        error = float(np.abs(given[tensor.network_name] - reference).max())
        scale = expected.scales.get(tensor.network_name)
        if scale is not None:
            code_errors.append(round(error / scale))
            tolerance = (codes + 0.5) * scale
        elif row.precision == "int8" or row.precision.endswith("-dynamic"):
            tolerance = (codes + 0.5) * float(np.ptp(reference)) / _CODES
        else:
            ratio = HALF_TOLERANCE_RATIO if row.precision == "fp16" else FLOAT_TOLERANCE_RATIO
            tolerance = ratio * float(np.abs(reference).max())
        errors.append(error)
        tolerances.append(tolerance)
    first = row.outputs[0].network_name
    return ParityRow(
        reference="PyTorch, float32" if row.precision == "fp32" else f"PyTorch, {row.convention} program",
        candidate=row.path,
        max_abs_error=max(errors),
        max_code_error=max(code_errors) if code_errors else None,
        agreement_ratio=agreement(expected.outputs[first].numpy(), given[first]),
        tolerance=max(tolerances),
        passed=all(error <= tolerance for error, tolerance in zip(errors, tolerances, strict=True)),
    )


def agreement(reference: NDArray[np.float32], given: NDArray[np.float32]) -> float:
    """Share of samples with the same largest output; both (N, ...)."""
    flat = (len(reference), -1)
    return float((reference.reshape(flat).argmax(1) == given.reshape(flat).argmax(1)).mean())
