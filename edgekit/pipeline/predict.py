"""What an estimate rests on: the network as far as it is built, and what the history knows of other networks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from edgekit.errors import SchemaError
from edgekit.formats.table import export
from edgekit.nets.load import build as build_model
from edgekit.nets.model import Model
from edgekit.nets.saved import load_model
from edgekit.pipeline.plan import Plan
from edgekit.pipeline.request import BuildRequest, plan_build
from edgekit.profiling.predict import Estimate, Measured, estimate
from edgekit.profiling.predict_costs import GraphCosts, graph_costs
from edgekit.schema.load import load_devices, load_target
from edgekit.schema.profile import LayerRow
from edgekit.schema.target import Target
from edgekit.store.digests import file_sha256
from edgekit.store.history import ProfileLine, Wanted, read_history
from edgekit.store.profiles import ProfileStore
from edgekit.store.steps import StepStore

RUNTIME = "onnxruntime"
_LAYERS_IN = 5  # profiles of a file that are looked through for times of layers, newest first
_CHANGES_NO_SHAPE = frozenset({"load", "train", "distill", "quantize"})


@dataclass(frozen=True)
class Prediction:
    """Estimates for a network, one a precision.

    Attributes:
        subject: the recipe or file, and as of which step.
        left_out: steps that would change what is computed, and are not run yet.
    """

    subject: str
    costs: GraphCosts
    estimates: tuple[Estimate, ...]
    left_out: tuple[str, ...] = ()


def predict(
    subject: str,
    target_name: str,
    database: str | Path,
    *,
    settings: Sequence[str] = (),
    artifacts: Sequence[Path] = (),
) -> Prediction:
    """Estimates of latency in ONNX Runtime, or by the roofline alone, for every precision of a target.

    Args:
        subject: an .onnx file, a recipe's name or file, or package.module:function.
        target_name: of a target.
        database: of profiles.
        settings: laid over the recipe, as in a build.
        artifacts: folders in which measured .onnx files lie, besides the store.

    Raises:
        EdgekitError: what was asked for cannot be found or read.
    """
    path = Path(subject)
    left_out: tuple[str, ...] = ()
    request = BuildRequest(subject, target_name, settings=settings, measure=False, allow_override=True)
    if path.suffix == ".onnx":
        if not path.is_file():
            raise SchemaError(f"no file {subject!r}", str(Path.cwd()), "name an .onnx file, or a recipe")
        target, costs = load_target(target_name, allow_override=True).target, graph_costs(path)
    else:
        store = StepStore(request.home / "steps")
        plan = plan_build(request, store)
        target = plan.target.target
        model, step, left_out = _newest(plan, store)
        costs, subject = _exported_costs(model, plan), f"{plan.recipe.recipe.name} after {step}"
    found = measured_networks(database, target, [request.home / "steps", *artifacts])
    others = _without(found, costs)
    estimates = tuple(estimate(costs, target, RUNTIME, precision, others) for precision in target.precisions)
    return Prediction(subject, costs, estimates, left_out)


def measured_networks(database: str | Path, target: Target, folders: Iterable[Path]) -> tuple[Measured, ...]:
    """Networks of the history that were measured on boards of `target`, as far as their files are found.

    Only VALID profiles count, of the target's own number of threads; several of one file count once, by their median,
    with the layers of the newest that has them.
    """
    if "://" not in str(database) and not Path(database).exists():  # opening it would make it
        return ()
    # what a build measured says its target; a bare file's is that of the board
    known = {device.name: device.target for device in load_devices().devices.devices}
    with ProfileStore(database) as store:
        by_file: dict[str, list[ProfileLine]] = {}
        for line in read_history(store.database, Wanted(runtime=RUNTIME, valid_only=True)):
            own = (line.target or known.get(line.device)) in (target.name, *target.aliases)
            if own and line.threads == target.threads and line.batch == 1 and not line.stand_in:
                by_file.setdefault(line.artifact_sha256, []).append(line)
        files = _find_files(folders, {line.artifact for same in by_file.values() for line in same})
        return tuple(
            Measured(
                next((line.recipe for line in same if line.recipe), sha256),
                graph_costs(files[sha256]),
                median(line.p50_ms for line in same),
                _layers(store, same),
            )
            for sha256, same in by_file.items()
            if sha256 in files
        )


def _layers(store: ProfileStore, lines: Sequence[ProfileLine]) -> tuple[LayerRow, ...]:
    """Times of layers of the newest profile that has them, of the first few."""
    for line in lines[:_LAYERS_IN]:
        if found := store.get(line.id).layers:
            return found
    return ()


def _without(measured: Sequence[Measured], costs: GraphCosts) -> list[Measured]:
    """Everything but the very network that is asked about: what was measured needs no estimate to look good."""
    shape = [(kernel.kind, kernel.macs) for kernel in costs.kernels]
    same = {one.network for one in measured if [(k.kind, k.macs) for k in one.costs.kernels] == shape}
    return [one for one in measured if one.network not in same]


def _find_files(folders: Iterable[Path], names: set[str]) -> dict[str, Path]:
    """sha256 -> file, of every .onnx file below the folders with one of the names."""
    paths = (path for folder in folders for path in Path(folder).rglob("*.onnx") if path.name in names)
    return {file_sha256(path): path for path in paths}


def _newest(plan: Plan, store: StepStore) -> tuple[Model, str, tuple[str, ...]]:
    """The network after the last step that is stored, that step, and what is still to do that changes its layers."""
    model, done = None, 0
    for number, step in enumerate(plan.steps):
        folder = store.find(step.key.key)
        if folder is None:
            break
        model, done = folder, number
    left = tuple(step.name for step in plan.steps[done + 1 :] if step.name not in _CHANGES_NO_SHAPE)
    if model is None:
        return build_model(plan.recipe.recipe.model, plan.recipe.recipe.seed), "load", left
    return load_model(model / "model"), plan.steps[done].name, left


def _exported_costs(model: Model, plan: Plan) -> GraphCosts:
    """Costs of the network as a float ONNX file: integers compute the same layers."""
    conventions: Mapping[str, str] = {row.format: row.convention for row in plan.target.target.formats}
    convention = conventions.get("onnx", "onnxruntime-arm")
    options = plan.recipe.recipe.export.model_copy(update={"batch": 1})
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        plain = replace(model, table=None)
        return graph_costs(export(plain, "onnx", convention, Path(folder), "model", options).path)
