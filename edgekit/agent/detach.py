"""Jobs that outlive the link they were sent over: `start`, `follow` and `stop`.

A job that was started runs in a session of its own; whoever sent it follows it, and may lose the link and follow again.
Beside the result lie RESULT.out (progress, a line each), RESULT.err (log), RESULT.pid, RESULT.status, and RESULT.lock,
which the job and everything that it forks hold: the kernel lets go of it when the last of them is gone, so "it still
runs" is never a guess. A job that nobody follows any more is ended, and its folder removed: a board must not go on
being measured for a host that has died.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO, Sequence

from edgekit.agent.errors import AgentError

PATIENCE_S = 180.0
_POLL_S = 0.5
_ALIVE_S = 10.0
ALIVE = {"alive": True}  # told now and then by `follow`, or it would not notice that its reader has died
GONE = 3  # exit status of `follow`: no such job was started here


def start(arguments: Sequence[str]) -> int:
    """`start JOB RESULT LIMIT_S`: begin a job and return at once. One that was begun already is left as it is.

    After LIMIT_S it is ended with all that it started.
    """
    job_file, result_file, limit_s = Path(arguments[0]).resolve(), Path(arguments[1]).resolve(), float(arguments[2])
    lock = open(_beside(result_file, ".lock"), "a")  # noqa: SIM115 - the job inherits it
    if _beside(result_file, ".status").exists() or not _free(lock, fcntl.LOCK_EX):
        return 0
    _beside(result_file, ".seen").write_text("0", encoding="ascii")
    if os.fork() == 0:
        try:
            _supervise(job_file, result_file, limit_s, lock)
        except BaseException:
            traceback.print_exc()  # into RESULT.err
        finally:
            os._exit(0)  # not through the interpreter's end: that is the parent's
    return 0


def follow(arguments: Sequence[str], patience_s: float = _POLL_S) -> int:
    """`follow RESULT LINES`: print every progress line after the first LINES, until the job has ended.

    The last line is {"ended": {"returncode": N, "timed_out": bool, "log": end of its log}}; `returncode` is None where
    the job was ended together with what watched over it.
    """
    result_file, printed = Path(arguments[0]).resolve(), int(arguments[1])
    path = _beside(result_file, ".lock")
    if not path.exists():
        return GONE
    told_at = time.monotonic()
    with open(path) as lock:
        while True:
            over = _free(lock, fcntl.LOCK_SH)  # asked before the lines are read, or the last ones might be missed
            _beside(result_file, ".seen").write_text(str(time.monotonic()), encoding="ascii")
            for line in _lines(_beside(result_file, ".out"))[printed:]:
                print(line, flush=True)
                printed += 1
            if over:
                break
            if time.monotonic() - told_at > _ALIVE_S:
                told_at = time.monotonic()
                print(json.dumps(ALIVE), flush=True)
            time.sleep(patience_s)
    try:
        ended = json.loads(_beside(result_file, ".status").read_text(encoding="ascii"))
    except (OSError, ValueError):
        ended = {"returncode": None, "timed_out": False}
    log = _text(_beside(result_file, ".err"))
    print(json.dumps({"ended": dict(ended, log=log[-4000:])}), flush=True)
    return 0


def stop(arguments: Sequence[str]) -> int:
    """`stop RESULT`: end a job with all that it started."""
    result_file = Path(arguments[0]).resolve()
    path = _beside(result_file, ".lock")
    if not path.exists():
        return 0
    with open(path) as lock:
        if not _free(lock, fcntl.LOCK_SH):  # the number is still the job's, not another process's by now
            _end(int(_text(_beside(result_file, ".pid")) or 0))
    return 0


COMMANDS = {"start": (start, 3), "follow": (follow, 2), "stop": (stop, 1)}


def _supervise(job_file: Path, result_file: Path, limit_s: float, lock: IO[str]) -> None:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # or ssh would wait for the streams that we hold
    for number, path, flags in (
        (0, Path(os.devnull), os.O_RDONLY),
        (1, _beside(result_file, ".out"), os.O_WRONLY | os.O_CREAT),
        (2, _beside(result_file, ".err"), os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(str(path), flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    worker = subprocess.Popen(
        [sys.executable, "-E", sys.argv[0], str(job_file), str(result_file)],
        start_new_session=True,
        pass_fds=[lock.fileno()],
    )
    _beside(result_file, ".pid").write_text(str(worker.pid), encoding="ascii")
    begun, seen, seen_at = time.monotonic(), "0", time.monotonic()
    timed_out = abandoned = False
    while worker.poll() is None and not timed_out and not abandoned:
        try:
            worker.wait(1.0)
        except subprocess.TimeoutExpired:
            now, told = time.monotonic(), _text(_beside(result_file, ".seen"))
            if told != seen:
                seen, seen_at = told, now
            timed_out, abandoned = now - begun > limit_s, now - seen_at > PATIENCE_S
    _end(worker.pid)
    returncode = worker.wait()
    if abandoned:
        shutil.rmtree(str(result_file.parent), ignore_errors=True)
        return
    temporary = _beside(result_file, ".status.part")
    temporary.write_text(json.dumps({"returncode": returncode, "timed_out": timed_out}), encoding="ascii")
    os.replace(str(temporary), str(_beside(result_file, ".status")))


def _end(group: int) -> None:
    """End a process group, what is left of it."""
    if group > 1:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _free(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as err:
        raise AgentError(
            f"files cannot be locked there: {err}", lock.name, "use a folder on a disk of its own"
        ) from err
    return True


def _lines(path: Path) -> list[str]:
    """Whole lines so far."""
    return _text(path).split("\n")[:-1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _beside(result_file: Path, suffix: str) -> Path:
    return result_file.with_name(result_file.name + suffix)
