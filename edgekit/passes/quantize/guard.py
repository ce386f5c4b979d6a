"""The guard: precision is raised where it has to be, until the metric drops by no more than it may.

What is judged is the metric on the selection split, of the program that the artifact will compute. Which kernels are
raised is looked for along the Pareto front of noise against work, by bisection, so few programs are made; then each
raise that turns out not to be needed is taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from torch import nn

from edgekit.data.metrics.metric import Outputs
from edgekit.data.samples import Samples, filled, in_batches
from edgekit.data.score import take
from edgekit.errors import PassError
from edgekit.nets.quantisation import QuantisationTable
from edgekit.nets.steps import answer, named_inputs, sample_specs
from edgekit.numerics.allocate import Allocation, Item, Link, pareto_front, total
from edgekit.passes.quantize.kernels import Kernel, bits_of, work
from edgekit.passes.quantize.sensitivity import Sensitivity, assign, measure_sensitivity
from edgekit.passes.quantize.task import Task
from edgekit.schema.precision import GuardRow

logger = logging.getLogger(__name__)

Holds: TypeAlias = Callable[[Sequence[int]], bool]

MAX_DROP = 0.005
_BATCH = 50
_POINTS = 33  # of the front: five steps of bisection
_WIDE = "int8"  # what a narrower weight is raised to before its layer is computed in float
_REPLICATES = 1000
_SEED = 0


def guard(task: Task, table: QuantisationTable) -> QuantisationTable:
    """The table with precision raised where the metric asks for it; the row of what was found is recorded.

    Where not even a network raised as a whole holds the bound, it stays raised, and the row says that it does not hold.

    Raises:
        PassError: there is no selection split.
    """
    selection = task.context.splits.selection
    if selection is None or len(selection) == 0:
        raise PassError(
            "mode auto judges by the metric on the selection split, and there is none",
            "step quantize",
            "give the calibration set a selection split, or set mode: fixed",
        )
    judge = _Judge(task, selection)
    asked = judge(table)
    if asked.holds:
        logger.info("mode auto: the metric drops by %.4f, nothing is raised", asked.drop)
        _record(judge, asked, asked)
        return table
    logger.info("mode auto: the metric drops by %.4f, more than %.4f", asked.drop, judge.max_drop)
    ladder = _Ladder.measure(task, table)
    chosen = _search(ladder, lambda forms: judge(ladder.table(forms, judge.max_drop)).holds)
    found = ladder.table(chosen, judge.max_drop)
    judged = judge(found)
    _record(judge, asked, judged)
    if not judged.holds:
        logger.warning(
            "mode auto: even with everything raised the metric drops by %.4f, more than %.4f",
            judged.drop,
            judge.max_drop,
        )
    return found


@dataclass(frozen=True)
class _Judged:
    """A program on the selection split: `drop` of the metric, and what it gave for every sample, postprocessed."""

    outputs: Outputs
    metric: float
    drop: float
    holds: bool


class _Judge:
    """Judges tables, each at most once."""

    def __init__(self, task: Task, selection: Samples) -> None:
        self.max_drop = MAX_DROP if task.options.max_drop is None else task.options.max_drop
        self.evaluations = 0
        self.task, self._selection = task, selection
        self.samples = len(selection)
        self._score, self._labels = task.context.score, selection.labels.numpy()
        self._reference = self._outputs(task.model.network.eval(), _BATCH)
        self.float_metric = self._score.metric(self._reference, self._labels)
        self._seen: dict[tuple[tuple[str, str], ...], _Judged] = {}

    def __call__(self, table: QuantisationTable) -> _Judged:
        key = tuple(sorted((name, kept.number) for name, kept in table.kept.items()))
        if key not in self._seen:
            self.evaluations += 1
            batch = min(_BATCH, len(self._selection))
            program = self.task.context.lower(replace(self.task.model, table=table), batch)
            outputs = self._outputs(program, batch)
            metric = self._score.metric(outputs, self._labels)
            # metrics are shares of counts: 0.57 - 0.565 must not read as more than 0.005
            drop = round(self._score.drop(self.float_metric, metric), 12)
            self._seen[key] = _Judged(outputs, metric, drop, drop <= self.max_drop)
            self.task.context.progress(self.evaluations, self.evaluations + 1, "looking for what has to be raised")
        return self._seen[key]

    def interval(self, judged: _Judged) -> tuple[float, float]:
        """The middle 95 % of drops over resampled samples, the same samples for both networks."""
        generator = np.random.default_rng(_SEED)
        drops = []
        for _ in range(_REPLICATES):
            drawn = generator.integers(0, len(self._labels), len(self._labels))
            before, after = (
                self._score.metric(take(outputs, drawn), self._labels[drawn])
                for outputs in (self._reference, judged.outputs)
            )
            drops.append(self._score.drop(before, after))
        low, high = np.percentile(drops, [2.5, 97.5])
        return float(low), float(high)

    def _outputs(self, network: nn.Module, batch: int) -> Outputs:
        """What the metric is given; the last batch is filled up, since a program takes no smaller one."""
        model, samples = self.task.model, self._selection
        found = answer(model, network, in_batches(filled(samples.inputs, batch), batch))
        outputs = {name: array[: len(samples)] for name, array in found.items()}
        return self._score.prepare(named_inputs(sample_specs(model.inputs), samples.inputs), outputs)


@dataclass(frozen=True)
class _Ladder:
    """Every kernel's precisions, from the one that was asked for up to float.

    Attributes:
        numbers: of every kernel; one without a weight has that of the activations, and float.
    """

    base: QuantisationTable
    sensitivity: Sensitivity
    numbers: tuple[tuple[str, ...], ...]
    items: tuple[Item, ...]
    links: tuple[Link, ...]

    @staticmethod
    def measure(task: Task, table: QuantisationTable) -> _Ladder:
        asked = task.options.weights
        steps = (asked, _WIDE, "float") if bits_of(asked) < bits_of(_WIDE) else (asked, "float")
        bare = (table.activations, "float") if table.edges else (table.activations,)
        found = measure_sensitivity(task, table, steps)
        numbers: list[tuple[str, ...]] = []
        items: list[Item] = []
        for kernel, noise in zip(found.anatomy.kernels, found.weights, strict=True):
            own = steps if kernel.weight is not None else bare
            if any(layer in table.kept and table.kept[layer].number == "float" for layer in kernel.layers):
                own = ("float",)
            losses = tuple(noise.get(number, 0.0) for number in own)
            numbers.append(own)
            items.append(Item(losses, tuple(_work(kernel, number, table.activations) for number in own)))
        links = tuple(
            Link(noise, {end: frozenset({len(numbers[end]) - 1}) for end in wire.ends})
            for wire, noise in zip(found.anatomy.wires, found.wires, strict=True)
        )
        return _Ladder(table, found, tuple(numbers), tuple(items), links)

    def front(self) -> tuple[Allocation, ...]:
        """From nothing raised to everything."""
        nothing, everything = [0] * len(self.items), [len(own) - 1 for own in self.numbers]
        between = pareto_front(self.items, _POINTS, self.links)
        ends = [total(self.items, forms, self.links) for forms in (nothing, everything)]
        return (ends[0], *(point for point in between if ends[0].cost < point.cost < ends[1].cost), ends[1])

    def share(self, kernel: int) -> float:
        """Share of the noise, summed over weights and activations, that a kernel's weight and activations make."""
        whole = total(self.items, [0] * len(self.items), self.links).loss
        own = self.items[kernel].losses[0] + sum(link.loss for link in self.links if kernel in link.free)
        return own / whole if whole else 0.0

    def table(self, forms: Sequence[int], max_drop: float) -> QuantisationTable:
        """The asked table with these forms."""
        raised = {index: self.numbers[index][form] for index, form in enumerate(forms) if form}
        reasons = {
            index: f"mode auto, max_drop {max_drop:g}: makes {self.share(index):.1%} of the error of the outputs, with "
            "the activations that it shares with its neighbours"
            for index in raised
        }
        return assign(self.base, self.sensitivity, raised, reasons)


def _search(ladder: _Ladder, holds: Holds) -> tuple[int, ...]:
    """Forms that hold at little work: a bisection along the front, then raises are taken back while it still holds."""
    front = ladder.front()
    low, high = (
        0,
        len(front) - 1,
    )  # nothing raised does not hold; everything raised is taken to, and tried only if asked
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(front[middle].forms) else (middle, high)
    forms = list(front[high].forms)
    if high == len(front) - 1 and not holds(forms):
        return tuple(forms)
    raised = [index for index, form in enumerate(forms) if form]
    raised.sort(key=lambda index: _worth(ladder, forms, index))
    return tuple(_lower_back(ladder, forms, raised, holds, known=True))


def _worth(ladder: _Ladder, forms: Sequence[int], index: int) -> float:
    """Noise that comes back for each unit of work that is saved when one kernel is lowered to what was asked for."""
    lowered = total(ladder.items, [*forms[:index], 0, *forms[index + 1 :]], ladder.links)
    now = total(ladder.items, forms, ladder.links)
    return (lowered.loss - now.loss) / (now.cost - lowered.cost)


def _lower_back(
    ladder: _Ladder,
    forms: list[int],
    raised: Sequence[int],
    holds: Holds,
    known: bool = False,
) -> list[int]:
    """Lower all of `raised` together if that holds, else each half by itself.

    Args:
        known: that all of them together do not hold.
    """
    if not raised:
        return forms
    if not known:
        lowered = [0 if index in raised else form for index, form in enumerate(forms)]
        if holds(lowered):
            return lowered
    if len(raised) == 1:
        return _one_step_down(ladder, forms, raised[0], holds)
    half = len(raised) // 2
    forms = _lower_back(ladder, forms, raised[:half], holds)
    return _lower_back(ladder, forms, raised[half:], holds)


def _one_step_down(ladder: _Ladder, forms: list[int], index: int, holds: Holds) -> list[int]:
    """A kernel that is needed higher than asked for may not be needed in float."""
    for form in range(1, forms[index]):
        lowered = [*forms[:index], form, *forms[index + 1 :]]
        if holds(lowered):
            return lowered
    return forms


def _work(kernel: Kernel, number: str, activations: str) -> float:
    return work(kernel, number, "float" if number == "float" else activations)


def _record(judge: _Judge, asked: _Judged, found: _Judged) -> None:
    low, high = judge.interval(found)
    if judge.max_drop < 1 / judge.samples:
        logger.warning(
            "mode auto: max_drop %g is finer than one of the %d samples of the selection split, so none may be lost",
            judge.max_drop,
            judge.samples,
        )
    if found.holds and high > judge.max_drop:
        logger.warning(
            "mode auto: a drop of %.4f on %d samples may be one of %.4f to %.4f; a larger selection split tells more",
            found.drop,
            judge.samples,
            low,
            high,
        )
    judge.task.context.record(
        GuardRow(
            max_drop=judge.max_drop,
            holds=found.holds,
            float_metric=judge.float_metric,
            asked_metric=asked.metric,
            metric=found.metric,
            drop=found.drop,
            drop_low=low,
            drop_high=high,
            samples=judge.samples,
            evaluations=judge.evaluations,
        )
    )
