"""The agent's runtimes in this process, and LiteRT without its delegate, which no board would be measured with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.litert import LiteRT
from edgekit.agent.runtimes.protocol import Runtime
from edgekit.agent.runtimes.table import RUNTIMES, RuntimeTable, runtime_class
from edgekit.errors import FormatError
from edgekit.formats.tflite.convert import quiet


class UnfusedLiteRT(LiteRT):
    """LiteRT's own kernels, operator by operator: XNNPACK, its default delegate, is left out."""

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None:
        super().__init__(path, threads, options)
        plain = self._library.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._library = SimpleNamespace(
            Interpreter=partial(self._library.Interpreter, experimental_op_resolver_type=plain)
        )


HERE: RuntimeTable = {**RUNTIMES, "litert-unfused": lambda: UnfusedLiteRT}


@contextmanager
def opened(runtime: str, path: Path, table: RuntimeTable = HERE) -> Iterator[Runtime]:
    """A file in a runtime, with one thread.

    Raises:
        FormatError: the runtime refuses the file, or fails when it runs it.
    """
    try:
        with quiet():  # LiteRT announces its delegate on stderr
            loading = runtime_class(runtime, table)(path, 1, {})
            loaded = loading.__enter__()
        try:
            yield loaded
        finally:
            loading.__exit__(None, None, None)
    except AgentError as err:
        raise FormatError(err.what, f"{runtime}, {err.where}", err.fix) from err
