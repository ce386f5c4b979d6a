"""The table of passes: each row an Options class and a function that imports the pass when called. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from edgekit.errors import PassError
from edgekit.schema.base import Options
from edgekit.schema.distill import DistillOptions
from edgekit.schema.find import suggest
from edgekit.schema.passes import EqualiseOptions, QuantizeOptions, ReparamOptions
from edgekit.schema.prune import PruneOptions
from edgekit.schema.train import TrainOptions

if TYPE_CHECKING:
    from edgekit.nets.model import Model
    from edgekit.passes.context import Context

O_contra = TypeVar("O_contra", bound=Options)
PassFunction: TypeAlias = "Callable[[Model, O_contra, Context], Model]"
Needs: TypeAlias = Literal["trainable", "any"]


@dataclass(frozen=True)
class Pass(Generic[O_contra]):
    """One row.

    Attributes:
        options: what a step of this pass may set.
        load: imports the pass and returns its function.
        needs: `trainable`: a network of layers whose weights and structure can be changed; `any`: a frozen program too.
        gives: what the next step is handed.
    """

    options: type[O_contra]
    load: Callable[[], PassFunction[O_contra]]
    needs: Needs
    gives: Literal["trainable"] = "trainable"


def _train() -> PassFunction[TrainOptions]:
    from edgekit.passes.train import train

    return train


def _distill() -> PassFunction[DistillOptions]:
    from edgekit.passes.distill.distill import distill

    return distill


def _prune() -> PassFunction[PruneOptions]:
    from edgekit.passes.prune.prune import prune

    return prune


def _reparam() -> PassFunction[ReparamOptions]:
    from edgekit.passes.reparam import reparam

    return reparam


def _equalise() -> PassFunction[EqualiseOptions]:
    from edgekit.passes.equalise.equalise import equalise

    return equalise


def _quantize() -> PassFunction[QuantizeOptions]:
    from edgekit.passes.quantize.quantize import quantize

    return quantize


PASSES: Mapping[str, Pass[Any]] = {
    "train": Pass(TrainOptions, _train, needs="trainable"),
    "distill": Pass(DistillOptions, _distill, needs="trainable"),
    "prune": Pass(PruneOptions, _prune, needs="trainable"),
    "reparam": Pass(ReparamOptions, _reparam, needs="trainable"),
    "equalise": Pass(EqualiseOptions, _equalise, needs="trainable"),
    "quantize": Pass(QuantizeOptions, _quantize, needs="any"),
}


def find_pass(name: str, where: str, table: Mapping[str, Pass[Any]] = PASSES) -> Pass[Any]:
    """The row called `name`.

    Args:
        where: recipe and step that name it, for the error.

    Raises:
        PassError: there is none; the nearest name is offered.
    """
    row = table.get(name)
    if row is not None:
        return row
    raise PassError(f"no pass is called {name!r}", where, suggest(name, sorted(table), "passes"))


def run_pass(
    name: str, model: Model, options: Options, context: Context, table: Mapping[str, Pass[Any]] = PASSES
) -> Model:
    """The model after the pass called `name`; the given model stays as it was.

    Raises:
        PassError: there is no such pass, `options` are another pass's, or the pass itself refuses.
    """
    row = find_pass(name, f"step {name}", table)
    if type(options) is not row.options:
        raise PassError(
            what=f"pass {name!r} takes {row.options.__name__}, not {type(options).__name__}",
            where=f"step {name}",
            fix=f"make the options by {row.options.__name__}(...)",
        )
    result: Model = row.load()(model, options, context)
    return result
