"""The agent's command line: `python agent.pyz JOB.json RESULT.json`; `start`, `follow` and `stop` are in detach.py.

Exit status 0: RESULT holds the job's result. 1: RESULT holds {"error": {what, where, fix}}. 2: wrong usage, no RESULT.
RESULT is written to a temporary name, synced and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Sequence

from edgekit.agent.detach import COMMANDS
from edgekit.agent.errors import AgentError


def main(arguments: Sequence[str]) -> int:
    """Carry out the job in the file named first and write its result to the file named second."""
    if arguments and arguments[0] in COMMANDS:
        command, count = COMMANDS[arguments[0]]
        if len(arguments) == 1 + count:
            return command(arguments[1:])
    if len(arguments) != 2:
        print("usage: python agent.pyz JOB.json RESULT.json", file=sys.stderr)
        return 2
    job_file, result_file = Path(arguments[0]), Path(arguments[1])
    # Both before numpy is imported: the agent does no linear algebra, and a pool of idle BLAS threads would count
    # towards the memory measured; TF_CPP_MIN_LOG_LEVEL keeps LiteRT's greetings out of the log.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        result = _run(job_file)
    except AgentError as err:
        traceback.print_exc()
        result = {"error": err.fields()}
    except Exception as err:
        traceback.print_exc()
        frame = traceback.extract_tb(err.__traceback__)[-1]
        error = AgentError(
            f"{type(err).__name__}: {err}",
            f"{frame.filename}, line {frame.lineno}, in {frame.name}",
            "the traceback is in the log; check that the runtime can load and run the artifact at all",
        )
        result = {"error": error.fields()}
    _write(result_file, result)
    return 1 if "error" in result else 0


def _run(job_file: Path) -> dict[str, Any]:
    from edgekit.agent.jobs import run_job  # imports numpy, so after the environment is set

    try:
        job = json.loads(job_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise AgentError(f"the job cannot be read: {err}", str(job_file), "send the job again") from err
    return run_job(job, job_file.resolve().parent)


def _write(result_file: Path, result: dict[str, Any]) -> None:
    temporary = result_file.with_name(result_file.name + ".part")
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(result, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, result_file)
