"""Whether a rewritten network is the same function: every pass that promises so measures it before it returns."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.passes.context import Context

EXACT_RATIO = 1e-9  # what is the same map differs in float64 by rounding alone
_CALIBRATION_SAMPLES = 32


def relative_error(old: object, new: object) -> float:
    """Largest difference over all outputs, each relative to its own largest value; infinite where one is not finite."""
    worst = 0.0
    for before, after in zip(pytree.tree_leaves(old), pytree.tree_leaves(new), strict=True):
        largest = before.abs().max().clamp_min(torch.finfo(before.dtype).tiny)
        error = ((after - before).abs().max() / largest).item()
        worst = max(worst, error if error == error else float("inf"))
    return worst


def doubled(inputs: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The same inputs in float64; integers stay what they are."""
    return tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)


def refuse_difference(error: float, step: str, where: str, dtype: torch.dtype, tolerance: float) -> None:
    """Raise unless `error`, relative to the largest output, is at most `tolerance`.

    Raises:
        PassError: it is larger, or not a number.
    """
    if not error <= tolerance:
        raise PassError(
            what=f"the output changed by {error:.2e} of its largest value in {dtype}; allowed {tolerance:.0e}",
            where=f"step {step}, {where}",
            fix="raise tolerance if the difference is float32 rounding of huge weights; else report the layer",
        )


def check_network(
    model: Model,
    new: nn.Module,
    exact: nn.Module,
    exact_new: nn.Module,
    context: Context,
    step: str,
    tolerance: float,
    *,
    random_inputs: bool = True,
) -> float:
    """The largest relative difference seen in float32 between `model` and `new`.

    Args:
        exact, exact_new: both networks in float64, whose outputs may differ by `EXACT_RATIO`.
        random_inputs: compare on them, and not on calibration samples alone.

    Raises:
        PassError: outputs differ.
    """
    feeds = [("random inputs", model.example(batch=4))] if random_inputs else []
    feeds.append(("calibration samples", context.splits.calibration.head(_CALIBRATION_SAMPLES).inputs))
    worst = 0.0
    for label, inputs in feeds:
        where = f"the whole network on {label}"
        with torch.no_grad():
            error = relative_error(model.network(*inputs), new(*inputs))
            exact_error = relative_error(exact(*doubled(inputs)), exact_new(*doubled(inputs)))
        refuse_difference(error, step, where, torch.float32, tolerance)
        refuse_difference(exact_error, step, where, torch.float64, EXACT_RATIO)
        worst = max(worst, error)
    return worst
