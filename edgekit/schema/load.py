"""Loading recipes, targets, calibration sets and devices.yaml: found, resolved, checked, digested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import SchemaError
from edgekit.schema.calibration import CalibrationSet
from edgekit.schema.device import Device, Devices
from edgekit.schema.find import FOLDERS, Found, Kind, find, find_devices, names, searched, shipped_folder, suggest
from edgekit.schema.gates import Bound, Gates
from edgekit.schema.manifest import Override
from edgekit.schema.pass_options import parse_options
from edgekit.schema.recipe import Recipe
from edgekit.schema.resolve import assign, assign_step, expand, parse_assignment, read_with_presets, step_parts
from edgekit.schema.target import Target
from edgekit.schema.validate import Key, place, validate
from edgekit.schema.yaml_file import digest_of, dump_yaml, read_mapping


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe that may be built.

    Attributes:
        text: the resolved recipe as YAML: presets merged, `--set` applied; references that say where files lie are
            as written, so it holds no path of this machine.
        digest: sha256 of the content of `text`.
        path: the file; relative paths in the recipe are the user's, from the working directory.
        files: every file read, the recipe first.
        overrides: files of the user's among them that stand in for shipped ones.
    """

    recipe: Recipe
    text: str
    digest: str
    path: Path
    files: tuple[Path, ...]
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True)
class LoadedTarget:
    """A target, the digest of its content, its file, and the shipped one that it stands in for, if any."""

    target: Target
    digest: str
    path: Path
    override: Override | None = None


@dataclass(frozen=True)
class LoadedCalibration:
    """A calibration set; its digest does not depend on where the data lie."""

    calibration: CalibrationSet
    digest: str
    path: Path
    override: Override | None = None


@dataclass(frozen=True)
class LoadedDevices:
    """The boards of one devices.yaml."""

    devices: Devices
    path: Path
    override: Override | None = None


def load_recipe(
    path_or_name: str | Path,
    overrides: Sequence[str] = (),
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> LoadedRecipe:
    """The recipe in a file or of a name, with every step's options checked.

    Args:
        overrides: `key=value` as given to `--set`, in order.
        cwd: where names are looked up first; none: the working directory.
        environment: what `${NAME}` is taken from; none: the process's own.

    Raises:
        SchemaError: a file is absent or not YAML, a key or a value is not what the schema allows, a pass is unknown, or
            a variable is not set.
    """
    base = Path.cwd() if cwd is None else cwd
    found = find("recipe", path_or_name, base)
    where = found.path.name
    content, files = read_with_presets(found, base)
    origins: dict[tuple[Key, ...], str] = {}
    for text in overrides:
        keys, value = parse_assignment(text)
        content = _assign(content, keys, value, f"--set {text}")
        origins[keys] = f"--set {text}"
    _check_step_shapes(content, where)
    recipe = validate(Recipe, expand(content, where, environment), where, origins=origins)
    taught = [((*_keys(name), "steps"), teacher.steps) for name, teacher in recipe.taught_by.items()]
    for prefix, steps in [(("steps",), recipe.steps), *taught]:
        for i, step in enumerate(steps):
            at = (*prefix, i)
            below = {keys[len(at) :]: name for keys, name in origins.items() if keys[: len(at)] == at}
            parse_options(step, place(where, at), below)
    portable = expand(content, where, environment, keep_locations=True)
    shadows = tuple(o for o in (_override(f, "recipe", base, _name_in(f.path)) for f in files) if o is not None)
    return LoadedRecipe(
        recipe, dump_yaml(portable), digest_of(portable), found.path, tuple(f.path for f in files), shadows
    )


def load_target(name_or_path: str | Path, allow_override: bool = False, cwd: Path | None = None) -> LoadedTarget:
    """The target of a name, an alias or a file.

    Args:
        allow_override: let a file of the user's loosen or drop a gate of the shipped target that it stands in for.

    Raises:
        SchemaError: no such target, one that does not pass its schema, or a loosened gate.
    """
    base = Path.cwd() if cwd is None else cwd
    name = str(name_or_path)
    if not isinstance(name_or_path, Path) and name not in names("target", base) and "/" not in name and "." not in name:
        name_or_path = _target_of_alias(name, base)
    found = find("target", name_or_path, base)
    content = read_mapping(found.path)
    target = validate(Target, content, found.path.name)
    if not (isinstance(name_or_path, Path) or "/" in name or "." in name) and target.name != name_or_path:
        fix = "make the name and the file's name the same"
        raise SchemaError(f"target is called {target.name!r}", f"{found.path.name}: name", fix)
    override = _override(found, "target", base, target.name)
    if override is not None and not allow_override:
        shipped = validate(Target, read_mapping(_shipped("target", found, target.name)), f"shipped {target.name}.yaml")
        loosened = loosened_gates(shipped.gates, target.gates)
        if loosened:
            fix = f"shipped: {loosened[0][1]}; tighten it, give the target another name, or pass --allow-override"
            raise SchemaError(
                f"loosens the shipped gate {loosened[0][0]!r}", f"{override.path}: gates.{loosened[0][0]}", fix
            )
    return LoadedTarget(target, digest_of(content), found.path, override)


def load_calibration(
    name_or_path: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> LoadedCalibration:
    """The calibration set of a name or a file; `${NAME}` in its arguments is expanded.

    Raises:
        SchemaError: no such set, one that does not pass its schema, or a variable that is not set.
    """
    base = Path.cwd() if cwd is None else cwd
    found = find("calibration set", name_or_path, base)
    content = read_mapping(found.path)
    where = found.path.name
    calibration = validate(CalibrationSet, expand(content, where, environment), where)
    portable = expand(content, where, environment, keep_locations=True)
    override = _override(found, "calibration set", base, calibration.name)
    return LoadedCalibration(calibration, digest_of(portable), found.path, override)


def load_devices(path: Path | None = None, cwd: Path | None = None) -> LoadedDevices:
    """The devices of `path`, else of ./devices.yaml, else of the shipped file.

    A relative `ssh_config` is in the folder of that file.

    Raises:
        SchemaError: the file does not pass its schema, or two devices share a name.
    """
    base = Path.cwd() if cwd is None else cwd
    found = find_devices(path, base)
    content = read_mapping(found.path)
    devices = validate(Devices, {**content, "devices": content.get("devices") or []}, found.path.name)
    seen: set[str] = set()
    for i, device in enumerate(devices.devices):
        if device.name in seen:
            raise SchemaError(
                f"two devices are called {device.name!r}", f"{found.path.name}: devices.{i}", "rename one"
            )
        seen.add(device.name)
    folder = found.path.parent
    devices = Devices(devices=tuple(_located(device, folder) for device in devices.devices))
    override = _record(found.path, found.shipped, base) if found.shipped is not None else None
    return LoadedDevices(devices, found.path, override)


def _located(device: Device, folder: Path) -> Device:
    if device.ssh_config is None:
        return device
    return device.model_copy(update={"ssh_config": folder / device.ssh_config.expanduser()})


def loosened_gates(shipped: Gates, own: Gates) -> list[tuple[str, str]]:
    """Gates of `shipped` that `own` drops, moves outwards or makes optional, each with the shipped bound in words."""
    loosened = []
    for name in Gates.model_fields:
        old: Bound | None = getattr(shipped, name)
        new: Bound | None = getattr(own, name)
        if old is not None and (new is None or not new.as_tight_as(old)):
            side = "at_most" if old.at_most is not None else "at_least"
            loosened.append((name, f"{side} {getattr(old, side):g}" + (", required" if old.required else "")))
    return loosened


def _assign(content: dict[str, Any], keys: tuple[Key, ...], value: Any, where: str) -> dict[str, Any]:
    at = next((i + 1 for i in (0, 1, 2) if keys[i : i + 1] == ("steps",)), 0)
    if at and keys[: at - 1] in _holders(content):
        holder = _holders(content)[keys[: at - 1]]
        value, keys = assign_step(holder.get("steps"), keys[at:], value, where), keys[:at]
    changed: dict[str, Any] = assign(content, keys, value, where)
    return changed


def _check_step_shapes(content: Mapping[str, Any], where: str) -> None:
    """A step of two passes would be reported by pydantic as two unknown keys; say what is meant."""
    for prefix, holder in _holders(content).items():
        steps = holder.get("steps")
        for i, step in enumerate(steps if isinstance(steps, list) else ()):
            if step_parts(step)[0] is None:
                found = f"names {', '.join(step)}" if isinstance(step, dict) and step else f"is {step!r}"
                fix = "a step is one pass: `- prune: {budget: {macs_ratio: 0.5}}`"
                raise SchemaError(f"a step that {found}", place(where, (*prefix, "steps", i)), fix)


def _holders(content: Mapping[str, Any]) -> dict[tuple[Key, ...], Mapping[str, Any]]:
    """What has `steps:` in a recipe as it is written, by its keys: the recipe itself and its teachers."""
    several = content.get("teachers")
    written: dict[tuple[Key, ...], Any] = {(): content, ("teacher",): content.get("teacher")}
    written |= {("teachers", i): teacher for i, teacher in enumerate(several if isinstance(several, list) else ())}
    return {keys: holder for keys, holder in written.items() if isinstance(holder, dict)}


def _keys(name: str) -> tuple[Key, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))


def _target_of_alias(alias: str, cwd: Path) -> str:
    """Shipped aliases come first, so that a file of the user's cannot quietly take one over."""
    files = names("target", cwd)
    folder = shipped_folder() / FOLDERS["target"]
    shipped = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    known = list(files)
    for name, path in (*shipped.items(), *files.items()):
        aliases = validate(Target, read_mapping(path), path.name).aliases
        if alias in aliases:
            return name
        known += aliases
    raise SchemaError(
        f"no target is called {alias!r}", searched("target", cwd), suggest(alias, sorted(set(known)), "targets")
    )


def _name_in(path: Path) -> str:
    name = read_mapping(path).get("name")
    return name if isinstance(name, str) else path.stem


def _shipped(kind: Kind, found: Found, name: str) -> Path:
    return found.shipped or shipped_folder() / FOLDERS[kind] / f"{name}.yaml"


def _override(found: Found, kind: Kind, cwd: Path, name: str) -> Override | None:
    """A file stands in for a shipped one if it has its file name, or calls itself so."""
    shipped = _shipped(kind, found, name)
    if not shipped.is_file() or shipped.samefile(found.path) or found.path.parent.samefile(shipped.parent):
        return None
    return _record(found.path, shipped, cwd)


def _record(path: Path, shipped: Path, cwd: Path) -> Override | None:
    """None where both say the same: a copy changes nothing."""
    own, theirs = digest_of(read_mapping(path)), digest_of(read_mapping(shipped))
    if own == theirs:
        return None
    shown = path.relative_to(cwd) if path.is_relative_to(cwd) else path
    return Override(path=str(shown), shipped_digest=theirs, digest=own)
