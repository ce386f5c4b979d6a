"""What every runtime offers the agent."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Runtime(Protocol):
    """Executes one artifact. The constructor imports the library; entering the context loads the artifact.

    Attributes:
        version: version of the library.
    """

    version: str

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None: ...

    def __enter__(self) -> Runtime: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every output by name, for inputs by the artifact's own names, dtypes and shapes.

        Returns when the outputs are ready; the arrays are the caller's to keep.

        Raises:
            AgentError: an input is missing, unknown or not what the artifact takes.
        """
        ...
