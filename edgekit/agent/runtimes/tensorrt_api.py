"""What differs between TensorRT 8.4 and 11, seen from Python. Nothing else in the agent asks for a version.

Checked against the names in the bindings of 8.6.1, 10.0.1, 10.3.0, 10.13.0 and 11.4.0 (`tests`):
inputs and outputs are known by name from 8.5 on and by number only before; IProgressMonitor is in Python from 10.0 on;
8.x to 10.x take precision from builder flags, from 10.0 on also from the network's own types ('strongly typed'), 11
only so, and it has neither EXPLICIT_BATCH nor the flags FP16 and INT8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from edgekit.agent.errors import AgentError

_NUMPY = {  # TensorRT's DataType by name; a type that is not here has no numpy equivalent
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_OLDEST = (8, 4)


@dataclass(frozen=True)
class IoTensor:
    """An input or output of an engine. A dimension of -1 is dynamic."""

    name: str
    is_input: bool
    dtype: str
    shape: tuple[int, ...]


def load_tensorrt() -> Any:
    """The module `tensorrt`.

    Raises:
        AgentError: it is not installed, or too old for this agent.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as err:  # OSError: bindings without their library
        raise AgentError(
            f"TensorRT's Python module cannot be loaded: {err}",
            "runtime tensorrt",
            "on a Jetson: sudo apt install python3-libnvinfer, and use the system's Python; else: pip install tensorrt",
        ) from err
    if version(tensorrt) < _OLDEST:
        raise AgentError(
            f"TensorRT is {tensorrt.__version__}",
            "runtime tensorrt",
            "the agent knows 8.4 and later; measure such a board with the runtime trtexec",
        )
    return tensorrt


def version(trt: Any) -> tuple[int, int]:
    """(major, minor)."""
    parts = str(trt.__version__).split(".")
    return int(parts[0]), int(parts[1])


def network_flags(trt: Any, strongly_typed: bool) -> int:
    """Flags of `create_network`: explicit batch where that is still a choice, strong types where asked for.

    Raises:
        AgentError: strong types are asked of a version without them.
    """
    if only_strongly_typed(trt):
        return 0  # every network is; the flag is still there and does nothing
    known = trt.NetworkDefinitionCreationFlag
    flags = 0
    if version(trt) < (10, 0):  # from 10.0 on every network has it and the flag does nothing
        flags |= 1 << int(known.EXPLICIT_BATCH)
    if strongly_typed:
        if not hasattr(known, "STRONGLY_TYPED"):
            raise AgentError(
                f"TensorRT {trt.__version__} has no strongly typed networks",
                "job build_engine, strongly_typed",
                "leave strongly_typed out: precision then comes from builder flags",
            )
        flags |= 1 << int(known.STRONGLY_TYPED)
    return flags


def only_strongly_typed(trt: Any) -> bool:
    """Whether precision can come from the network's own types alone, as from 11 on."""
    return not hasattr(trt.BuilderFlag, "FP16")


def precision_flags(precision: str) -> tuple[str, ...]:
    """Names of the builder flags for a weakly typed network: int8 lets float layers run in fp16 beside it."""
    return {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}[precision]


def io_tensors(trt: Any, engine: Any) -> list[IoTensor]:
    """Inputs and outputs of an engine, in its order.

    Raises:
        AgentError: one is of a type that numpy has not.
    """
    if hasattr(engine, "num_io_tensors"):
        return [
            IoTensor(
                name,
                engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
                _numpy_name(engine.get_tensor_dtype(name), name),
                tuple(engine.get_tensor_shape(name)),
            )
            for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors))
        ]
    return [
        IoTensor(
            engine.get_binding_name(index),
            engine.binding_is_input(index),
            _numpy_name(engine.get_binding_dtype(index), engine.get_binding_name(index)),
            tuple(engine.get_binding_shape(index)),
        )
        for index in range(engine.num_bindings)
    ]


def _numpy_name(dtype: Any, tensor: str) -> str:
    if dtype.name not in _NUMPY:
        raise AgentError(
            f"tensor {tensor!r} is of type {dtype.name}, which numpy has not",
            "runtime tensorrt",
            "give the network inputs and outputs of float32, float16 or integers",
        )
    return _NUMPY[dtype.name]


def set_input_shapes(engine: Any, context: Any, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Fix the shape of dynamic inputs; the names that the context refuses, as outside of its profile."""
    if hasattr(engine, "num_io_tensors"):
        return [name for name, shape in shapes.items() if not context.set_input_shape(name, tuple(shape))]
    return [
        name
        for name, shape in shapes.items()
        if not context.set_binding_shape(engine.get_binding_index(name), tuple(shape))
    ]


def tensor_shape(engine: Any, context: Any, name: str) -> tuple[int, ...]:
    """Shape of an input or output under the input shapes that are set."""
    if hasattr(engine, "num_io_tensors"):
        return tuple(context.get_tensor_shape(name))
    return tuple(context.get_binding_shape(engine.get_binding_index(name)))


def executor(trt: Any, engine: Any, context: Any, addresses: Mapping[str, int], stream: int) -> Callable[[], bool]:
    """A function that enqueues one run on the stream; False: TensorRT refused.

    Args:
        trt: the module.
        engine: whose context it is.
        context: with its input shapes set.
        addresses: of every input and output on the GPU, by name.
        stream: handle of a CUDA stream.

    Raises:
        AgentError: TensorRT refuses an address.
    """
    if hasattr(engine, "num_io_tensors"):
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise AgentError(
                    f"TensorRT {trt.__version__} does not take the memory of tensor {name!r}",
                    "runtime tensorrt",
                    "build the engine again; its inputs and outputs must lie on the GPU",
                )
        return lambda: bool(context.execute_async_v3(stream))
    bindings = [addresses[engine.get_binding_name(index)] for index in range(engine.num_bindings)]
    return lambda: bool(context.execute_async_v2(bindings, stream))


def logger(trt: Any, keep: list[str]) -> Any:
    """A logger that appends errors and warnings to `keep`, so that a refusal can say why; it prints nothing."""

    class _Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
                keep.append(message)

    return _Log()


def layer_profiler(trt: Any, record: Callable[[str, float], None]) -> Any:
    """An IProfiler that calls `record(layer name, ms)` for every layer of every run."""

    class _Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            record(layer_name, ms)

    return _Profiler()


def progress_monitor(
    trt: Any,
    start: Callable[[str, str, int], None],
    step: Callable[[str, int], None],
    finish: Callable[[str], None],
) -> Any:
    """An IProgressMonitor that calls the three functions, or None where Python has none (before 10.0).

    `start(phase, parent or '', steps)`, `step(phase, index)`, `finish(phase)`; they come from TensorRT's threads.
    """
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class _Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            start(phase_name, parent_phase or "", num_steps)

        def step_complete(self, phase_name: str, step_index: int) -> bool:
            step(phase_name, step_index)
            return True  # False would end the build

        def phase_finish(self, phase_name: str) -> None:
            finish(phase_name)

    return _Monitor()
