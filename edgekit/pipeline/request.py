"""What is asked of a build, and the plan of it. No torch."""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from edgekit.errors import DeviceError, ModelError, SchemaError
from edgekit.nets.from_onnx.inputs import onnx_inputs
from edgekit.pipeline.own_data import recall
from edgekit.pipeline.plan import Plan, make_plan
from edgekit.pipeline.sources import find_source, module_of
from edgekit.schema.device import Device
from edgekit.schema.find import suggest
from edgekit.schema.load import LoadedRecipe, load_calibration, load_devices, load_recipe, load_target
from edgekit.schema.recipe import METRIC_NAMES, ModelSource, Teacher
from edgekit.store.place import default_home
from edgekit.store.steps import StepStore

OWN_RECIPE, QUICKSTART = "edgekit.yaml", "quickstart"


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        recipe: a name, a file, an .onnx or .pt2 file, or package.module:function that makes a network.
        target: a name, an alias or a file.
        device: name in devices.yaml; None: nothing is measured.
        out: folder that gets the bundle's folder.
        settings: `key=value`, each laid over the recipe.
        cache: take finished steps from the store, and keep them there.
        measure: False: measure nothing even if a device is named, and leave out of the bundle what differs between two
            builds.
        require_measured: a required gate that was not evaluated is an error of its own, exit code 4.
        allow_override: let a recipe or a file of the user's loosen a shipped gate.
        device_samples: most samples of the test split that a board over a link is sent; None: all of them.
        remeasure: measure even what was measured within the last 24 hours.
        home: folder of the store.
    """

    recipe: str | Path
    target: str | Path
    device: str | None = None
    out: Path = Path("dist")
    settings: Sequence[str] = ()
    cache: bool = True
    measure: bool = True
    require_measured: bool = False
    allow_override: bool = False
    device_samples: int | None = None
    remeasure: bool = False
    home: Path = field(default_factory=default_home)


def choose_recipe(given: str | None) -> str:
    """What a command builds: what was given, else edgekit.yaml of the working directory, else the quickstart."""
    if given is not None:
        return given
    return OWN_RECIPE if Path(OWN_RECIPE).is_file() else QUICKSTART


def with_data(settings: Sequence[str], calibration: str | None) -> tuple[str, ...]:
    """`settings`, and the calibration set that a command names laid over them."""
    return (*settings, *([f"data={json.dumps(calibration)}"] if calibration is not None else []))


def plan_build(request: BuildRequest, store: StepStore, *, explain: bool = False) -> Plan:
    """The plan of a request.

    Raises:
        EdgekitError: what was asked cannot be done.
    """
    recipe = _with_inputs(_load(request))
    if request.device is not None:
        find_device(request.device)
    _check_names(recipe)
    data = recipe.recipe.data
    return make_plan(
        recipe,
        load_target(request.target, request.allow_override),
        None if ":" in data else load_calibration(data),
        store,
        own_data=recall(store.root.parent, data) if ":" in data else None,
        device=request.device if request.measure else None,
        allow_override=request.allow_override,
        explain=explain,
    )


def _with_inputs(recipe: LoadedRecipe) -> LoadedRecipe:
    """The recipe with the inputs of its models that are files as these have them."""
    written = recipe.recipe
    update: dict[str, object] = {"model": _source_with_inputs(written.model)}
    if written.teacher is not None:
        update["teacher"] = _teacher_with_inputs(written.teacher)
    update["teachers"] = tuple(map(_teacher_with_inputs, written.teachers))
    return replace(recipe, recipe=written.model_copy(update=update))


def _teacher_with_inputs(teacher: Teacher) -> Teacher:
    return teacher.model_copy(update={"model": _source_with_inputs(teacher.model)})


def _source_with_inputs(source: ModelSource) -> ModelSource:
    if source.onnx is None:
        return source
    inputs = onnx_inputs(Path(source.onnx), source.inputs, source.where)
    return source.model_copy(update={"inputs": inputs})


def _check_names(recipe: LoadedRecipe) -> None:
    """Refuse now what would only be refused when it is imported. Runs nothing of the user's."""
    written, where = recipe.recipe, recipe.path.name
    metric = written.metric.name
    if ":" not in metric and metric not in METRIC_NAMES:
        fix = suggest(metric, METRIC_NAMES, "metrics")
        raise SchemaError(f"no metric is called {metric!r}", f"{where}: metric", fix)
    references = {"data": written.data, "metric": metric, "model.factory": written.model.factory or ""}
    references |= {f"{who}.model.factory": one.model.factory or "" for who, one in written.taught_by.items()}
    for key, reference in references.items():
        module = module_of(reference)
        if ":" in reference and find_source(module) is None and not _importable(module.partition(".")[0]):
            raise ModelError(
                f"no module is called {module!r}",
                f"{where}: {key}",
                "install it, or run edgekit in the folder that it lies in",
            )


def _importable(top: str) -> bool:
    """Whether a top-level module is there at all; finding it imports nothing."""
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _load(request: BuildRequest) -> LoadedRecipe:
    """The recipe; for a bare model one that merges its norms and quantises it, data and inputs being given by --set."""
    text = str(request.recipe)
    key = {".onnx": "onnx", ".pt2": "pt2"}.get(Path(text).suffix, "factory")
    is_file = key != "factory"
    if not is_file and (":" not in text or Path(text).exists()):
        return load_recipe(request.recipe, request.settings)
    given = [setting.partition("=")[0].strip() for setting in request.settings]
    if "data" not in given or not (is_file or any(key.startswith("model.inputs") for key in given)):
        needs, shapes = "data and inputs", " --set 'model.inputs=[{name: image, shape: [1, 3, 32, 32]}]'"
        raise SchemaError(
            f"a bare model needs its {'data' if is_file else needs}",
            text,
            f"add --calib NAME{'' if is_file else shapes}, or write a recipe",
        )
    stem = Path(text).stem if is_file else text.rpartition(":")[2]
    name = re.sub(r"[^a-z0-9.-]+", "-", stem.lower()).strip("-.") or "model"
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / f"{name}.yaml"
        content = {"name": name, "model": {key: text}, "steps": ["reparam", "quantize"]}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        # it stands in for no shipped recipe, whatever it is called
        return replace(load_recipe(path, request.settings), overrides=())


def find_device(name: str) -> Device:
    """The board of that name in devices.yaml.

    Raises:
        DeviceError: there is none.
    """
    loaded = load_devices()
    for device in loaded.devices.devices:
        if device.name == name:
            return device
    known = [device.name for device in loaded.devices.devices]
    raise DeviceError(f"no device is called {name!r}", str(loaded.path), suggest(name, known, "devices"))
