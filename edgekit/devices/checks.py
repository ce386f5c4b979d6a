"""One line of a doctor's report, of this machine or of a board."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """What was looked at, how it is, what was found, and the exact command that mends it.

    `broken` stops edgekit from working there; `problem` is worth mending; `absent` is not there and not needed by all.
    """

    name: str
    state: Literal["ok", "absent", "problem", "broken"]
    found: str
    fix: str = ""
