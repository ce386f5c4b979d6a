"""Asks `look.py`, which imports torch and runs the user's code, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edgekit.errors import EdgekitError, ModelError
from edgekit.init.facts import Answer, Question, Trouble

_LIMIT_S = 600.0
_TOLD = 400  # characters of what a process said that died
_ANSWERS: TypeAdapter[Answer | Trouble] = TypeAdapter(Answer | Trouble)


def ask(question: Question) -> Answer:
    """What was seen of the data and the network.

    Raises:
        EdgekitError: what `look` could not read, or the process died.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "answer.json"
        where = question.factory or question.file or ""
        try:
            done = subprocess.run(
                [sys.executable, "-m", "edgekit.init.look", str(path)],
                input=question.model_dump_json(),
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as err:
            fix = "give fewer samples or a smaller network, and change the recipe then"
            raise ModelError(f"no answer in {_LIMIT_S:g} s", where, fix) from err
        try:
            answer = _ANSWERS.validate_json(path.read_bytes())
        except (OSError, ValidationError) as err:
            said = done.stderr.strip()[-_TOLD:] or f"exit code {done.returncode}"
            raise ModelError(
                f"looking at the model and the data failed: {said}",
                where,
                "make the factory and the data load in a plain Python session",
            ) from err
    if isinstance(answer, Trouble):
        raise EdgekitError(answer.what, answer.where, answer.fix)
    return answer
