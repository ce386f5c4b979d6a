"""Why an operator of a graph does not become a layer."""

from __future__ import annotations


class UntakenError(Exception):
    """Raised by a row of the table; whoever walks the graph says at which node."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
