"""How far a job is: one JSON object a line on standard output. Nothing else of the agent's prints there."""

from __future__ import annotations

import json
import sys
from typing import Any


def tell(**fields: Any) -> None:
    """Say how far the job is, e.g. `tell(stage="building the engine", done=3, total=20, left_s=41.0)`.

    A reader that has gone is no reason to stop: the job's result does not depend on who watches it.
    """
    try:
        print(json.dumps(fields), flush=True)
    except (BrokenPipeError, ValueError):  # ValueError: standard output was closed
        sys.stdout = None  # or the interpreter would fail on it at its end
