"""Running the steps of a plan: taken from the store where they are there, else run, measured and stored."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from edgekit.data.samples import Splits
from edgekit.data.score import Score
from edgekit.data.splits import LoadedData, find_data
from edgekit.errors import DataError, PassError
from edgekit.formats.conventions.convention import find_convention
from edgekit.formats.conventions.lowering import lower
from edgekit.nets.count import count_macs, count_params
from edgekit.nets.load import build as build_model
from edgekit.nets.model import Model
from edgekit.nets.saved import load_model, save_model, state_bytes
from edgekit.nets.steps import step_samples
from edgekit.passes.context import Context
from edgekit.passes.table import PASSES, Pass, run_pass
from edgekit.pipeline.check_data import check_data
from edgekit.pipeline.evaluate import network_metric
from edgekit.pipeline.latency import measure_model
from edgekit.pipeline.parity import output_edges
from edgekit.pipeline.plan import Plan, PlannedStep
from edgekit.pipeline.progress import Reporter
from edgekit.schema.base import Record
from edgekit.schema.calibration import CalibrationRow
from edgekit.schema.device import Device
from edgekit.schema.distilled import DistillRow
from edgekit.schema.manifest import Measure, Skipped, StepRow
from edgekit.schema.precision import GuardRow, MixedRow
from edgekit.schema.profile import Profile
from edgekit.schema.pruned import PruneRow
from edgekit.schema.recipe import ModelSource
from edgekit.schema.sparsity import SparsityRow
from edgekit.store.steps import StepStore

_log = logging.getLogger(__name__)
_MEASURE, _RECORDS, _MODEL = "measure.json", "records.json", "model"
# what a pass may record -> the key of it in the step's row
_KEYS: Mapping[type[Record], str] = {
    CalibrationRow: "calibration",
    GuardRow: "guard",
    MixedRow: "mixed",
    DistillRow: "distill",
    PruneRow: "prune",
    SparsityRow: "sparsity",
}


class Stage:
    """A model after a step; read from the store only when somebody asks for it."""

    def __init__(self, key: str, row: StepRow, folder: Path) -> None:
        self.key = key
        self.row = row
        self._folder = folder

    @cached_property
    def model(self) -> Model:
        """The model itself."""
        return load_model(self._folder / _MODEL)

    @cached_property
    def output_edges(self) -> dict[str, str]:
        """Activation name of each of its outputs."""
        return output_edges(self.model)


@dataclass(frozen=True)
class Workshop:
    """What running needs besides the plan.

    Attributes:
        load_data: data sets are read once, and not at all when every step is stored.
        device: where passes may measure; None: nowhere.
    """

    plan: Plan
    store: StepStore
    reporter: Reporter
    table: Mapping[str, Pass[Any]] = field(default_factory=lambda: PASSES)
    load_data: Callable[[str], LoadedData] = find_data
    device: Device | None = None

    @cached_property
    def data(self) -> LoadedData:
        """The recipe's samples.

        Raises:
            DataError: they cannot be had, or the user's own function gives others than the plan knows of.
        """
        name = self.plan.recipe.recipe.data
        with self.reporter.task(f"reading {name}"):
            data = self.load_data(name)
        if self.plan.around.data.get("content") not in (None, data.digest):
            raise DataError(
                "the function gives other samples than it gave the last build",
                f"data: {name}",
                "build again: what is stored was made from those",
            )
        return data

    @cached_property
    def score(self) -> Score:
        """What the recipe judges by."""
        recipe, calibration = self.plan.recipe.recipe, self.plan.calibration
        classes = () if calibration is None else calibration.calibration.classes
        return Score.of(recipe.metric, recipe.postprocess, classes)

    def measure(self, model: Model) -> Profile | None:
        """A model's latency on the device, in the target's first format; None without a device."""
        if self.device is None:
            return None
        return measure_model(model, self.device, self.plan.target.target, self.plan.recipe.recipe.export)

    def lower(self, model: Model, batch: int) -> nn.Module:
        """The Q/DQ program of a quantised model under the target's first convention."""
        convention = find_convention(self.plan.target.target.formats[0].convention)
        return lower(model, convention, batch).module


@dataclass(frozen=True)
class Stages:
    """Every model of a build, in the order of the plan; steps of teachers, as far as anything was asked of them."""

    model: tuple[Stage, ...]
    teachers: tuple[Stage, ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def rows(self) -> tuple[StepRow, ...]:
        """The teachers' steps first: they were needed first."""
        return tuple(stage.row for stage in (*self.teachers, *self.model))


def run_steps(workshop: Workshop) -> Stages:
    """Every step of the plan, the teachers' only when a step that is not stored asks for them.

    Raises:
        EdgekitError: of the pass that failed; what was finished before it is stored.
    """
    plan, recipe = workshop.plan, workshop.plan.recipe.recipe
    sources = {who: teacher.model for who, teacher in recipe.taught_by.items()}
    chains = [_Chain(workshop, sources[steps[0].who], steps, _no_teacher) for steps in plan.teachers]

    def teachers(index: int) -> tuple[Model, ...]:
        if chains:
            return tuple(chain.finish() for chain in chains)
        return (main.stage(plan.original(index)).model,)

    main = _Chain(workshop, recipe.model, plan.steps, teachers)
    main.finish()
    skipped = []
    for chain, steps in zip(chains, plan.teachers, strict=True):
        if chain.stages:
            continue
        if all(step.cached for step in steps):
            chain.take_all()
        else:
            reason = "every step that learns from it was stored, and it is not"
            skipped.append(Skipped(what="teacher", where=f"{steps[0].who}.steps", reason=reason))
    taught = tuple(stage for chain in chains for stage in chain.stages)
    return Stages(tuple(main.stages), taught, tuple(skipped))


def _no_teacher(_index: int) -> tuple[Model, ...]:
    raise PassError("a teacher has no teacher of its own", "teacher.steps", "train the teacher instead")


class _Chain:
    """Steps of one model, run in order as far as they are asked for."""

    def __init__(
        self,
        workshop: Workshop,
        source: ModelSource,
        steps: tuple[PlannedStep, ...],
        teachers: Callable[[int], tuple[Model, ...]],
    ) -> None:
        """`teachers` gives those of the step with an index."""
        self.stages: list[Stage] = []
        self._workshop, self._source, self._steps, self._teachers = workshop, source, steps, teachers
        self._waited_s = 0.0

    def finish(self) -> Model:
        self.take_all()
        return self.stages[-1].model

    def take_all(self) -> None:
        self.stage(len(self._steps) - 1)

    def stage(self, index: int) -> Stage:
        while len(self.stages) <= index:
            self.stages.append(self._next(self._steps[len(self.stages)]))
        return self.stages[index]

    def _next(self, step: PlannedStep) -> Stage:
        workshop = self._workshop
        title = step.name if step.who == "model" else f"{step.name} ({step.who})"
        before = self.stages[-1] if self.stages else None
        started, self._waited_s = time.monotonic(), 0.0
        folder = workshop.store.find(step.key.key)
        cached = folder is not None
        if folder is None:
            folder = self._run(step, title, before)
        after = Measure.model_validate_json((folder / _MEASURE).read_bytes())
        seconds = time.monotonic() - started - self._waited_s
        row = StepRow(
            name=step.name,
            model=step.who,
            options=step.options.model_dump(mode="json") if step.options else self._source.named,
            key=step.key.key,
            cached=cached,
            seconds=round(seconds, 3),
            before=before.row.after if before else None,
            after=after,
            **json.loads((folder / _RECORDS).read_bytes()),
        )
        workshop.reporter.note(f"{title}: {'stored' if cached else f'{seconds:.1f} s'}{_told(after)}")
        return Stage(step.key.key, row, folder)

    def _ask_teachers(self) -> tuple[Model, ...]:
        """The teachers; the time that their own steps take is theirs, not that of the step that asks."""
        asked = time.monotonic()
        models = self._teachers(len(self.stages))
        self._waited_s += time.monotonic() - asked
        return models

    def _run(self, step: PlannedStep, title: str, before: Stage | None) -> Path:
        workshop = self._workshop
        seed = workshop.plan.recipe.recipe.seed
        records: dict[str, object] = {}
        with workshop.reporter.task(title) as update:
            if before is None:
                model = build_model(self._source, seed)
            else:
                assert step.options is not None
                context = Context(
                    target=workshop.plan.target.target,
                    splits=_for_steps(before.model, workshop.data.splits),
                    score=workshop.score,
                    teachers=self._ask_teachers,
                    measure=workshop.measure,
                    lower=workshop.lower,
                    seed=seed,
                    progress=update,
                    folder=workshop.store.checkpoints(step.key.key),
                    record=lambda row: records.update({_KEYS[type(row)]: row.model_dump(mode="json")}),
                )
                model = run_pass(step.name, before.model, step.options, context, workshop.table)
            measured = measure(model, workshop)

        def write(folder: Path) -> None:
            save_model(model, folder / _MODEL)
            (folder / _MEASURE).write_text(measured.model_dump_json(), encoding="utf-8")
            (folder / _RECORDS).write_text(json.dumps(records), encoding="utf-8")

        return workshop.store.put(step.key.key, write, step.key.parts)


def _for_steps(model: Model, splits: Splits) -> Splits:
    """The splits, with calibration samples of single steps where the network is one; it is judged on sequences."""
    return replace(splits, calibration=step_samples(model, splits.calibration))


def measure(model: Model, workshop: Workshop) -> Measure:
    """Size, work and, where there is a selection split, the metric of a float network."""
    splits = workshop.data.splits
    check_data(model, workshop.data, workshop.plan.recipe.recipe)
    return Measure(
        params=count_params(model.network),
        macs=count_macs(model),
        size_bytes=state_bytes(model),
        metric=None if splits.selection is None else network_metric(model, splits.selection, workshop.score)[0],
    )


def _told(after: Measure) -> str:
    metric = "" if after.metric is None else f", metric {after.metric:.4f} on the selection split"
    return f" ({after.params:,} parameters, {after.macs:,} MACs{metric})"
