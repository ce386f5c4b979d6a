"""Recurrent networks in every format: exported as one step, and for a whole sequence by repeating that step's graph.

A torch graph of all steps would be converted in minutes, and its file hold weights, biases and scales once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from torch import Tensor, nn

from edgekit.formats.artifact import Artifact
from edgekit.formats.files import write_artifact
from edgekit.nets.model import Model
from edgekit.nets.steps import OverTime
from edgekit.schema.manifest import ArtifactRow, InFloat, QuantisedTensor
from edgekit.schema.tensors import InputSpec

Form: TypeAlias = Literal["unrolled", "step"]
Unroll: TypeAlias = Callable[[bytes, Mapping[str, str], int], bytes]
CountOperators: TypeAlias = Callable[[Path], tuple[dict[str, int], tuple[InFloat, ...]]]


def over_time(step: nn.Module, row: ArtifactRow) -> OverTime:
    """One step's program, run over sequences from states of zeros; it gives what the last step gives."""
    makers = {given: made for made, given in row.feedback.items()}
    specs = [
        InputSpec(name=tensor.network_name, shape=tensor.shape, state=makers.get(tensor.network_name))
        for tensor in row.inputs
    ]
    return OverTime(step, specs, [tensor.network_name for tensor in row.outputs])


def in_form(
    step: Artifact,
    model: Model,
    form: Form,
    unroll: Unroll,
    count_nodes: Callable[[bytes], int],
    executed: CountOperators | None,
) -> Artifact:
    """The artifact of one step as it is, or with its file replaced by that of a whole sequence; `nodes` is of both.

    The rows of `quantisation` and `in_float` stay those of the step: they hold at each of them alike.

    Args:
        step: with `feedback` in its row.
        model: takes the sequence.
        unroll: (content of the step's file, feedback, steps) -> content of the sequence's.
        count_nodes: operators in the graph of a file.
        executed: operators that the runtime executes, and those it computes in float; None: only the board can tell.
    """
    row, sequence = step.row, model.inputs[0]
    batch, steps = row.inputs[0].shape[0], sequence.shape[1]
    content = step.path.read_bytes()
    whole = unroll(content, row.feedback, steps)
    nodes = {"step": count_nodes(content), "unrolled": count_nodes(whole)}
    if form == "step":
        return replace(step, row=row.model_copy(update={"nodes": nodes}))
    written = write_artifact(step.path, whole)
    found: tuple[InFloat, ...] = ()
    fused = row.fused
    if executed is not None:
        fused, found = executed(written.path)
    known = {item.op for item in row.in_float}
    first = row.inputs[0].model_copy(update={"shape": (batch, *sequence.shape[1:]), "layout": sequence.layout})
    update = {
        "sha256": written.sha256,
        "size_bytes": written.size_bytes,
        "inputs": (first,),
        "outputs": row.outputs[:1],
        "fused": fused,
        "in_float": (*row.in_float, *(item for item in found if row.precision != "fp32" and item.op not in known)),
        "feedback": {},
        "nodes": nodes,
    }
    return replace(step, row=row.model_copy(update=update), program=_Answer(over_time(step.program, row)))


def tensors_once(rows: tuple[QuantisedTensor, ...]) -> tuple[QuantisedTensor, ...]:
    """One row for a state that a step takes and gives: it is one edge, on one grid."""
    found: dict[tuple[str, str], QuantisedTensor] = {}
    for row in rows:
        found.setdefault((row.tensor, row.role), row)
    return tuple(found.values())


class _Answer(nn.Module):
    """The first output alone."""

    def __init__(self, sequence: OverTime) -> None:
        super().__init__()
        self.sequence = sequence

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, T, C) -> (answer,)."""
        return self.sequence(x)[:1]  # type: ignore[no-any-return]
