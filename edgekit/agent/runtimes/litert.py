"""LiteRT, by the `ai_edge_litert` package or its predecessor `tflite_runtime`. Which one is the job's choice."""

from __future__ import annotations

import ctypes
import importlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.litert_layers import KNOWN_VERSIONS, profile_operators
from edgekit.agent.runtimes.options import known_only

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LiteRT:
    """One .tflite file in one interpreter with its default CPU kernels (XNNPACK).

    A tensor is known by its own name or, where the file has exactly one signature, by its name in that.

    Options: `delegate`, path of an external delegate's library on the device, which takes the operators that it knows
    before XNNPACK does; `delegate_options`, as that delegate documents them.
    """

    _module = "ai_edge_litert.interpreter"
    _package = "ai-edge-litert"

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None:
        try:
            self._library: Any = importlib.import_module(self._module)
            self.version = str(importlib.import_module(self._module.partition(".")[0]).__version__)
        except ImportError as err:
            raise AgentError(
                f"{self._package} is not installed: {err}",
                f"runtime {type(self).__name__}",
                f"pip install {self._package}",
            ) from err
        self._path, self._threads = path, threads
        self._options = known_only(options, ("delegate", "delegate_options"), self._package)
        if "delegate_options" in options and "delegate" not in options:
            raise AgentError("delegate_options without a delegate", f"runtime {self._package}", "name the delegate")
        # the C library beside the module; tflite_runtime has none
        self._c_library = Path(str(self._library.__file__)).with_name("libLiteRt.so")
        self._interpreter: Any = None
        self._inputs: dict[str, int] = {}
        self._outputs: dict[str, int] = {}
        self._input_count = 0

    def __enter__(self) -> LiteRT:
        delegates = self._delegates()
        try:
            self._interpreter = self._library.Interpreter(
                model_path=str(self._path), num_threads=self._threads, experimental_delegates=delegates
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as err:
            raise AgentError(
                f"{self._package} {self.version} cannot load the artifact: {err}",
                self._path.name,
                "use a version that knows the operators of the artifact",
            ) from err
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input_count = len(inputs)
        self._inputs = {detail["name"]: detail["index"] for detail in inputs}
        self._outputs = {detail["name"]: detail["index"] for detail in outputs}
        signatures = self._interpreter.get_signature_list()
        if len(signatures) == 1:
            runner = self._interpreter.get_signature_runner(next(iter(signatures)))
            for known, details in (
                (self._inputs, runner.get_input_details()),
                (self._outputs, runner.get_output_details()),
            ):
                for name, detail in details.items():
                    known.setdefault(name, detail["index"])
        return self

    def _delegates(self) -> list[Any] | None:
        if "delegate" not in self._options:
            return None
        library = str(self._options["delegate"])
        try:
            ctypes.CDLL(library)  # first: LiteRT's own class fails once more, in its destructor, where this fails
            return [self._library.load_delegate(library, dict(self._options.get("delegate_options", {})))]
        except (ValueError, OSError, RuntimeError) as err:
            raise AgentError(
                f"the delegate cannot be loaded: {str(err).strip() or type(err).__name__}",
                library,
                "check that it is on the device, was built for its processor, and that its accelerator answers",
            ) from err

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interpreter = None

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Runtime.infer`. An output appears under every name that it is known by."""
        unknown = sorted(set(feeds) - set(self._inputs))
        if unknown or len(feeds) != self._input_count:
            raise AgentError(
                f"inputs {sorted(feeds)} given, {sorted(self._inputs)} known",
                self._path.name,
                "feed every input of the artifact by its name",
            )
        try:
            for name, array in feeds.items():
                self._interpreter.set_tensor(self._inputs[name], array)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as err:
            raise AgentError(
                f"{self._package} cannot run the artifact: {err}",
                self._path.name,
                "compare the inputs with those that the manifest lists for this artifact",
            ) from err
        arrays = {index: self._interpreter.get_tensor(index) for index in set(self._outputs.values())}  # copies
        return {name: arrays[index] for name, index in self._outputs.items()}

    @property
    def layers_unavailable(self) -> str:
        """Why there are no times of operators; empty where there are."""
        if not self._c_library.is_file():
            return (
                "its Python interface has no times of operators; "
                "LiteRT's benchmark_model with --enable_op_profiling=true has"
            )
        if not self.version.startswith(KNOWN_VERSIONS):
            return f"the profiler of LiteRT's C library is known here for {KNOWN_VERSIONS[0]}x, not for {self.version}"
        if self._options.get("delegate"):
            return "operators are timed with XNNPACK alone, and this artifact has a delegate"
        return ""

    def layers(self, feeds: Mapping[str, NDArray[Any]], runs: int) -> list[dict[str, Any]]:
        """Mean time of every operator, by the profiler of LiteRT's C library; see `litert_layers`."""
        return profile_operators(self._c_library, self._path, self._threads, feeds, runs)


class TfliteRuntime(LiteRT):
    """The same interpreter as `tflite_runtime` ships it, for boards whose Python is older than LiteRT's packages."""

    _module = "tflite_runtime.interpreter"
    _package = "tflite-runtime"
