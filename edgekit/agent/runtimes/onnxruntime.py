"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping

from edgekit.agent.errors import AgentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ERRORS_ONLY = 3


class OnnxRuntime:
    """One ONNX file in one session: every graph optimisation, one operator at a time, `threads` inside an operator."""

    optimisation = "ORT_ENABLE_ALL"

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None:
        try:
            import onnxruntime
        except ImportError as err:
            raise AgentError(
                f"ONNX Runtime is not installed: {err}", "runtime onnxruntime", "pip install onnxruntime"
            ) from err
        self._library: Any = onnxruntime
        self._path, self._threads, self._options = path, threads, options
        self._session: Any = None
        self.version = str(onnxruntime.__version__)

    def __enter__(self) -> OnnxRuntime:
        library = self._library
        library.set_default_logger_severity(_ERRORS_ONLY)
        options = library.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.graph_optimization_level = getattr(library.GraphOptimizationLevel, self.optimisation)
        options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        try:
            self._session = library.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as err:  # its exceptions derive from Exception directly
            raise AgentError(
                f"ONNX Runtime {self.version} cannot load the artifact: {err}",
                self._path.name,
                "use an ONNX Runtime that knows the artifact's operator set, or export with a lower `export.opset`",
            ) from err
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Runtime.infer`."""
        try:
            outputs = self._session.run(None, dict(feeds))
        except Exception as err:  # as above; wrong names, shapes and dtypes among them
            raise AgentError(
                f"ONNX Runtime cannot run the artifact: {err}",
                self._path.name,
                "compare the inputs with those that the manifest lists for this artifact",
            ) from err
        return {output.name: array for output, array in zip(self._session.get_outputs(), outputs)}


class UnfusedOnnxRuntime(OnnxRuntime):
    """The graph as it is written, operator by operator: Q and DQ round, everything between them is float.

    The stand-in for a runtime that fuses by rules of its own. ONNX Runtime's optimiser would also round float biases.
    """

    optimisation = "ORT_DISABLE_ALL"
