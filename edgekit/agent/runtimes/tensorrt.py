"""TensorRT: one engine, checked against its passport, with host arrays in and out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit.agent import engine_passport as passports
from edgekit.agent.engine_layers import inspected, layer_rows
from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes import tensorrt_api as api
from edgekit.agent.runtimes.cuda import Cuda
from edgekit.agent.runtimes.options import known_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHERE = "runtime tensorrt"
_REBUILD = "build the engine again on this board (job build_engine)"


class TensorRT:
    """One serialised engine in one execution context, on one CUDA stream.

    Options: `passport`, as the job build_engine made it (an engine without one is not loaded); `device`, number of the
    GPU; `dla_core`, where the engine uses one; `shapes` {input: shape} of dynamic inputs, which otherwise take the
    shape of the first feeds. Threads have no meaning here.

    A run is timed as a caller sees it: inputs are copied to the GPU, computed, and outputs copied back.
    """

    on_gpu = True

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None:
        known_only(options, ("passport", "device", "dla_core", "shapes"), "tensorrt")
        self._trt = api.load_tensorrt()
        self.version = str(self._trt.__version__)
        self._path, self._options = path, options
        self._log: list[str] = []
        self._cuda = Cuda(int(options.get("device", 0)))
        self._engine: Any = None
        self._context: Any = None
        self._runtime: Any = None
        self._tensors: list[api.IoTensor] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._run: Any = None
        self._free_before = self._free_least = 0

    def __enter__(self) -> TensorRT:
        self._cuda.__enter__()
        try:
            self._load()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run = self._context = self._engine = self._runtime = None  # before the memory that they use
        self._cuda.__exit__(kind, error, trace)

    def _load(self) -> None:
        passport = self._options.get("passport")
        if not passport:
            raise AgentError(
                "the engine has no passport, so nobody knows which machine it fits", self._path.name, _REBUILD
            )
        content = self._path.read_bytes()
        if passport.get("engine_sha256") != hashlib.sha256(content).hexdigest():
            raise AgentError("the passport is of another engine", self._path.name, "give the one that came with it")
        now = passports.here(self._cuda.facts(), self.version)
        differences = passports.passport_differences(passport, now)
        if differences:
            raise AgentError(
                f"the engine was built elsewhere: {passports.explained(differences)}", self._path.name, _REBUILD
            )
        trt = self._trt
        self._free_before = self._free_least = self._cuda.memory_bytes()[0]
        self._runtime = trt.Runtime(api.logger(trt, self._log))
        if self._options.get("dla_core") is not None:
            self._runtime.DLA_core = int(self._options["dla_core"])
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise self._refused("cannot load the engine", _REBUILD)
        self._tensors = api.io_tensors(trt, self._engine)
        self._new_context()
        self._note_memory()
        if all(-1 not in tensor.shape for tensor in self._tensors if tensor.is_input):
            self._prepare({tensor.name: tensor.shape for tensor in self._tensors if tensor.is_input})
        elif self._options.get("shapes"):
            self._prepare({name: tuple(shape) for name, shape in self._options["shapes"].items()})

    def _new_context(self) -> None:
        self._run = self._context = None  # first: two contexts would need the memory of two
        self._shapes = {}
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._refused("cannot make an execution context", "free memory on the GPU")

    def _refused(self, what: str, fix: str) -> AgentError:
        said = "; ".join(self._log[-3:]) or "it says nothing more"
        return AgentError(f"TensorRT {self.version} {what}: {said}", self._path.name, fix)

    def _prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Memory for all inputs and outputs under these input shapes. Again whenever a dynamic shape changes."""
        dynamic = {t.name: shapes[t.name] for t in self._tensors if t.is_input and t.name in shapes and -1 in t.shape}
        refused = api.set_input_shapes(self._engine, self._context, dynamic)
        if refused:
            raise AgentError(
                "; ".join(f"input {name!r} cannot have shape {list(dynamic[name])}" for name in refused),
                self._path.name,
                "keep to the profile that the engine was built with, or build one for this shape",
            )
        self._shapes = {t.name: api.tensor_shape(self._engine, self._context, t.name) for t in self._tensors}
        unknown = [name for name, shape in self._shapes.items() if any(size < 0 for size in shape)]
        if unknown:
            raise AgentError(
                f"the shape of {unknown[0]!r} is not known before the run",
                self._path.name,
                "export the network with output shapes that follow from its input shapes",
            )
        while self._addresses:
            self._cuda.free(self._addresses.popitem()[1])
        for tensor in self._tensors:
            size = int(np.prod(self._shapes[tensor.name], dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
            self._addresses[tensor.name] = self._cuda.allocate(size)
        self._run = api.executor(self._trt, self._engine, self._context, self._addresses, self._cuda.stream)

    @property
    def inputs(self) -> list[api.IoTensor]:
        """What the engine takes."""
        return [tensor for tensor in self._tensors if tensor.is_input]

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Runtime.infer`."""
        self._check(feeds)
        given = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        if any(given[name].shape != self._shapes.get(name) for name in given):
            self._prepare({name: array.shape for name, array in given.items()})
        for name, array in given.items():
            self._cuda.to_device(self._addresses[name], array)
        if not self._run():
            raise self._refused("cannot run the engine", "compare the inputs with those that the manifest lists")
        outputs = {
            tensor.name: np.empty(self._shapes[tensor.name], tensor.dtype)
            for tensor in self._tensors
            if not tensor.is_input
        }
        for name, array in outputs.items():
            self._cuda.to_host(array, self._addresses[name])
        self._cuda.synchronise()
        return outputs

    def _check(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        inputs = {tensor.name: tensor for tensor in self._tensors if tensor.is_input}
        if set(feeds) != set(inputs):
            raise AgentError(
                f"inputs {sorted(feeds)} given, {sorted(inputs)} known",
                self._path.name,
                "feed every input of the engine by its name",
            )
        for name, array in feeds.items():
            shape = inputs[name].shape
            fits = len(shape) == array.ndim and all(own == -1 or own == got for own, got in zip(shape, array.shape))
            if array.dtype.name != inputs[name].dtype or not fits:
                raise AgentError(
                    f"input {name!r} is {array.dtype.name} {list(array.shape)}",
                    self._path.name,
                    f"the engine takes {inputs[name].dtype} {list(shape)}",
                )

    def layers(self, feeds: Mapping[str, NDArray[Any]], runs: int) -> list[dict[str, Any]]:
        """Mean time of every layer over `runs` runs, in order of execution; see `Runtime.layers`.

        By IProfiler, which waits for each layer: the sum is more than a run without it takes. Names and precisions are
        TensorRT's own, after fusing; precision is None where the engine was built without detailed inspection.
        """
        seen: dict[str, list[float]] = {}
        profiler = api.layer_profiler(self._trt, lambda name, ms: seen.setdefault(name, []).append(ms))
        self._new_context()
        self._context.profiler = profiler
        self.infer(feeds)  # outside of the table: the first run loads kernels
        seen.clear()
        for _ in range(runs):
            self.infer(feeds)
        self._note_memory()
        self._new_context()  # without the profiler; the next run prepares it
        return layer_rows(seen, runs, inspected(self._trt, self._engine))

    def _note_memory(self) -> None:
        self._free_least = min(self._free_least, self._cuda.memory_bytes()[0])

    @property
    def peak_gpu_bytes(self) -> int:
        """Most GPU memory seen to be taken since before the engine was loaded.

        By cudaMemGetInfo before loading, after loading and now: it counts every process, and misses what is taken and
        given back between two looks. On a Jetson it is the board's one memory.
        """
        self._note_memory()
        return max(self._free_before - self._free_least, 0)
