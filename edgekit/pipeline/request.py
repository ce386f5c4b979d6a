"""What is asked of a build, and the plan of it. No torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.errors import DeviceError
from edgekit.pipeline.plan import Plan, make_plan
from edgekit.schema.device import Device
from edgekit.schema.find import suggest
from edgekit.schema.load import load_calibration, load_devices, load_recipe, load_target
from edgekit.store.steps import StepStore


def default_home() -> Path:
    """Where the store lies: EDGEKIT_HOME, else `.edgekit` in the working directory."""
    return Path(os.environ.get("EDGEKIT_HOME") or ".edgekit")


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        recipe: a name or a file.
        target: a name, an alias or a file.
        device: name in devices.yaml; None: nothing is measured.
        out: folder that gets the bundle's folder.
        settings: `key=value`, each laid over the recipe.
        cache: take finished steps from the store, and keep them there.
        measure: False: measure nothing even if a device is named, and leave out of the bundle what differs between two
            builds.
        require_measured: a required gate that was not evaluated is an error of its own, exit code 4.
        allow_override: let a recipe or a file of the user's loosen a shipped gate.
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
    home: Path = field(default_factory=default_home)


def plan_build(request: BuildRequest, store: StepStore, *, explain: bool = False) -> Plan:
    """The plan of a request.

    Raises:
        EdgekitError: what was asked cannot be done.
    """
    recipe = load_recipe(request.recipe, request.settings)
    return make_plan(
        recipe,
        load_target(request.target, request.allow_override),
        None if ":" in recipe.recipe.data else load_calibration(recipe.recipe.data),
        store,
        compare=request.measure and request.device is not None,
        allow_override=request.allow_override,
        explain=explain,
    )


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
