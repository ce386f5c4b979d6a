"""A job over a link that may be lost: begun once, followed as often as it takes. agent/detach.py is the other side."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from edgekit.agent.detach import ALIVE, GONE
from edgekit.devices.transport import Completed, LinkError, Transport
from edgekit.errors import DeviceError

_SHORT_S = 60.0
_RETRY_S = 2.0
_LONGEST_FAILURE_S = 60.0  # what takes longer than this until it fails had a link at first

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Progress = Callable[[Mapping[str, Any]], None]


def run_detached(
    transport: Transport,
    agent: Callable[..., list[str]],
    job: str,
    result: str,
    timeout_s: float,
    patience_s: float,
    on_progress: Progress | None,
    where: str,
) -> Completed:
    """Begin a job on a board and follow it to its end, through lost links.

    Args:
        transport: to the board.
        agent: the command that calls the agent there with some arguments.
        job: path of the job there.
        result: path of the result there.
        timeout_s: of the job.
        patience_s: how long a lost link is tried again.
        on_progress: gets what the agent tells.
        where: device and job, for messages.

    Returns:
        How the agent ended, with the end of its log as standard error.

    Raises:
        DeviceError: the board is gone, has forgotten the job, or the job took too long.
    """
    again(lambda: _begin(transport, agent("start", job, result, f"{timeout_s:.0f}"), where), patience_s, where)
    seen = 0
    ended: list[Mapping[str, Any]] = []

    def hear(line: str) -> None:
        nonlocal seen
        found = _parsed(line)
        if found == ALIVE:
            return
        if found is not None and "ended" in found:
            ended.append(found["ended"])
            return
        seen += 1
        tell_progress(line, on_progress)

    def listen() -> Completed:
        return transport.run(agent("follow", result, str(seen)), timeout_s=timeout_s + _SHORT_S, on_line=hear)

    try:
        done = again(listen, patience_s, where)
    except LinkError:  # the board ends it by itself: nobody follows it any more
        raise
    except BaseException:
        _stop(transport, agent("stop", result), where)
        raise
    if not ended:
        gone = "the board has forgotten the job: it was started anew, or its folder was removed"
        what = gone if done.returncode == GONE else f"the job cannot be followed: {done.stderr.strip()}"
        raise DeviceError(what, where, "run the same command again")
    told = ended[0]
    if told["timed_out"]:
        fix = "see whether the board is busy, or whether the artifact runs there at all"
        raise DeviceError(f"no result in {timeout_s:.0f} s", where, fix)
    returncode = told["returncode"]
    return Completed(-signal.SIGKILL if returncode is None else int(returncode), "", told["log"])


def again(action: Callable[[], _T], patience_s: float, where: str) -> _T:
    """What `action` gives; while the link is lost it is tried again, for `patience_s` at most."""
    lost_at: float | None = None
    while True:
        begun = time.monotonic()
        try:
            return action()
        except LinkError as err:
            now = time.monotonic()
            if lost_at is None or now - begun > max(patience_s, _LONGEST_FAILURE_S):  # or: it had come back meanwhile
                lost_at = now
                _log.warning("%s: %s; trying again", where, err.what)
            if now - lost_at >= patience_s:
                raise
            time.sleep(min(_RETRY_S, patience_s))


def tell_progress(line: str, on_progress: Progress | None) -> None:
    """Hand on a line of the agent's; a runtime's own chatter is not one."""
    found = _parsed(line)
    if found is not None and on_progress is not None:
        on_progress(found)


def _parsed(line: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _begin(transport: Transport, argv: list[str], where: str) -> None:
    done = transport.run(argv, timeout_s=_SHORT_S)
    if done.returncode != 0:
        raise DeviceError(
            f"the agent cannot be started: {done.stderr.strip() or f'status {done.returncode}'}",
            where,
            "`edgekit devices doctor` says what the board lacks",
        )


def _stop(transport: Transport, argv: list[str], where: str) -> None:
    try:
        transport.run(argv, timeout_s=_SHORT_S)
    except DeviceError as err:  # it ends by itself when nobody follows it
        _log.warning("%s: the job may go on for three minutes there: %s", where, err.what)
