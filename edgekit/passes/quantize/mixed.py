"""Mixed precision: a number format for every layer, with the least noise that a budget allows.

The noise of single layers is measured and added up; which formats give the least of it is solved exactly.

Source: Yao et al., HAWQ-V3, arXiv:2011.10680, section 3.4: the same integer program under the same three budgets. Their
sensitivity is a trace of the Hessian; ours is what rounding does to the outputs.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.errors import PassError
from edgekit.nets.quantisation import QuantisationTable
from edgekit.nets.saved import state_bytes
from edgekit.numerics.allocate import Allocation, Item, Link, allocate, pareto_front
from edgekit.passes.quantize.kernels import bits_of
from edgekit.passes.quantize.latency import layer_times, measure_ms
from edgekit.passes.quantize.sensitivity import Sensitivity, assign, measure_sensitivity
from edgekit.passes.quantize.task import Task
from edgekit.schema.passes import PrecisionBudget
from edgekit.schema.precision import FrontPoint, LayerPrecision, MixedRow

logger = logging.getLogger(__name__)

_POINTS = 33
_SCALE_BYTES, _FLOAT_BYTES = 4, 4
_ROUNDS = 4  # of choosing and measuring, since times of single layers do not quite add up


def choose_numbers(task: Task, table: QuantisationTable) -> QuantisationTable:
    """The table with a number format for every layer; the row of what was found is recorded.

    Raises:
        PassError: no choice of formats keeps to the budget, or it is one of time and there is no device.
    """
    budget = task.options.budget
    assert budget is not None
    found = measure_sensitivity(task, table, budget.numbers)
    problem = _Problem.of(task, table, found, budget)
    chosen = problem.solve(budget.limit)
    if chosen is None:
        raise PassError(
            f"{budget.name} may be {budget.limit:g}, and the least that {', '.join(budget.numbers)} reach is "
            f"{problem.least:g}",
            "step quantize: budget",
            "allow more, or more choices",
        )
    made = problem.table(table, found, chosen, budget)
    measured = None
    if budget.name == "latency_ms":
        chosen, made, measured = _measured(task, table, found, problem, chosen, budget)
    task.context.record(_row(found, problem, chosen, budget, measured))
    counts = Counter(problem.numbers[form] for form in chosen.forms)
    logger.info("budget %s %g: %s", budget.name, budget.limit, dict(counts))
    return made


@dataclass(frozen=True)
class _Problem:
    """What is to be solved: one item for each kernel with codes.

    Attributes:
        kernels: index of the kernel of each item.
        rest: cost of everything that is not chosen.
        noise: of the activations that are rounded whatever is chosen.
        times: p50 of each kernel alone by number format; empty but for a budget of latency.
    """

    kernels: tuple[int, ...]
    numbers: tuple[str, ...]
    items: tuple[Item, ...]
    links: tuple[Link, ...]
    rest: float
    noise: float
    times: tuple[Mapping[str, float], ...] = ()

    @staticmethod
    def of(task: Task, table: QuantisationTable, found: Sensitivity, budget: PrecisionBudget) -> _Problem:
        kernels = tuple(i for i, kernel in enumerate(found.anatomy.kernels) if kernel.weight in table.weights)
        numbers = budget.numbers
        times: tuple[Mapping[str, float], ...] = ()
        if budget.name == "latency_ms":
            times = layer_times(task, table, found, numbers)
            costs = [[times[i][number] for number in numbers] for i in kernels]
            base = numbers.index("int8") if "int8" in numbers else len(numbers) - 1
            same = assign(table, found, dict.fromkeys(kernels, numbers[base]), {})
            whole = measure_ms(task.context.measure, replace(task.model, table=same))
            rest = whole - sum(own[base] for own in costs)
        elif budget.name == "size_bytes":
            costs = [[_size_bytes(found, i, number) for number in numbers] for i in kernels]
            floats = sum(_size_bytes(found, i, "float") for i in kernels)
            rest = state_bytes(replace(task.model, table=None)) - floats
        else:
            macs = [found.anatomy.kernels[i].macs for i in kernels]
            whole = 64 * sum(macs)
            costs = [[one * _bits(number, table.activations) / whole for number in numbers] for one in macs]
            rest = 0.0
        items = [
            Item(tuple(found.weights[i].get(number, 0.0) for number in numbers), tuple(own))
            for i, own in zip(kernels, costs, strict=True)
        ]
        links, noise = _links(found, kernels, numbers)
        return _Problem(kernels, numbers, tuple(items), links, rest, noise, times)

    @property
    def least(self) -> float:
        """The cost of the cheapest choice."""
        return sum(min(item.costs) for item in self.items) + self.rest

    def solve(self, limit: float) -> Allocation | None:
        """The choice of least noise whose whole cost is at most `limit`."""
        return allocate(self.items, limit - self.rest, self.links)

    def table(
        self, table: QuantisationTable, found: Sensitivity, chosen: Allocation, budget: PrecisionBudget
    ) -> QuantisationTable:
        """`table` with the chosen formats; layers above the lowest of them are said to be kept."""
        numbers = {kernel: self.numbers[form] for kernel, form in zip(self.kernels, chosen.forms, strict=True)}
        lowest = min(numbers.values(), key=bits_of)
        if lowest == "float":  # all of them; no convention may quantise what is not said to be kept
            lowest = min(self.numbers, key=bits_of)
        reasons = {}
        for kernel, number in numbers.items():
            times = self.times[kernel] if self.times else {}
            if bits_of(number) > bits_of(lowest):
                why = f"{lowest} would add {found.weights[kernel][lowest]:.1e} to the error of the outputs"
                if times and times[number] <= times[lowest]:
                    why = f"faster alone than in {lowest}: {times[number]:.4g} ms, not {times[lowest]:.4g}"
                reasons[kernel] = f"budget {budget.name} {budget.limit:g}: {why}"
        return assign(table, found, numbers, reasons)


def _measured(
    task: Task,
    table: QuantisationTable,
    found: Sensitivity,
    problem: _Problem,
    chosen: Allocation,
    budget: PrecisionBudget,
) -> tuple[Allocation, QuantisationTable, float]:
    """The choice that keeps to a budget of time when it is measured: what is over is taken off the next try's limit."""
    limit = budget.limit
    for _ in range(_ROUNDS):
        made = problem.table(table, found, chosen, budget)
        measured = measure_ms(task.context.measure, replace(task.model, table=made))
        limit -= measured - budget.limit
        tighter = problem.solve(limit) if measured > budget.limit else None
        if tighter is None:
            break
        chosen = tighter
    if measured > budget.limit:
        logger.warning("budget latency_ms %g: the network takes %.3f ms as chosen", budget.limit, measured)
    return chosen, made, measured


def _links(found: Sensitivity, kernels: Sequence[int], numbers: Sequence[str]) -> tuple[tuple[Link, ...], float]:
    """Activations that are in float where all of their ends are, and the noise of those that never are."""
    item = {kernel: i for i, kernel in enumerate(kernels)}
    free = frozenset({numbers.index("float")}) if "float" in numbers else frozenset[int]()
    links, noise = [], 0.0
    for wire, own in zip(found.anatomy.wires, found.wires, strict=True):
        if free and wire.ends <= item.keys():
            links.append(Link(own, {item[end]: free for end in wire.ends}))
        else:
            noise += own
    return tuple(links), noise


def _bits(number: str, activations: str) -> int:
    """Bit operations of one multiply-accumulate."""
    return bits_of(number) * bits_of("float" if number == "float" else activations)


def _size_bytes(found: Sensitivity, kernel: int, number: str) -> int:
    """Bytes of a kernel's weight as `state_bytes` counts them."""
    one = found.anatomy.kernels[kernel]
    if number == "float" or one.weight is None:
        return one.params * _FLOAT_BYTES
    return -(-one.params * bits_of(number) // 8) + found.codes[number][one.weight].scale.numel() * _SCALE_BYTES


def _row(
    found: Sensitivity, problem: _Problem, chosen: Allocation, budget: PrecisionBudget, measured: float | None
) -> MixedRow:
    layers = [
        LayerPrecision(
            layer=found.anatomy.kernels[kernel].name,
            number=problem.numbers[form],
            macs=found.anatomy.kernels[kernel].macs,
            params=found.anatomy.kernels[kernel].params,
            noise=dict(found.weights[kernel]),
            latency_ms=dict(problem.times[kernel]) if problem.times else {},
        )
        for kernel, form in zip(problem.kernels, chosen.forms, strict=True)
    ]
    front = [
        FrontPoint(
            cost=point.cost + problem.rest,
            noise=point.loss + problem.noise,
            numbers=dict(Counter(problem.numbers[form] for form in point.forms)),
        )
        for point in pareto_front(problem.items, _POINTS, problem.links)
    ]
    return MixedRow(
        budget_name=budget.name,
        budget=budget.limit,
        cost=chosen.cost + problem.rest,
        measured=measured,
        noise=chosen.loss + problem.noise,
        layers=tuple(layers),
        front=tuple(front),
    )
