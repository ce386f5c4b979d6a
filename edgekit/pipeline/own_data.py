"""What the user's own data function gave when a build last ran it.

Its source is in every key; what it reads is not, and a plan runs none of the user's code. So a build runs it first, and
the digest of its samples is noted for the plans that follow.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger(__name__)
_NOTED = "own-data.json"  # function -> digest of its samples


def recall(home: Path, function: str) -> str | None:
    """Digest of the samples that `function` last gave; None where no build ran it."""
    return _read(home / _NOTED).get(function)


def remember(home: Path, function: str, digest: str) -> None:
    """Note it, for the store in `home`. A disk that refuses is warned of: only plans go by the note."""
    place = home / _NOTED
    noted = _read(place)
    if noted.get(function) == digest:
        return
    beside = home / f".{_NOTED}.{os.getpid()}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(noted | {function: digest}, indent=2), encoding="utf-8")
        os.replace(beside, place)
    except OSError as err:
        _log.warning("what data were read cannot be noted in %s: %s", place, err)
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _read(place: Path) -> dict[str, str]:
    try:
        noted = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent, or not whole: the next build notes it anew
        return {}
    return noted if isinstance(noted, dict) else {}
