"""The one error of the agent. The host turns its three fields into a `DeviceError`."""

from __future__ import annotations


class AgentError(Exception):
    """What failed with the value seen, where, and what to do next."""

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        return f"{self.what}\n  where: {self.where}\n  fix: {self.fix}"

    def fields(self) -> dict[str, str]:
        """The three fields, as they stand in RESULT.json."""
        return {"what": self.what, "where": self.where, "fix": self.fix}
