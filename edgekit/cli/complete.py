"""What the shell may complete where a command takes a name. Reads file names and tables; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from edgekit.errors import EdgekitError
from edgekit.schema.find import Kind, names
from edgekit.schema.load import load_devices, load_target

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(offered: Callable[[], Mapping[str, str]], files: Iterable[str] = ()) -> Completer:
    """Completes from names with a line about each; with `files`, from files of these endings too.

    Where nothing is called so, the shell goes on with its own completion of paths.
    """

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            known = offered()
        except EdgekitError:  # a broken devices.yaml is for the command to report, not for the key that was pressed
            known = {}
        found = [CompletionItem(name, help=line or None) for name, line in known.items() if name.startswith(incomplete)]
        if files and "/" not in incomplete:
            here = sorted(path.name for path in Path().iterdir() if path.suffix in files)
            found += [CompletionItem(name) for name in here if name.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def _targets() -> dict[str, str]:
    found = {}
    for name in names("target"):
        try:
            target = load_target(name, allow_override=True).target
        except EdgekitError:
            continue
        found.update(dict.fromkeys(target.aliases, f"{target.name}: {target.description}"))
        found[name] = target.description
    return dict(sorted(found.items()))


def _devices() -> dict[str, str]:
    return {device.name: f"of target {device.target}" for device in load_devices().devices.devices}


def _named(kind: Kind) -> Callable[[], dict[str, str]]:
    return lambda: dict.fromkeys(names(kind), "")


def _passes() -> dict[str, str]:
    from edgekit.schema.pass_options import PASS_OPTIONS

    return {name: (model.__doc__ or "").strip().splitlines()[0] for name, model in PASS_OPTIONS.items()}


def _schemas() -> dict[str, str]:
    from edgekit.schema.json_schema import SCHEMAS

    return {name: (model.__doc__ or "").strip().splitlines()[0] for name, model in SCHEMAS.items()}


targets = _completer(_targets)
devices = _completer(_devices)
passes = _completer(_passes)
schemas = _completer(_schemas)
calibration_sets = _completer(_named("calibration set"), files=(".yaml", ".yml"))
preset_names = _completer(_named("recipe"))
recipes = _completer(_named("recipe"), files=(".yaml", ".yml", ".onnx"))
