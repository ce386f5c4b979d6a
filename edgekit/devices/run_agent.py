"""One job on one device: push the agent and the files, run, fetch the result, leave nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.devices.detached import Progress
from edgekit.devices.session import AgentSession
from edgekit.devices.transport import Transport
from edgekit.schema.device import Device


def run_agent(
    device: Device,
    job: Mapping[str, Any],
    files: Mapping[str, Path],
    results: Mapping[str, Path],
    *,
    timeout_s: float,
    transport: Transport | None = None,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Carry out `job` on `device`; arguments, result and errors are those of `AgentSession.run`."""
    with AgentSession(device, transport) as session:
        return session.run(job, files, results, timeout_s=timeout_s, on_progress=on_progress)
