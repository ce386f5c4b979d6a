"""One job on one device: push the agent and the files, run, fetch the result, leave nothing behind."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edgekit.devices.table import connect
from edgekit.devices.transport import Completed, Transport
from edgekit.devices.zipapp import build_zipapp
from edgekit.errors import DeviceError
from edgekit.schema.device import Device

_SHORT_S = 60.0  # making and removing a folder
_LOG_LINES = 12

_log = logging.getLogger(__name__)


def run_agent(
    device: Device,
    job: Mapping[str, Any],
    files: Mapping[str, Path],
    results: Mapping[str, Path],
    *,
    timeout_s: float,
    transport: Transport | None = None,
) -> dict[str, Any]:
    """Carry out `job` on `device`.

    Args:
        device: where.
        job: as `edgekit.agent.jobs` takes it; its paths are the keys of `files` and `results`.
        files: name in the job's folder on the device -> local file to push.
        results: name in the job's folder -> where to put it here, when the job is done.
        timeout_s: of the agent alone.
        transport: none: the one that the device names.

    Returns:
        What the agent wrote to RESULT.json.

    Raises:
        DeviceError: the device or the job failed, the agent crashed (the signal is named) or took too long.
    """
    transport = transport or connect(device)
    made = transport.run(["mktemp", "-d", "-t", "edgekit-XXXXXXXX"], timeout_s=_SHORT_S)
    folder = PurePosixPath(made.stdout.strip())
    if made.returncode != 0 or not folder.is_absolute():
        raise DeviceError(
            f"cannot make a folder: {made.stderr.strip()}", f"device {device.name}", "check that its /tmp is writable"
        )
    try:
        with tempfile.TemporaryDirectory(prefix="edgekit-") as here:
            return _carry_out(device, transport, folder, Path(here), job, files, results, timeout_s)
    finally:
        try:
            transport.run(["rm", "-rf", str(folder)], timeout_s=_SHORT_S)
        except DeviceError as err:  # a device that is gone has said why already
            _log.warning("%s stays on device %s: %s", folder, device.name, err.what)


def _carry_out(
    device: Device,
    transport: Transport,
    folder: PurePosixPath,
    here: Path,
    job: Mapping[str, Any],
    files: Mapping[str, Path],
    results: Mapping[str, Path],
    timeout_s: float,
) -> dict[str, Any]:
    (here / "agent.pyz").write_bytes(build_zipapp())
    (here / "job.json").write_text(json.dumps(job), encoding="utf-8")
    for name, path in {"agent.pyz": here / "agent.pyz", "job.json": here / "job.json", **files}.items():
        transport.push(path, folder / name)
    # -E: this shell's PYTHONPATH must not put another edgekit, or another runtime, before the agent's
    argv = [transport.python, "-E", str(folder / "agent.pyz"), str(folder / "job.json"), str(folder / "result.json")]
    done = transport.run(argv, timeout_s=timeout_s)
    where = f"device {device.name}, job {job['kind']}"
    if done.stderr:
        _log.debug("%s: %s", where, done.stderr)
    if done.returncode not in (0, 1):
        raise _crashed(done, where)
    try:
        transport.pull(folder / "result.json", here / "result.json")
    except DeviceError as err:
        raise _crashed(done, where) from err
    result: dict[str, Any] = json.loads((here / "result.json").read_text(encoding="utf-8"))
    if "error" in result:
        error = result["error"]
        raise DeviceError(error["what"], f"{where}: {error['where']}", error["fix"])
    for name, path in results.items():
        transport.pull(folder / name, path)
    return result


def _crashed(done: Completed, where: str) -> DeviceError:
    # A shell on the far side of a transport reports a signal as 128 + N; a subprocess as -N.
    number = -done.returncode if done.returncode < 0 else done.returncode - 128
    try:
        how = f"was ended by {signal.Signals(number).name}"
    except ValueError:
        how = f"ended with status {done.returncode} and no result"
    log = "\n".join(done.stderr.strip().splitlines()[-_LOG_LINES:])
    return DeviceError(
        f"the agent {how}",
        where,
        "SIGKILL is usually a lack of memory, SIGILL a runtime built for another processor; "
        f"the end of its log: {log or 'empty'}",
    )
