"""Networks that are one step of a sequence: what an output gives goes into an input at the next step.

`model.inputs` declares it: `{name: h, shape: [1, 32], state: next_h}`. States are zeros before the first step. Samples
are sequences (N, T, ...) of the other inputs, and what counts are the outputs of the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.data.samples import Samples
from edgekit.errors import ModelError
from edgekit.nets.model import Model
from edgekit.nets.outputs import tensors_of
from edgekit.schema.tensors import InputSpec, OutputSpec

Step: TypeAlias = Callable[..., Any]


def declared_states(specs: Sequence[InputSpec]) -> dict[str, str]:
    """Output -> input of every state that a network's inputs declare; empty where a sample is no sequence."""
    return {spec.state: spec.name for spec in specs if spec.state is not None}


def check_states(specs: Sequence[InputSpec], outputs: Sequence[OutputSpec]) -> None:
    """Refuse states that no output gives, or another shape of.

    Raises:
        ModelError: names the input.
    """
    states = declared_states(specs)
    if not states:
        return
    made = {output.name: output.shape for output in outputs}
    where = "model.inputs"
    for spec in specs:
        if spec.state is None:
            if spec.layout != "NC":
                raise ModelError(
                    f"input {spec.name!r} of one step is {spec.layout}", where, "take one step's features: layout NC"
                )
        elif spec.state not in made:
            names = ", ".join(made)
            raise ModelError(f"no output is called {spec.state!r}", f"{where}, {spec.name}", f"outputs: {names}")
        elif spec.dtype != "float32" or made[spec.state][1:] != spec.shape[1:]:
            raise ModelError(
                f"output {spec.state!r} is {made[spec.state]}, and input {spec.name!r} takes {spec.dtype} {spec.shape}",
                where,
                "give the next state the shape of the state, and floats",
            )
    if len(states) == len(specs):
        raise ModelError("every input is a state", where, "leave one input for the samples")


def sample_specs(specs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs that samples are given to, with the layout that samples have: an axis T where there are states."""
    if not declared_states(specs):
        return tuple(specs)
    return tuple(spec.model_copy(update={"layout": "NTC"}) for spec in specs if spec.state is None)


class OverTime(nn.Module):
    """One step's network or program, run over sequences; it gives what the last step gives.

    Args:
        outputs: names of what the step gives.
        answers: give no states.
    """

    def __init__(
        self, step: Step, specs: Sequence[InputSpec], outputs: Sequence[str], *, answers: bool = False
    ) -> None:
        super().__init__()
        self.step, self._specs, self._outputs = step, tuple(specs), tuple(outputs)
        states = declared_states(specs) if answers else {}
        self._given = [name for name in outputs if name not in states]

    def forward(self, *sequences: Tensor) -> tuple[Tensor, ...]:
        """Sequences (N, T, ...) of every input that is no state -> the outputs of the last step, in their order."""
        *_, (_, made) = _over_time(self.step, self._specs, self._outputs, sequences)
        return tuple(made[name] for name in self._given)


def answer_specs(model: Model) -> tuple[OutputSpec, ...]:
    """The outputs of a model that are no states."""
    states = declared_states(model.inputs)
    return tuple(spec for spec in model.outputs if spec.name not in states)


def named_inputs(specs: Sequence[InputSpec], inputs: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """Inputs (N, ...) by the network's names.

    Args:
        specs: of `sample_specs`.
    """
    return {spec.name: tensor.numpy() for spec, tensor in zip(specs, inputs, strict=True)}


def on_samples(model: Model, network: nn.Module) -> nn.Module:
    """`network`, a model's own or its program, as what takes samples and answers: over time where it is one step."""
    if not declared_states(model.inputs):
        return network
    return OverTime(network, model.inputs, [spec.name for spec in model.outputs], answers=True)


def answer(model: Model, network: nn.Module, batches: Iterable[tuple[Tensor, ...]]) -> dict[str, NDArray[np.float32]]:
    """What `network`, a model's own or its program, answers for all batches of samples: (N, ...) by name."""
    run = on_samples(model, network)
    with torch.no_grad():
        parts = [[output.cpu().float() for output in tensors_of(run(*batch))] for batch in batches]
    columns = (torch.cat(own).numpy() for own in zip(*parts, strict=True))
    return dict(zip((spec.name for spec in answer_specs(model)), columns, strict=True))


def step_samples(model: Model, samples: Samples) -> Samples:
    """Sequences as samples of single steps, with the states that the float network has there; others as they are.

    So what looks at samples layer by layer needs to know nothing of time. Each step has its sequence's labels.
    """
    if not declared_states(model.inputs) or not len(samples):
        return samples
    names = [spec.name for spec in model.outputs]
    with torch.no_grad():
        rows = [given for given, _ in _over_time(model.network, model.inputs, names, samples.inputs)]
    columns = (torch.stack(column, 1).flatten(0, 1) for column in zip(*rows, strict=True))
    return Samples(tuple(columns), samples.labels.repeat_interleave(len(rows), 0))


def _over_time(
    step: Step, specs: Sequence[InputSpec], outputs: Sequence[str], sequences: Sequence[Tensor]
) -> Iterator[tuple[tuple[Tensor, ...], dict[str, Tensor]]]:
    """Inputs of every step in turn, and what it makes of them by name."""
    count, length = sequences[0].shape[:2]
    made = {
        spec.state: torch.zeros((count, *spec.shape[1:]), device=sequences[0].device)
        for spec in specs
        if spec.state is not None
    }
    for t in range(length):
        frames = iter(sequence[:, t] for sequence in sequences)
        given = tuple(next(frames) if spec.state is None else made[spec.state] for spec in specs)
        made = dict(zip(outputs, tensors_of(step(*given)), strict=True))
        yield given, made
