"""Every runtime that the agent can use, by the name that targets and jobs call it."""

from __future__ import annotations

from typing import Callable, Mapping, Type

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.protocol import Runtime

RuntimeTable = Mapping[str, Callable[[], Type[Runtime]]]


def _onnxruntime() -> type[Runtime]:
    from edgekit.agent.runtimes.onnxruntime import OnnxRuntime

    return OnnxRuntime


def _unfused_onnxruntime() -> type[Runtime]:
    from edgekit.agent.runtimes.onnxruntime import UnfusedOnnxRuntime

    return UnfusedOnnxRuntime


def _onnxruntime_cuda() -> type[Runtime]:
    from edgekit.agent.runtimes.onnxruntime_gpu import OnnxRuntimeCuda

    return OnnxRuntimeCuda


def _onnxruntime_tensorrt() -> type[Runtime]:
    from edgekit.agent.runtimes.onnxruntime_gpu import OnnxRuntimeTensorRT

    return OnnxRuntimeTensorRT


def _tensorrt() -> type[Runtime]:
    from edgekit.agent.runtimes.tensorrt import TensorRT

    return TensorRT


def _torch_cuda() -> type[Runtime]:
    from edgekit.agent.runtimes.torch_cuda import TorchCuda

    return TorchCuda


def _litert() -> type[Runtime]:
    from edgekit.agent.runtimes.litert import LiteRT

    return LiteRT


def _tflite_runtime() -> type[Runtime]:
    from edgekit.agent.runtimes.litert import TfliteRuntime

    return TfliteRuntime


def _simulated() -> type[Runtime]:
    from edgekit.agent.runtimes.simulated import Simulated

    return Simulated


RUNTIMES: RuntimeTable = {
    "onnxruntime": _onnxruntime,
    "onnxruntime-unfused": _unfused_onnxruntime,
    "onnxruntime-cuda": _onnxruntime_cuda,
    "onnxruntime-tensorrt": _onnxruntime_tensorrt,
    "tensorrt": _tensorrt,
    "torch-cuda": _torch_cuda,
    "litert": _litert,
    "tflite-runtime": _tflite_runtime,
    "simulated": _simulated,
}


def runtime_class(name: str, table: RuntimeTable = RUNTIMES) -> type[Runtime]:
    """The class of the runtime called `name`.

    Raises:
        AgentError: the agent has no such runtime.
    """
    if name not in table:
        raise AgentError(
            f"the agent has no runtime {name!r}",
            "job, runtime",
            "runtimes: {}".format(", ".join(sorted(table))),
        )
    return table[name]()
