"""`edgekit devices`: the boards that --device may name."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from edgekit.cli import complete
from edgekit.cli.output import console, json_option, print_json, print_overrides, table
from edgekit.schema.device import Device
from edgekit.schema.load import load_devices, load_target
from edgekit.schema.validate import validate

_OWN = Path("devices.yaml")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime", "tensorrt", "torch")


@click.group()
def devices() -> None:
    """List, add and reach the boards of devices.yaml."""


@devices.command("list")
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path),
    help="Another devices.yaml; else ./devices.yaml, else the shipped.",
)
@json_option
def list_devices(file: Path | None, as_json: bool) -> None:
    """Every device, its target, and the file that says so. Contacts none of them."""
    loaded = load_devices(file)
    rows = [
        (d.name, load_target(d.target, allow_override=True).target.name, d.transport, d.address, d.stand_in_for)
        for d in loaded.devices.devices
    ]
    if as_json:
        keys = ("name", "target", "transport", "address", "stand_in_for")
        print_json(
            {
                "path": str(loaded.path),
                "override": loaded.override.model_dump() if loaded.override else None,
                "devices": [dict(zip(keys, row, strict=True)) for row in rows],
            }
        )
        return
    print_overrides([loaded.override])
    click.echo(f"from {loaded.path}")
    console().print(table("Devices", ("name", "target", "transport", "address", "stands in for"), rows))


@devices.command("add")
@click.argument("name")
@click.option(
    "--target",
    required=True,
    metavar="NAME",
    shell_complete=complete.targets,
    help="Class of hardware that the board is of.",
)
@click.option("--address", required=True, metavar="HOST", help="Host name, IP address, or a Host of ~/.ssh/config.")
@click.option("--user", metavar="USER", help="Who to log in as; else as ssh is configured.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of its sshd; else as ssh is configured.")
@click.option("--ssh-config", type=click.Path(path_type=Path), help="A file instead of ~/.ssh/config.")
@click.option("--python", metavar="COMMAND", help="What starts Python 3.8 or newer there; else python3.")
@click.option("--stand-in-for", metavar="TARGET", help="Target that it only stands in for, such as an emulator.")
@click.option("--file", type=click.Path(path_type=Path), default=_OWN, show_default=True, help="File that gets it.")
@json_option
def add(file: Path, as_json: bool, **given: Any) -> None:
    """Add a board over ssh to devices.yaml. Nothing is contacted, and no password or key is asked for or kept."""
    from edgekit.devices.book import add_device

    written = {key: value for key, value in given.items() if value is not None}
    device = validate(Device, {**written, "transport": "ssh"}, "the command line")
    for target in filter(None, (device.target, device.stand_in_for)):
        load_target(target, allow_override=True)
    add_device(device, file, "cpu-arm64" if platform.machine().lower() in ("aarch64", "arm64") else "cpu-x86-64")
    if as_json:
        print_json({"path": str(file), "device": device.model_dump(mode="json")})
        return
    click.echo(f"added {device.name} to {file}; try: edgekit devices ping {device.name}")


@devices.command("ping")
@click.argument("name", shell_complete=complete.devices)
@json_option
def ping(name: str, as_json: bool) -> None:
    """Reach a board, run the agent on it, and say what it is. Exit code 4 if it cannot be reached."""
    from edgekit.devices.session import AgentSession
    from edgekit.pipeline.request import find_device

    device = find_device(name)
    start = time.monotonic()
    with AgentSession(device) as session:
        reached_s = time.monotonic() - start
        told = session.run({"kind": "describe"}, {}, {}, timeout_s=120)
    answered_s = time.monotonic() - start
    if as_json:
        print_json({"device": name, "connected_s": reached_s, "answered_s": answered_s, **told})
        return
    libraries = told["libraries"]
    board = told["conditions"]["extra"].get("board") or told["conditions"]["cpu"] or "not named by its system"
    rows = [
        ("board", board),
        ("system", told["platform"]),
        ("processors", f"{told['cpu_count']} x {told['machine']}"),
        ("memory", f"{told['memory_bytes'] / 1e9:.1f} GB"),
        ("Python", told["python"]),
        ("runtimes", ", ".join(f"{name} {libraries[name]}" for name in _RUNTIMES if name in libraries) or "none"),
        ("emulated", told["emulated"] or "no sign of it"),
        ("in use", ", then ".join(told["lease"]) or "by nobody"),
    ]
    out = console()
    where = device.address or "this machine"
    out.print(
        Text(f"{name} ({where}) was reached in {reached_s:.1f} s, and the agent answered after {answered_s:.1f} s")
    )
    out.print(table(name, ("what", "found"), rows))
    for runtime, python in device.python_of.items():
        out.print(Text(f"{runtime} is looked for in {python}; `edgekit devices doctor {name}` looks there"))


@devices.command("doctor")
@click.argument("name", shell_complete=complete.devices)
@json_option
@click.pass_context
def doctor(ctx: click.Context, name: str, as_json: bool) -> None:
    """Check a board, and say how to fix what is wrong; the same as `edgekit doctor --device NAME`."""
    from edgekit.cli.doctor import diagnose_device
    from edgekit.pipeline.request import find_device

    checks = diagnose_device(find_device(name), as_json=as_json)
    ctx.exit(1 if any(check.state == "broken" for check in checks) else 0)
