"""ONNX Runtime with the execution providers for CUDA and TensorRT. A provider that is not there is an error.

ONNX Runtime by itself goes on with the CPU where a provider's library cannot be loaded, and gives single nodes to the
CPU that the provider lacks. Both would put the CPU's time under the GPU's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.cuda import Cuda
from edgekit.agent.runtimes.onnxruntime import OnnxRuntime
from edgekit.agent.runtimes.onnxruntime_profile import nodes_of_providers

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CPU = "CPUExecutionProvider"


class OnnxRuntimeCuda(OnnxRuntime):
    """The CUDA execution provider.

    Options: `device`, number of the GPU; `provider_options`, as ONNX Runtime documents them, all of them strings or
    numbers; `fall_back`, names of further providers that may take nodes ('CPUExecutionProvider' among them), none by
    default.
    """

    provider = "CUDAExecutionProvider"
    options = ("device", "provider_options", "fall_back")
    on_gpu = True
    load_fix = (
        "see that CUDA, cuDNN and TensorRT are those that this ONNX Runtime was built for, and that the loader finds "
        "them (LD_LIBRARY_PATH); else that it knows the artifact's operator set"
    )
    layers_unavailable = (
        "ONNX Runtime's profiler times the launch of a kernel on a GPU, not the kernel; a TensorRT engine of the same "
        "network gives its layers"
    )

    def __enter__(self) -> OnnxRuntimeCuda:
        available = self._library.get_available_providers()
        if self.provider not in available:
            raise AgentError(
                f"this ONNX Runtime {self.version} has no {self.provider}",
                f"runtime {type(self).__name__}",
                "install onnxruntime-gpu (for a Jetson: NVIDIA's own wheel) instead of onnxruntime; it has: {}".format(
                    ", ".join(available)
                ),
            )
        self._cuda: Any = None
        self.gpu_memory_unavailable = ""
        try:
            self._cuda = Cuda(int(self._options.get("device", 0))).__enter__()
            self._free_before = self._free_least = self._cuda.memory_bytes()[0]
        except AgentError as err:  # ONNX Runtime may have a CUDA of its own
            self.gpu_memory_unavailable = f"not available: {err.what}"
            self._close_cuda()
        try:
            super().__enter__()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        got = self._session.get_providers()[0]
        if got != self.provider:
            self.__exit__(None, None, None)
            raise self._not_started(got)
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._close_cuda()

    def _close_cuda(self) -> None:
        if self._cuda is not None:
            self._cuda.__exit__(None, None, None)
            self._cuda = None

    def _session_options(self) -> Any:
        options = super()._session_options()
        if _CPU not in self._options.get("fall_back", ()):
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return options

    def _not_started(self, got: str) -> AgentError:
        what = f"ONNX Runtime {self.version} could not start {self.provider} and took {got} instead"
        return AgentError(what, self._path.name, self.load_fix)

    def _open(self, options: Any) -> Any:
        try:
            return super()._open(options)
        except AgentError as err:
            if _CPU in self._options.get("fall_back", ()):
                raise
            got = super()._open(super()._session_options()).get_providers()[0]  # without the condition below
            if got != self.provider:
                raise self._not_started(got) from err
            raise AgentError(
                f"{self.provider} cannot run all of the network: {err.what}",
                self._path.name,
                f"set fall_back to [{_CPU}] to run the rest there; the number is then of both",
            ) from err

    def _providers(self) -> list[Any]:
        given = {"device_id": str(self._options.get("device", 0)), **self._options.get("provider_options", {})}
        return [
            (self.provider, {name: str(value) for name, value in given.items()}),
            *self._options.get("fall_back", ()),
        ]

    def placement(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, list[str]]:
        """Provider -> names of the nodes that it ran, from one profiled run in a session of its own."""
        return nodes_of_providers(self._profiled(feeds, 1))

    @property
    def peak_gpu_bytes(self) -> int | None:
        """As `TensorRT.peak_gpu_bytes`; None: `gpu_memory_unavailable` says why."""
        if self._cuda is None:
            return None
        self._free_least = min(self._free_least, self._cuda.memory_bytes()[0])
        return int(max(self._free_before - self._free_least, 0))


class OnnxRuntimeTensorRT(OnnxRuntimeCuda):
    """The TensorRT execution provider: it builds an engine when it loads the file, which takes minutes.

    `provider_options` such as trt_fp16_enable, trt_int8_enable, trt_engine_cache_enable and trt_engine_cache_path are
    handed on. What TensorRT cannot take goes to no other provider unless `fall_back` names it.
    """

    provider = "TensorrtExecutionProvider"
