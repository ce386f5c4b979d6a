"""The plan of a build: steps and artifacts in order, checked, keyed, looked up in the store. No torch, nothing runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import DataError, PassError
from edgekit.passes.table import PASSES, Pass, find_pass
from edgekit.pipeline import keys
from edgekit.pipeline.choose import Variant, choose_variants
from edgekit.pipeline.keys import Keyed, Surroundings
from edgekit.release.gates import merge_gates
from edgekit.schema.base import Options
from edgekit.schema.distill import ENSEMBLES, TEACHER_FREE, DistillOptions
from edgekit.schema.gates import TOLERATED_CODES, Gates
from edgekit.schema.load import LoadedCalibration, LoadedRecipe, LoadedTarget
from edgekit.schema.manifest import Override
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import ModelSource, Recipe, Step
from edgekit.schema.recover import PlacedStep, spell_out
from edgekit.schema.scheme import ArtifactPrecision, is_minifloat, precision_of
from edgekit.schema.validate import place, validate
from edgekit.store.steps import StepStore

_LEARNS_FROM_SAMPLES = frozenset({"train", "distill"})
_LEARNS_FROM_TEACHER = frozenset({"distill"})
_QUANTISES = frozenset({"quantize"})


@dataclass(frozen=True)
class PlannedStep:
    """One step to be run or taken from the store.

    Attributes:
        name: of the pass; `load` for the network as the recipe describes it.
        who: `model`, or the key of the teacher that it is a step of.
        options: None for `load`.
        why: why it is not stored, one difference a line; empty when it is, or when nobody asked.
    """

    name: str
    who: str
    options: Options | None
    key: Keyed
    cached: bool
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedArtifact:
    """One file to be exported and run."""

    variant: Variant
    export: Keyed
    run: Keyed | None
    cached: bool
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Everything that a build will do.

    Attributes:
        steps: of the model; the first one loads it. A `recover` block is one of them.
        teachers: steps of each teacher, likewise; empty when no step asks for one, or there is no other than the model.
        reference: index in `steps` of the float network that compression is compared with: the last step before the
            first one that does anything else than learn, or that makes a trained network sparse.
        calibration: None where the data come from the user's own function.
        gates: the target's with the recipe's.
        around: what every key shares.
    """

    recipe: LoadedRecipe
    target: LoadedTarget
    calibration: LoadedCalibration | None
    gates: Gates
    around: Surroundings
    steps: tuple[PlannedStep, ...]
    teachers: tuple[tuple[PlannedStep, ...], ...]
    reference: int
    artifacts: tuple[PlannedArtifact, ...]

    @property
    def name(self) -> str:
        """Name of the bundle's folder."""
        return f"{self.recipe.recipe.name}-{self.target.target.name}"

    @property
    def every_step(self) -> tuple[PlannedStep, ...]:
        """Those of the teachers, then those of the model."""
        return (*(step for chain in self.teachers for step in chain), *self.steps)

    def original(self, index: int) -> int:
        """Index of the step that step `index` learns from where the recipe has no teacher."""
        return _original(index, self.reference)

    @property
    def parity_codes(self) -> int:
        """Largest difference in integer codes that parity tolerates: what the gate says, or `TOLERATED_CODES`."""
        return _parity_codes(self.gates)

    @property
    def overrides(self) -> tuple[Override, ...]:
        """Files of the user's that stand in for shipped ones."""
        own = (self.target.override, self.calibration.override if self.calibration else None)
        return self.recipe.overrides + tuple(override for override in own if override is not None)


def make_plan(
    recipe: LoadedRecipe,
    target: LoadedTarget,
    calibration: LoadedCalibration | None,
    store: StepStore,
    *,
    own_data: str | None = None,
    device: str | None = None,
    allow_override: bool = False,
    explain: bool = False,
    table: Mapping[str, Pass[Any]] = PASSES,
) -> Plan:
    """The plan of building `recipe` for `target`.

    Args:
        calibration: None where the recipe's data come from the user's own function.
        own_data: digest of what that function gave when it last ran; None: it never did.
        device: name of the one that is measured on: float versions are exported too, to compare speeds with.
        allow_override: let the recipe loosen a gate of the target.
        explain: say of each step that is not stored why not.

    Raises:
        PassError: a step is unknown or stands where it cannot.
        DataError: a step learns from samples, and the calibration set has no train split.
        SchemaError: options, formats or gates that cannot be.
    """
    written, where = recipe.recipe, recipe.path.name
    check_order(written, calibration, where, table, device=device)
    gates = merge_gates(target.target.gates, written.gates, allow_override=allow_override)
    around = Surroundings(
        keys.data_parts(written.data, calibration, own_data),
        keys.metric_parts(written.metric, written.postprocess),
        target.target,
        device,
    )
    drafts = _Drafts(store, explain, around, gates, written.seed, where, table)
    placed = spell_out(written.steps)
    teachers: tuple[tuple[PlannedStep, ...], ...] = ()
    if any(_learns_from_teacher(one.step) for one in placed):
        taught = written.taught_by.items()
        teachers = tuple(drafts.chain(who, teacher.model, spell_out(teacher.steps), (), 0) for who, teacher in taught)
    reference = _reference(placed, written.model)
    steps = drafts.chain("model", written.model, placed, [chain[-1].key.key for chain in teachers], reference)
    quantised = any(one.step.name in _QUANTISES for one in placed)
    restructured = any(one.step.name not in _QUANTISES for one in placed[reference:])
    variants = choose_variants(
        target.target,
        written.export,
        quantised=quantised,
        precision=_precision(steps, where),
        compare=device is not None,
        restructured=restructured,
    )
    sources = {"last": steps[-1].key.key, "reference": steps[reference].key.key}
    artifacts = tuple(drafts.artifact(variant, recipe, sources[variant.of]) for variant in variants)
    return Plan(recipe, target, calibration, gates, around, steps, teachers, reference, artifacts)


def check_order(
    recipe: Recipe,
    calibration: LoadedCalibration | None,
    where: str,
    table: Mapping[str, Pass[Any]] = PASSES,
    *,
    device: str | None = None,
) -> None:
    """Refuse what could only fail after hours: steps in an impossible order, or without what they need.

    Raises:
        PassError: see the messages.
        DataError: a step learns from samples, and there is no train split; or judges by the selection split.
    """
    lines = {"model": recipe.steps} | {who: teacher.steps for who, teacher in recipe.taught_by.items()}
    for who, steps in lines.items():
        placed = spell_out(steps)
        reference = _reference(placed, recipe.model if who == "model" else recipe.taught_by[who].model)
        quantised_at: int | None = None
        for i, one in enumerate(placed):
            step, at = one.step, _place(where, who, one)
            find_pass(step.name, at, table)
            if quantised_at is not None:
                raise PassError(
                    f"{step.name!r} comes after quantize, whose codes would no longer be those of the network",
                    at,
                    f"move it before step {quantised_at}; quantize is the last step",
                )
            if step.name in _QUANTISES:
                quantised_at = one.index
                if who != "model":
                    raise PassError("a teacher is not exported, so it is not quantised", at, "remove the step")
                _check_judged(step, calibration, at)
            _check_timed(step, at, device)
            if _needs_training(step) and calibration is not None and calibration.calibration.train is None:
                raise DataError(
                    f"{step.name!r} needs training samples, and {calibration.calibration.name!r} has no train split",
                    at,
                    "name a calibration set with `train:`, or remove the step",
                )
            if _learns_from_teacher(step):
                _check_taught(recipe, step, at, who, untrained=_original(i + 1, reference) == 0)


def _check_taught(recipe: Recipe, step: Step, at: str, who: str, *, untrained: bool) -> None:
    """There is somebody to learn from, in a number that the method takes. `untrained`: but for the model as loaded."""
    if who != "model":
        raise PassError("a teacher has no teacher of its own", at, "train the teacher, or set method: uskd")
    has_weights = recipe.model.checkpoint is not None or recipe.model.file is not None
    if not recipe.taught_by and untrained and not has_weights:
        raise PassError(
            f"{step.name!r} has nothing to learn from: no `teacher:`, and the model is loaded without weights",
            at,
            "add a teacher to the recipe, or a checkpoint to its model; or let it `train` before what compresses it",
        )
    method = step.options.get("method", DistillOptions.model_fields["method"].default)
    if len(recipe.taught_by) > 1 and method not in ENSEMBLES:
        raise PassError(
            f"method {method} learns from one teacher, and the recipe has {len(recipe.taught_by)}",
            at,
            f"set method to one of {', '.join(sorted(ENSEMBLES))}, or keep one teacher",
        )


def _needs_training(step: Step) -> bool:
    """Whether a step cannot do without training samples. Wrong options are for their own check to refuse."""
    gates = step.options.get("autobot")
    elsewhere = isinstance(gates, dict) and gates.get("split") == "calibration"
    return step.name in _LEARNS_FROM_SAMPLES or (step.options.get("method") == "autobot" and not elsewhere)


def _check_judged(step: Step, calibration: LoadedCalibration | None, at: str) -> None:
    if step.options.get("mode") == "auto" and calibration is not None and calibration.calibration.selection is None:
        raise DataError(
            f"mode auto judges by the selection split, and {calibration.calibration.name!r} has none",
            at,
            "name a calibration set with `selection:`, or set mode: fixed",
        )


def _check_timed(step: Step, at: str, device: str | None) -> None:
    """What a step measures to decide by must be there. Wrong options are for their own check to refuse."""
    budget = step.options.get("budget")
    measured = [name for name in ("latency_ms", "latency_ratio") if isinstance(budget, dict) and budget.get(name)]
    if measured and device is None:
        counted = (
            "macs_ratio, params_ratio or size_ratio" if step.name == "prune" else "size_bytes or bit_operations_ratio"
        )
        raise PassError(
            f"a budget of {measured[0]} is measured, and no device is named",
            at,
            f"build with --device NAME, without --no-measure; or set a budget of {counted}",
        )


def _precision(steps: Sequence[PlannedStep], where: str) -> ArtifactPrecision:
    """What an artifact of the last model is called."""
    options = next((step.options for step in steps if isinstance(step.options, QuantizeOptions)), None)
    if options is None:
        return "fp32"
    if is_minifloat(options.activations):
        raise PassError(
            f"no runtime computes with {options.activations} activations: they are simulated in PyTorch only",
            f"{where}: step quantize, activations",
            "set `activations: float` to ship minifloat weights; benchmarks/minifloat.py simulates both",
        )
    return precision_of(options.weights, options.activations)


def _parity_codes(gates: Gates) -> int:
    bound = gates.parity_code_error
    return TOLERATED_CODES if bound is None or bound.at_most is None else int(bound.at_most)


def _reference(steps: Sequence[PlacedStep], source: ModelSource) -> int:
    learned, trained = 0, source.checkpoint is not None or source.file is not None
    while learned < len(steps) and steps[learned].step.name in _LEARNS_FROM_SAMPLES:
        if trained and steps[learned].step.options.get("sparsity"):  # it compresses what there is to compare with
            break
        learned, trained = learned + 1, True
    return learned


def _original(index: int, reference: int) -> int:
    """The network that was not compressed yet: trained by then, or as loaded."""
    return reference if index > reference else 0


def _learns_from_teacher(step: Step) -> bool:
    return step.name in _LEARNS_FROM_TEACHER and step.options.get("method") not in TEACHER_FREE


def _place(where: str, who: str, placed: PlacedStep) -> str:
    holder = "" if who == "model" else f"{who}."
    return place(f"{where}: {holder}steps.{placed.index}", placed.keys if placed.recovers else ())


@dataclass(frozen=True)
class _Drafts:
    """Makes planned steps: what they share."""

    store: StepStore
    explain: bool
    around: Surroundings
    gates: Gates
    seed: int
    where: str
    table: Mapping[str, Pass[Any]]

    def chain(
        self, who: str, source: ModelSource, steps: Sequence[PlacedStep], teachers: Sequence[str], reference: int
    ) -> tuple[PlannedStep, ...]:
        """Steps of one network; without `teachers`, what learns from one learns from the network itself as it was."""
        made = [self._step("load", who, None, keys.model_key(source, self.seed, self.around))]
        for one in steps:
            step, at = one.step, _place(self.where, who, one)
            row = find_pass(step.name, at, self.table)
            options = validate(row.options, step.options, at, prefix=() if one.recovers else one.keys)
            original = made[_original(len(made), reference)].key.key
            asked = (teachers or [original]) if _learns_from_teacher(step) else ()
            key = keys.pass_key(step.name, options, self.seed, made[-1].key.key, asked, self.around, row.load)
            made.append(self._step(step.name, who, options, key))
        return tuple(made)

    def artifact(self, variant: Variant, recipe: LoadedRecipe, source: str) -> PlannedArtifact:
        export = keys.export_key(variant, source, recipe.recipe.export, self.around)
        run = None
        if variant.of == "last":  # a float version of it may ship in the end
            run = keys.artifact_run_key(variant, export.key, _parity_codes(self.gates), self.around)
        needed = [key for key in (export, run if variant.ships else None) if key is not None]
        cached = all(self.store.find(key.key) is not None for key in needed)
        why = tuple(line for key in needed for line in self._why(key)) if not cached else ()
        return PlannedArtifact(variant, export, run, cached, why)

    def _step(self, name: str, who: str, options: Options | None, key: Keyed) -> PlannedStep:
        cached = self.store.find(key.key) is not None
        return PlannedStep(name, who, options, key, cached, () if cached else self._why(key))

    def _why(self, key: Keyed) -> tuple[str, ...]:
        return self.store.why_not_stored(key.parts) if self.explain else ()
