"""One process on this machine, ended in time with all that it started. Both transports run theirs so."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

from edgekit.devices.transport import Completed


def run_process(
    argv: Sequence[str],
    *,
    timeout_s: float,
    on_line: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run a command in a process group of its own and wait for it.

    An interrupt ends it too: nothing may go on measuring behind the user's back.

    Args:
        argv: program and arguments.
        timeout_s: from its start.
        on_line: gets every whole line of standard output as it comes, without its end.
        environment: instead of this process's own.

    Raises:
        OSError: it cannot be started.
        subprocess.TimeoutExpired: it took too long.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env=environment,
    )
    with process:
        try:
            if on_line is None:
                stdout, stderr = process.communicate(timeout=timeout_s)
            else:
                stdout, stderr = _stream(process, timeout_s, on_line)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
    return Completed(process.returncode, stdout, stderr)


def _stream(process: subprocess.Popen[str], timeout_s: float, on_line: Callable[[str], None]) -> tuple[str, str]:
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout, process.stderr
    errors: list[str] = []
    expired = threading.Event()

    def end() -> None:
        expired.set()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def drain(stream: IO[str]) -> None:
        errors.append(stream.read())

    drainer = threading.Thread(target=drain, args=(err,), daemon=True)
    timer = threading.Timer(timeout_s, end)
    drainer.start()
    timer.start()
    lines = []
    try:
        for line in out:
            lines.append(line)
            if line.endswith("\n"):  # not a line that was cut off
                on_line(line[:-1])
        process.wait()
    finally:
        timer.cancel()
    if expired.is_set():
        raise subprocess.TimeoutExpired(process.args, timeout_s)
    drainer.join()
    return "".join(lines), "".join(errors)
