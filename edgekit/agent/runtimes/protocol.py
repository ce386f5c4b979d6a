"""What every runtime offers the agent."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping, Protocol

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Runtime(Protocol):
    """Executes one artifact. The constructor imports the library; entering the context loads the artifact.

    `options` are the case's own in the job; a runtime refuses one that it does not know (`options.known_only`).

    Attributes:
        version: version of the library.

    A runtime may have, inside its context, besides:
        layers(feeds, runs): [{name, operator, mean_ms, runs, precision (or None)}] in order of execution; or
            layers_unavailable: the reason why it cannot.
        on_gpu: True where a GPU computes.
        peak_gpu_bytes: GPU memory taken by the artifact, or gpu_memory_unavailable: the reason why it is not known.
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
