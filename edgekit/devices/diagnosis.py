"""The doctor of a board: facts are read there, advice is given here."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from edgekit.devices.advice_libraries import advise_libraries
from edgekit.devices.advice_power import advise_power
from edgekit.devices.advice_system import advise_system
from edgekit.devices.checks import Check
from edgekit.devices.table import connect
from edgekit.devices.transport import Completed, LinkError, Transport
from edgekit.devices.zipapp import build_zipapp
from edgekit.errors import DeviceError
from edgekit.schema.device import Device
from edgekit.schema.facts import Facts
from edgekit.schema.target import Target

_SHORT_S = 60.0
_FACTS_LIMIT_S = 600.0  # five imports, each with a limit of its own
# Past the agent's own start, which imports numpy and needs Python 3.8: a doctor must run where these are what is wrong.
_START = """import sys
sys.path.insert(0, sys.argv[1])
from edgekit.agent.doctor import main
sys.exit(main(sys.argv[2:]))"""

_log = logging.getLogger(__name__)


def diagnose(
    device: Device, target: Target, *, others: Mapping[str, str] | None = None, transport: Transport | None = None
) -> list[Check]:
    """Every check of a board, in the order of the report.

    Args:
        device: the board.
        target: the one that `device.target` names.
        others: identity that stored profiles carry -> name of another device that they are of.
        transport: None: the one that the device names.

    Raises:
        DeviceError: the board cannot be reached.
    """
    transport = transport or connect(device)
    try:
        begun = time.monotonic()
        clock_error_s = _clock_error_s(transport)
        took_ms = (time.monotonic() - begun) * 1e3
        reached = Check("reached", "ok", f"{device.transport}, {took_ms:.0f} ms for the first command")
        made = transport.run(["mktemp", "-d", "-t", "edgekit-XXXXXXXX"], timeout_s=_SHORT_S)
        folder = PurePosixPath(made.stdout.strip())
        if made.returncode != 0 or not folder.is_absolute():
            fix = "df -h /tmp; ls -ld /tmp: it needs room and mode 1777 (sudo chmod 1777 /tmp)"
            return [reached, Check("folder for jobs", "broken", f"cannot be made: {made.stderr.strip()}", fix)]
        try:
            return [reached, *_examine(device, target, transport, folder, clock_error_s, others or {})]
        finally:
            _remove(device, transport, folder)
    finally:
        transport.close()


def _examine(
    device: Device,
    target: Target,
    transport: Transport,
    folder: PurePosixPath,
    clock_error_s: float,
    others: Mapping[str, str],
) -> list[Check]:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as here:
        agent = Path(here) / "agent.pyz"
        agent.write_bytes(build_zipapp())
        try:
            transport.push(agent, folder / "agent.pyz")
        except LinkError:
            raise
        except DeviceError as err:  # the board answers, so it is the disk
            return [Check("folder for jobs", "broken", err.what, "sudo apt clean; df -h /tmp shows what is full")]
    done = transport.run(
        [transport.python, "-E", "-c", _START, str(folder / "agent.pyz"), str(folder), json.dumps(device.python_of)],
        timeout_s=_FACTS_LIMIT_S,
    )
    if done.returncode != 0:
        return [_no_python(transport.python, done)]
    try:
        facts = Facts.model_validate_json(done.stdout.strip().splitlines()[-1])
    except (ValidationError, IndexError) as err:
        raise DeviceError(
            f"the doctor's answer cannot be read: {done.stdout[-200:]!r}",
            f"device {device.name}",
            "a login script of the board may print to standard output: only interactive shells should",
        ) from err
    return [
        *advise_libraries(facts, target, stand_in=device.stand_in_for is not None),
        *advise_power(facts),
        *advise_system(facts, target, clock_error_s=clock_error_s, others=others, on_host=device.transport != "ssh"),
    ]


def _no_python(python: str, done: Completed) -> Check:
    """Python is absent, or too old even for the doctor."""
    lines = done.stderr.strip().splitlines()
    last = lines[-1] if lines else f"it ended with status {done.returncode}"
    if done.returncode == 127:  # the shell's own: no such command
        fix = "sudo apt update && sudo apt install -y python3 python3-venv, or correct `python` in devices.yaml"
        return Check("python", "broken", f"{python} is not there: {last}", fix)
    fix = f"{python} --version: the agent needs Python 3.8 or newer; name one as `python` in devices.yaml"
    return Check("python", "broken", f"{python} cannot run the doctor: {last}", fix)


def _clock_error_s(transport: Transport) -> float:
    """The board's clock less this machine's, to about a second and half a round trip."""
    before = time.time()
    done = transport.run(["date", "+%s"], timeout_s=_SHORT_S)
    middle = (before + time.time()) / 2
    text = done.stdout.strip()
    return float(text) + 0.5 - middle if text.isdigit() else 0.0


def _remove(device: Device, transport: Transport, folder: PurePosixPath) -> None:
    try:
        transport.run(["rm", "-rf", str(folder)], timeout_s=_SHORT_S)
    except DeviceError as err:  # a board that is gone has said why already
        _log.warning("%s stays on device %s: %s", folder, device.name, err.what)
