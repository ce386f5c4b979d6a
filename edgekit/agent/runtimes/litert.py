"""LiteRT, by the `ai_edge_litert` package or its predecessor `tflite_runtime`. Which one is the job's choice."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping

from edgekit.agent.errors import AgentError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class LiteRT:
    """One .tflite file in one interpreter with its default CPU kernels (XNNPACK).

    A tensor is known by its own name or, where the file has exactly one signature, by its name in that.
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
        self._path, self._threads, self._options = path, threads, options
        self._interpreter: Any = None
        self._inputs: dict[str, int] = {}
        self._outputs: dict[str, int] = {}
        self._input_count = 0

    def __enter__(self) -> LiteRT:
        try:
            self._interpreter = self._library.Interpreter(model_path=str(self._path), num_threads=self._threads)
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


class TfliteRuntime(LiteRT):
    """The same interpreter as `tflite_runtime` ships it, for boards whose Python is older than LiteRT's packages."""

    _module = "tflite_runtime.interpreter"
    _package = "tflite-runtime"
