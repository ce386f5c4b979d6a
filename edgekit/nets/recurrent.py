"""Recurrent networks as one step cell: what a network declares of its states, and its step as a model of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from edgekit.errors import ModelError
from edgekit.schema.tensors import InputSpec, OutputSpec

if TYPE_CHECKING:
    from edgekit.nets.model import Model


@dataclass(frozen=True)
class State:
    """A tensor (N, size) that every step hands to the next; zeros before the first.

    Attributes:
        accumulates: the next state is this one, scaled by a gate, plus something. Rounding it to 8 bits adds an error
            at every step that the next steps keep, so quantisation leaves it in float.
    """

    name: str
    size: int
    accumulates: bool = False


class Recurrent(nn.Module):
    """A network that runs one step cell over time and reads its answer from the last states.

    Called with a sequence (N, T, C) it gives the answer. Called with one step's input (N, C) and every state it gives
    the answer after this step and every next state, in the order of `states`. A subclass defines `states`, `step` and
    `head`; both ways of calling run the same two methods, so that one quantisation table is of both.
    """

    @property
    def states(self) -> tuple[State, ...]:
        """What a step hands to the next."""
        raise NotImplementedError

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step: input (N, C) and states -> next states."""
        raise NotImplementedError

    def head(self, *state: Tensor) -> Tensor:
        """The answer that the network gives after a step with these next states."""
        raise NotImplementedError

    def forward(self, x: Tensor, *state: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(N, T, C) -> answer; or (N, C), states -> (answer, next states)."""
        if state:
            following = self.step(x, *state)
            return self.head(*following), *following
        following = tuple(x.new_zeros(len(x), own.size) for own in self.states)
        for t in range(x.shape[1]):
            following = self.step(x[:, t], *following)
        return self.head(*following)


def recurrent_network(model: Model) -> Recurrent | None:
    """The network of a model that takes whole sequences of a recurrent network; None for every other model."""
    network = model.network
    return network if isinstance(network, Recurrent) and len(model.inputs) == 1 else None


def step_model(model: Model) -> Model:
    """One step of a recurrent network as a model: the same network, weights and quantisation table.

    Its inputs are one step's input (N, C), under the sequence's name, and every state under its own; its outputs the
    answer after this step and `next_<state>`.

    Raises:
        ModelError: the network is not recurrent.
    """
    network = recurrent_network(model)
    if network is None:
        raise ModelError(
            "the network has no step cell",
            model.source.where,
            "return an edgekit.nets.recurrent:Recurrent from the factory, or export the network as it is",
        )
    sequence = model.inputs[0]
    inputs = (
        sequence.model_copy(update={"shape": (sequence.shape[0], *sequence.shape[2:]), "layout": "NC"}),
        *(
            InputSpec(name=state.name, shape=(1, state.size), layout="NC", state=f"next_{state.name}")
            for state in network.states
        ),
    )
    following = tuple(OutputSpec(name=f"next_{state.name}", shape=(1, state.size)) for state in network.states)
    return replace(
        model,
        source=model.source.model_copy(update={"inputs": inputs}),
        outputs=(*model.outputs, *following),
    )
