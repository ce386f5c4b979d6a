"""This machine as a board behind a link that a test can cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import Completed, LinkError
from edgekit.schema.device import Device

_T = TypeVar("_T")

DEVICE = Device(name="bench", target="cpu-x86-64")


class Loopback(LocalTransport):
    """`cuts`: numbers of the calls, counted from 0, at which the link is lost; `after`: whether the call was done."""

    link = True

    def __init__(self, cuts: Sequence[int] = (), *, after: bool = False) -> None:
        super().__init__(DEVICE)
        self.cuts, self.after, self.calls = set(cuts), after, 0
        self.commands: list[list[str]] = []
        self.closed = False

    def push(self, local: Path, remote: PurePosixPath) -> None:
        self._cut(lambda: super(Loopback, self).push(local, remote))

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        self._cut(lambda: super(Loopback, self).pull(remote, local))

    def run(self, argv: Sequence[str], *, timeout_s: float, on_line: Callable[[str], None] | None = None) -> Completed:
        self.commands.append(list(argv))
        return self._cut(lambda: super(Loopback, self).run(argv, timeout_s=timeout_s, on_line=on_line))

    def close(self) -> None:
        self.closed = True

    def _cut(self, action: Callable[[], _T]) -> _T:
        call, self.calls = self.calls, self.calls + 1
        if call in self.cuts and not self.after:
            raise LinkError("the link is lost", "device bench", "wait")
        done = action()
        if call in self.cuts:
            raise LinkError("the link is lost", "device bench", "wait")
        return done
