"""What a budget bounds, of a network that was really cut."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edgekit.errors import DeviceError
from edgekit.nets.count import count_macs, count_params
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.prune.latency import LatencyTable, measure_ms
from edgekit.schema.prune import PruneBudget

logger = logging.getLogger(__name__)

Cost = Callable[[Model], float]


def exact_cost(budget: PruneBudget, context: Context) -> Cost:
    """The bounded quantity of a model: counted, or measured as a whole on the device."""
    if budget.measured:
        return lambda model: measure_ms(context.measure, model)
    return _COUNTED[budget.name]


def quick_cost(budget: PruneBudget, context: Context) -> Cost:
    """The same for a search that asks often: latency is the sum of a table of layers, measured as it grows."""
    return LatencyTable(context.measure).total if budget.measured else _COUNTED[budget.name]


def saved_cost(model: Model, budget: PruneBudget, context: Context) -> Cost:
    """What a search under a counted budget weighs damage with: ms of single layers where a device measures them.

    Multiply-accumulates do not say what a kernel takes: widths off its blocks are slower than wider ones.
    """
    try:
        timed = context.measure(model) is not None
    except DeviceError as err:
        logger.info("prune: cuts are weighed by the budget's quantity, not by time: %s", err)
        timed = False
    return LatencyTable(context.measure).total if timed else _COUNTED[budget.name]


def bound_of(budget: PruneBudget, whole: float) -> float:
    """The largest allowed cost, where the whole network costs `whole`."""
    return budget.limit if budget.name == "latency_ms" else budget.limit * whole


def count_bytes(model: Model) -> int:
    """Bytes of all stored tensors: parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.network.state_dict().values())


_COUNTED: dict[str, Cost] = {
    "macs_ratio": count_macs,
    "params_ratio": lambda model: count_params(model.network),
    "size_ratio": count_bytes,
}
