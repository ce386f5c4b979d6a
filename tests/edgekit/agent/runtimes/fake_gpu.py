"""A fake: no GPU, no TensorRT. What it 'builds' is JSON, and it doubles its inputs.

It has exactly the names, and takes exactly the arguments, that were recorded from the real bindings of a version
(`recorded/`), so code that runs against it touches nothing that the real module lacks. Memory of the fake GPU is
memory of this process, so addresses are real ones.
"""
# ruff: noqa: N802 - the real names

import ctypes
import enum
import json
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = ("8.6.1", "10.0.1", "10.3.0", "10.13.0", "11.4.0")
ENUMS = (
    "BuilderFlag",
    "DataType",
    "DeviceType",
    "LayerInformationFormat",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity",
    "TensorIOMode",
)
NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT64": "int64", "BF16": "bfloat16"}

NETWORK = {
    "inputs": {"x": {"dtype": "FLOAT", "shape": [2, 3]}},
    "outputs": {"y": {"dtype": "HALF", "shape": [2, 3]}},
    "layers": [
        {"name": "conv", "type": "CONVOLUTION", "dtype": "FLOAT"},
        {"name": "top", "type": "SOFTMAX", "dtype": "FLOAT"},
    ],
}
QUANTISED = {**NETWORK, "layers": [{"name": "q", "type": "QUANTIZE", "dtype": "INT8"}, *NETWORK["layers"]]}


class FakeCudart:
    """libcudart as ctypes would give it, for one device called 'Fake GPU' of SM 8.7."""

    def __init__(self, devices: int = 1, fails: dict[str, int] | None = None) -> None:
        self.devices, self.fails = devices, fails or {}
        self.memory: dict[int, Any] = {}
        self.streams = 0
        self.copied: list[int] = []
        self.pending: list[tuple[int, bytes]] = []
        self.cudaGetErrorString = lambda code: b"out of memory" if code.value == 2 else b"no CUDA-capable device"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)
        method = type(self).__dict__.get("_" + name)
        if method is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            if name in self.fails:
                return self.fails[name]
            method(self, *[getattr(a, "_obj", a) for a in arguments])
            return 0

        return call

    def _cudaGetDeviceCount(self, count: Any) -> None:
        count.value = self.devices

    def _cudaSetDevice(self, device: Any) -> None:
        pass

    def _cudaStreamCreate(self, stream: Any) -> None:
        self.streams += 1
        stream.value = 77

    def _cudaStreamDestroy(self, stream: Any) -> None:
        self.streams -= 1

    def _cudaStreamSynchronize(self, stream: Any) -> None:
        assert stream.value == 77
        for target, content in self.pending:
            ctypes.memmove(target, content, len(content))
        self.pending.clear()

    def _cudaMalloc(self, address: Any, size: Any) -> None:
        buffer = ctypes.create_string_buffer(size.value)
        address.value = ctypes.addressof(buffer)
        self.memory[address.value] = buffer

    def _cudaFree(self, address: Any) -> None:
        del self.memory[address.value]

    def _cudaMemcpyAsync(self, target: Any, source: Any, size: Any, kind: Any, stream: Any) -> None:
        device = target if kind.value == 1 else source
        assert size.value <= len(self.memory[device.value])
        self.copied.append(kind.value)
        if kind.value == 1:
            ctypes.memmove(target.value, source.value, size.value)
        else:  # back on the host no sooner than somebody waits for it
            ctypes.memset(target.value, 0xEE, size.value)
            self.pending.append((target.value, ctypes.string_at(source.value, size.value)))

    def _cudaMemGetInfo(self, free: Any, whole: Any) -> None:
        free.value = 1_000_000 - sum(len(buffer) for buffer in self.memory.values())
        whole.value = 1_000_000

    def _cudaGetDeviceProperties(self, properties: Any, device: Any) -> None:
        properties.value = b"Fake GPU"

    def _cudaDeviceGetAttribute(self, value: Any, which: Any, device: Any) -> None:
        value.value = {75: 8, 76: 7, 18: 1}[which.value]

    def _cudaRuntimeGetVersion(self, value: Any) -> None:
        value.value = 12060

    def _cudaDriverGetVersion(self, value: Any) -> None:
        value.value = 12080


class Strict:
    """Refuses every name that was not recorded for its class, and calls with other arguments."""

    _members: ClassVar[dict[str, Any]] = {}

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        members = object.__getattribute__(self, "_members")
        if name not in members:
            raise AttributeError(f"{type(self).__name__} of this version has no {name}")
        value = object.__getattribute__(self, name)
        overloads = members[name]
        if overloads is None or not callable(value):
            return value

        def call(*arguments: Any) -> Any:
            counts = [(sum(not a.endswith("=") for a in names), len(names)) for names in overloads]
            assert any(least <= len(arguments) <= most for least, most in counts), (name, arguments)
            return value(*arguments)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in self._members:
            raise AttributeError(f"{type(self).__name__} of this version has no {name}")
        object.__setattr__(self, name, value)


class _Tensor(Strict):
    def __init__(self, name: str, spec: dict[str, Any], dtypes: Any) -> None:
        self.name, self.shape, self.dtype = name, tuple(spec["shape"]), dtypes[spec["dtype"]]


class _Layer(Strict):
    def __init__(self, spec: dict[str, Any], trt: Any) -> None:
        self.name, self.type, self.num_outputs = spec["name"], trt.LayerType[spec["type"]], 1
        self._out = trt._made(_Tensor, "ITensor", spec["name"], {"shape": [1], "dtype": spec["dtype"]}, trt.DataType)

    def get_output(self, index: int) -> Any:
        return self._out


class _Network(Strict):
    def __init__(self, trt: Any, flags: int) -> None:
        self._trt, self._flags, self._content = trt, flags, {"inputs": {}, "outputs": {}, "layers": []}
        self._layers: list[Any] = []

    def _fill(self, content: dict[str, Any]) -> None:
        self._content = content
        self._layers = [self._trt._made(_Layer, "ILayer", spec, self._trt) for spec in content["layers"]]
        self.num_layers, self.num_inputs = len(self._layers), len(content["inputs"])

    def get_layer(self, index: int) -> Any:
        return self._layers[index]

    def get_input(self, index: int) -> Any:
        name, spec = list(self._content["inputs"].items())[index]
        return self._trt._made(_Tensor, "ITensor", name, spec, self._trt.DataType)


class _Error(Strict):
    def desc(self) -> str:
        return "no importer for operator Warp"

    def node(self) -> int:
        return 3


class _Parser(Strict):
    def __init__(self, trt: Any, network: Any, logger: Any) -> None:
        self._trt, self._network, self.num_errors = trt, network, 0

    def parse_from_file(self, path: str) -> bool:
        content = json.loads(Path(path).read_text())
        if content.get("unparsable"):
            self.num_errors = 1
            return False
        self._network._fill(content)
        return True

    def get_error(self, index: int) -> Any:
        return self._trt._made(_Error, "ParserError")


class _Profile(Strict):
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        self._shapes[name] = (least, usual, most)


class _Cache(Strict):
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content + b"+timings"


class _Config(Strict):
    def __init__(self, trt: Any) -> None:
        self._trt, self._set, self._profiles, self._limits = trt, {trt.BuilderFlag.TF32}, [], {}
        if "builder_optimization_level" in self._members:
            self.builder_optimization_level = 3
        self.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY

    def set_flag(self, flag: Any) -> None:
        self._set.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._set.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._set

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._limits[pool.name] = size

    def add_optimization_profile(self, profile: Any) -> int:
        if any(not all(a <= b <= c for a, b, c in zip(*row, strict=True)) for row in profile._shapes.values()):
            return -1
        self._profiles.append(profile._shapes)
        return len(self._profiles) - 1

    def create_timing_cache(self, content: bytes) -> Any:
        return self._trt._made(_Cache, "ITimingCache", content)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache._content.startswith(b"of another board"):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache

    def can_run_on_DLA(self, layer: Any) -> bool:
        return layer.type.name != "SOFTMAX"


class _Builder(Strict):
    def __init__(self, trt: Any, logger: Any) -> None:
        self._trt, self._logger, self.num_DLA_cores = trt, logger, trt._dla_cores

    def create_network(self, flags: int = 0) -> Any:
        self._trt._network_flags = flags
        return self._trt._made(_Network, "INetworkDefinition", self._trt, flags)

    def create_builder_config(self) -> Any:
        self._trt._config = self._trt._made(_Config, "IBuilderConfig", self._trt)
        return self._trt._config

    def create_optimization_profile(self) -> Any:
        return self._trt._made(_Profile, "IOptimizationProfile")

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            monitor.phase_start("Building", None, 2)
            monitor.phase_start("Tactics", "Building", 4)
            assert monitor.step_complete("Tactics", 0)
            monitor.phase_finish("Tactics")
            assert monitor.step_complete("Building", 0)
            monitor.phase_finish("Building")
        if network._content.get("unbuildable"):
            self._logger.log(self._trt.ILogger.ERROR, "Could not find any implementation for node {ForeignNode}")
            self._logger.log(self._trt.ILogger.INFO, "chatter")
            return None
        detailed = config.profiling_verbosity == self._trt.ProfilingVerbosity.DETAILED
        return json.dumps({**network._content, "detailed": detailed}).encode()


class _Inspector(Strict):
    def __init__(self, trt: Any, content: dict[str, Any]) -> None:
        self._trt, self._content = trt, content

    def get_engine_information(self, form: Any) -> str:
        assert form == self._trt.LayerInformationFormat.JSON
        if not self._content["detailed"]:
            return json.dumps({"Layers": [layer["name"] for layer in self._content["layers"]]})
        return json.dumps(
            {
                "Layers": [
                    {
                        "Name": layer["name"],
                        "LayerType": "CaskConvolution",
                        "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP16 format"}],
                        "Weights": {"Type": "Int8", "Count": 4},
                    }
                    for layer in self._content["layers"]
                ]
            }
        )


class _Engine(Strict):
    def __init__(self, trt: Any, content: dict[str, Any]) -> None:
        self._trt, self._content = trt, content
        self._specs = {**content["inputs"], **content["outputs"]}
        self._names = list(self._specs)
        for counter in ("num_io_tensors", "num_bindings"):
            if counter in self._members:
                object.__setattr__(self, counter, len(self._names))

    def _shape(self, name: str) -> Any:
        return tuple(self._specs[name]["shape"])

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._trt.TensorIOMode["INPUT" if name in self._content["inputs"] else "OUTPUT"]

    def get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType[self._specs[name]["dtype"]]

    def get_tensor_shape(self, name: str) -> Any:
        return self._shape(name)

    def get_binding_name(self, index: int) -> str:
        return self._names[index]

    def get_binding_index(self, name: str) -> int:
        return self._names.index(name)

    def binding_is_input(self, index: int) -> bool:
        return self._names[index] in self._content["inputs"]

    def get_binding_dtype(self, index: int) -> Any:
        return self.get_tensor_dtype(self._names[index])

    def get_binding_shape(self, index: int) -> Any:
        return self._shape(self._names[index])

    def create_execution_context(self) -> Any:
        return self._trt._made(_Context, "IExecutionContext", self)

    def create_engine_inspector(self) -> Any:
        return self._trt._made(_Inspector, "EngineInspector", self._trt, self._content)


class _Context(Strict):
    def __init__(self, engine: Any) -> None:
        self._engine, self._shapes, self._addresses = engine, {}, {}
        self.profiler = None

    def _set(self, name: str, shape: Any) -> bool:
        self._shapes[name] = tuple(shape)
        return shape[0] <= 4  # the fake's profile ends there

    def _now(self, name: str) -> Any:
        if -1 not in self._engine._shape(name) or name in self._shapes:
            return self._shapes.get(name, self._engine._shape(name))
        first = next(iter(self._shapes.values()), (-1,))
        return (first[0], *self._engine._shape(name)[1:])

    def set_input_shape(self, name: str, shape: Any) -> bool:
        return self._set(name, shape)

    def set_binding_shape(self, index: int, shape: Any) -> bool:
        return self._set(self._engine._names[index], shape)

    def get_tensor_shape(self, name: str) -> Any:
        return self._now(name)

    def get_binding_shape(self, index: int) -> Any:
        return self._now(self._engine._names[index])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        return self._execute(stream)

    def execute_async_v2(self, bindings: list[int], stream: int) -> bool:
        self._addresses = dict(zip(self._engine._names, bindings, strict=True))
        return self._execute(stream)

    def _execute(self, stream: int) -> bool:
        assert stream == 77
        if self._engine._content.get("stubborn"):
            return False
        (first, *_), outputs = list(self._engine._content["inputs"]), self._engine._content["outputs"]
        for name in outputs:
            self._view(name)[...] = self._view(first).astype(self._view(name).dtype) * 2
        if self.profiler is not None:
            for number, layer in enumerate(self._engine._content["layers"], 1):
                self.profiler.report_layer_time(layer["name"], number / 8)
        return True

    def _view(self, name: str) -> Any:
        shape, dtype = self._now(name), np.dtype(NUMPY[self._engine._specs[name]["dtype"]])
        size = int(np.prod(shape)) * dtype.itemsize
        raw = (ctypes.c_char * size).from_address(self._addresses[name])
        return np.frombuffer(raw, dtype).reshape(shape)


class _Runtime(Strict):
    def __init__(self, trt: Any, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        try:
            return self._trt._made(_Engine, "ICudaEngine", self._trt, json.loads(content))
        except ValueError:
            self._logger.log(self._trt.ILogger.ERROR, "magic tag does not match")
            return None


class _Caller:
    """A base class that user code derives from: ILogger, IProfiler, IProgressMonitor."""

    def __init__(self) -> None:
        self.was_made = True


def fake_tensorrt(version: str, dla_cores: int = 0, without: tuple[str, ...] = ()) -> Any:
    """A module called `tensorrt` with what the bindings of `version` have.

    Args:
        version: one of VERSIONS.
        dla_cores: of the fake board.
        without: 'Class.member' to take away as well, for versions that could not be recorded.
    """
    recorded = json.loads((RECORDED / f"tensorrt-{version}.json").read_text())["classes"]
    for name in without:
        kind, _, member = name.partition(".")
        recorded[kind].pop(member)
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = version
    trt._dla_cores = dla_cores

    def made(implementation: type, kind: str, *arguments: Any) -> Any:
        return type(kind, (implementation,), {"_members": recorded[kind]})(*arguments)

    trt._made = made
    for kind in ENUMS:
        names = [name for name in recorded[kind] if name not in ("name", "value", "__init__")]
        setattr(trt, kind, enum.IntEnum(kind, names, start=0))
    for kind in ("ILogger", "IProfiler", "IProgressMonitor"):
        if kind in recorded:
            members = {name: number for number, name in enumerate(recorded[kind]) if name.isupper()}
            setattr(trt, kind, type(kind, (_Caller,), members))
    trt.Builder = lambda logger: made(_Builder, "Builder", trt, logger)
    trt.OnnxParser = lambda network, logger: made(_Parser, "OnnxParser", trt, network, logger)
    trt.Runtime = lambda logger: made(_Runtime, "Runtime", trt, logger)
    return trt
