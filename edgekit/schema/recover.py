"""The `recover` block of a pass: distillation right after it, spelled out as a step of its own. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import Field

from edgekit.schema.distill import DistillOptions, MethodName
from edgekit.schema.recipe import Step

_RECOVER = "recover"


class RecoverOptions(DistillOptions):
    """Options of `distill`, with other defaults: briefly and without labels, as MEAL V2, arXiv:2009.08453."""

    method: MethodName = Field("meal", description="what the student learns from, as in distill")
    epochs: int = Field(3, ge=1, description="passes over the training split")


Recover: TypeAlias = Annotated[
    RecoverOptions | None,
    Field(
        description="a step `distill` right after this one, from the original network; where they are not given, "
        "method meal and 3 epochs"
    ),
]

# what the options say that differs from those of `distill`
_DEFAULTS = {name: RecoverOptions.model_fields[name].default for name in ("method", "epochs")}


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
            recovering = Step(name="distill", options={**_DEFAULTS, **block})
            placed.append(PlacedStep(recovering, index, (step.name, _RECOVER)))
    return tuple(placed)
