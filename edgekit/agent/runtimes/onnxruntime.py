"""ONNX Runtime on the CPU; `onnxruntime_gpu.py` has its CUDA and TensorRT execution providers."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.onnxruntime_profile import layer_rows
from edgekit.agent.runtimes.options import known_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ERRORS_ONLY = 3


class OnnxRuntime:
    """One ONNX file in one session: every graph optimisation, one operator at a time, `threads` inside an operator."""

    optimisation = "ORT_ENABLE_ALL"
    load_fix = "use an ONNX Runtime that knows the artifact's operator set, or export with a lower `export.opset`"
    options: tuple[str, ...] = ()

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None:
        self._options = known_only(options, self.options, "onnxruntime")
        try:
            import onnxruntime
        except ImportError as err:
            raise AgentError(
                f"ONNX Runtime is not installed: {err}", "runtime onnxruntime", "pip install onnxruntime"
            ) from err
        self._library: Any = onnxruntime
        self._path, self._threads = path, threads
        self._session: Any = None
        self.version = str(onnxruntime.__version__)

    def __enter__(self) -> OnnxRuntime:
        self._library.set_default_logger_severity(_ERRORS_ONLY)
        self._session = self._open(self._session_options())
        return self

    def _session_options(self) -> Any:
        library = self._library
        options = library.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.graph_optimization_level = getattr(library.GraphOptimizationLevel, self.optimisation)
        options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        return options

    def _providers(self) -> list[Any]:
        return ["CPUExecutionProvider"]

    def _open(self, options: Any) -> Any:
        """A session that stays with its providers: by itself it would try again on the CPU, and say so on stdout."""
        try:
            with redirect_stdout(sys.stderr):
                session = self._library.InferenceSession(
                    str(self._path), options, providers=self._providers(), enable_fallback=False
                )
            session.disable_fallback()  # before 1.20 the argument is not known
            return session
        except Exception as err:  # its exceptions derive from Exception directly
            raise AgentError(
                f"ONNX Runtime {self.version} cannot load the artifact: {err}",
                self._path.name,
                self.load_fix,
            ) from err

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Runtime.infer`."""
        return self._run(self._session, feeds)

    def _run(self, session: Any, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            outputs = session.run(None, dict(feeds))
        except Exception as err:  # as above; wrong names, shapes and dtypes among them
            raise AgentError(
                f"ONNX Runtime cannot run the artifact: {err}",
                self._path.name,
                "compare the inputs with those that the manifest lists for this artifact",
            ) from err
        return {output.name: array for output, array in zip(session.get_outputs(), outputs)}

    def layers(self, feeds: Mapping[str, NDArray[Any]], runs: int) -> list[dict[str, Any]]:
        """Mean time of every node of the optimised graph, by ONNX Runtime's own profiler in a session of its own.

        The profiler costs a few microseconds a node, so the sum is more than a run without it takes. `precision` is
        the type of the node's first output, None where the profile does not name one.
        """
        return layer_rows(self._profiled(feeds, runs), runs)

    def _profiled(self, feeds: Mapping[str, NDArray[Any]], runs: int) -> str:
        """The profile of one run that is not counted and of `runs` that are, as JSON text."""
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            options = self._session_options()
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(folder, "profile")
            session = self._open(options)
            for _ in range(1 + runs):
                self._run(session, feeds)
            return Path(session.end_profiling()).read_text(encoding="utf-8")


class UnfusedOnnxRuntime(OnnxRuntime):
    """The graph as it is written, operator by operator: Q and DQ round, everything between them is float.

    The stand-in for a runtime that fuses by rules of its own. ONNX Runtime's optimiser would also round float biases.
    """

    optimisation = "ORT_DISABLE_ALL"
