"""The `recover` block of a pass: distillation right after it, spelled out as a step of its own. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import Field

from edgekit.schema.distill import DistillOptions
from edgekit.schema.recipe import Step

_RECOVER = "recover"


class RecoverOptions(DistillOptions):
    """Options of `distill`, with other defaults: briefly, from the original's softened answers alone, without decay.

    So does MEAL V2, arXiv:2009.08453, but for the temperature: a network that knows its training samples by heart
    answers them like labels at temperature 1. See `benchmarks/prune_distill.py`.
    """

    method_defaults: ClassVar[Mapping[str, Mapping[str, float]]] = {
        **DistillOptions.method_defaults,
        "kd": {"alpha": 1.0, "weight_decay": 0.0},
    }

    epochs: int = Field(3, ge=1, description="passes over the training split")


Recover: TypeAlias = Annotated[
    RecoverOptions | None,
    Field(
        description="a step `distill` right after this one, from the original network; where they are not given, "
        "3 epochs, and with method kd alpha 1 and weight_decay 0, so that no label is read"
    ),
]


@dataclass(frozen=True)
class PlacedStep:
    """A step and where in the recipe it stands.

    Attributes:
        index: of the line in `steps:` that it comes from.
        keys: of its options below that line: the pass's name; with `recover` behind it for the step of such a block.
    """

    step: Step
    index: int
    keys: tuple[str, ...]

    @property
    def recovers(self) -> bool:
        """Whether it was written as a `recover` block."""
        return len(self.keys) > 1


def spell_out(steps: Sequence[Step]) -> tuple[PlacedStep, ...]:
    """The steps with every `recover` block as a `distill` of its own behind the pass that carries it."""
    placed = []
    for index, step in enumerate(steps):
        options = {key: value for key, value in step.options.items() if key != _RECOVER}
        placed.append(PlacedStep(step.model_copy(update={"options": options}), index, (step.name,)))
        block = step.options.get(_RECOVER)
        if isinstance(block, dict):
            recovering = Step(name="distill", options={**_defaults(block), **block})
            placed.append(PlacedStep(recovering, index, (step.name, _RECOVER)))
    return tuple(placed)


def _defaults(block: Mapping[str, Any]) -> dict[str, object]:
    """What the options say that differs from those of `distill`."""
    fields = RecoverOptions.model_fields
    method = block.get("method", fields["method"].default)
    return {"epochs": fields["epochs"].default, **RecoverOptions.method_defaults.get(method, {})}
