"""The CUDA runtime library by ctypes: memory, copies, a stream, and what the GPU is. Needs neither torch nor pycuda."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Iterator

from edgekit.agent.errors import AgentError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHERE = "CUDA runtime"
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # cudaDeviceAttr
_NAME_BYTES = 256  # of cudaDeviceProp.name, the struct's first member in every version
_PROPERTIES_BYTES = 1 << 14  # the struct grows from version to version; CUDA 13's is about 1 KiB
_MAJORS = ("13", "12", "11.0", "10.2")
_NO_DEVICE, _OLD_DRIVER = 100, 35  # cudaErrorNoDevice, cudaErrorInsufficientDriver


def library_names() -> Iterator[str]:
    """Where libcudart may be: the loader's path, CUDA's own folder, then the folders of pip's nvidia packages."""
    found = ctypes.util.find_library("cudart")
    if found:
        yield found
    yield "libcudart.so"
    for major in _MAJORS:
        yield f"libcudart.so.{major}"
    yield "/usr/local/cuda/lib64/libcudart.so"
    for folder in sys.path:
        for path in sorted(Path(folder or ".").glob("nvidia/*/lib/libcudart.so*")):
            yield str(path)


def load_library() -> Any:
    """libcudart.

    Raises:
        AgentError: it is nowhere.
    """
    for name in library_names():
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise AgentError(
        "libcudart cannot be found",
        _WHERE,
        "install the CUDA runtime (on a Jetson: sudo apt install nvidia-jetpack) and let ldconfig know its folder",
    )


class Cuda:
    """One GPU. Everything that was allocated, and the stream, is given back when the context ends.

    Attributes:
        stream: handle of the one stream that all copies go through; valid inside the context.
    """

    def __init__(self, device: int = 0, library: Any = None) -> None:
        self._library = load_library() if library is None else library
        self._device = device
        self._allocated: list[int] = []
        self.stream = 0

    def __enter__(self) -> Cuda:
        count = ctypes.c_int()
        self._call("cudaGetDeviceCount", ctypes.byref(count))
        if not 0 <= self._device < count.value:
            raise AgentError(
                f"there is no GPU {self._device}", _WHERE, f"GPUs are numbered from 0; this board has {count.value}"
            )
        self._call("cudaSetDevice", ctypes.c_int(self._device))
        handle = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(handle))
        self.stream = handle.value or 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._allocated:
            self._library.cudaFree(ctypes.c_void_p(self._allocated.pop()))
        if self.stream:
            self._library.cudaStreamDestroy(ctypes.c_void_p(self.stream))
            self.stream = 0

    def allocate(self, size_bytes: int) -> int:
        """Address of new memory on the GPU; at least one byte, because an address of 0 means 'none' to TensorRT."""
        address = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(size_bytes, 1)))
        self._allocated.append(address.value or 0)
        return self._allocated[-1]

    def free(self, address: int) -> None:
        """Give memory of `allocate` back before the context ends."""
        self._allocated.remove(address)
        self._call("cudaFree", ctypes.c_void_p(address))

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        """Put a contiguous array at `address`; may return before it is there, but in the stream's order."""
        self._copy(ctypes.c_void_p(address), ctypes.c_void_p(array.ctypes.data), array.nbytes, _TO_DEVICE)

    def to_host(self, array: NDArray[Any], address: int) -> None:
        """Fill a contiguous array from `address`; it may be read after `synchronise`."""
        self._copy(ctypes.c_void_p(array.ctypes.data), ctypes.c_void_p(address), array.nbytes, _TO_HOST)

    def _copy(self, target: ctypes.c_void_p, source: ctypes.c_void_p, size_bytes: int, kind: int) -> None:
        size = ctypes.c_size_t(size_bytes)
        self._call("cudaMemcpyAsync", target, source, size, ctypes.c_int(kind), ctypes.c_void_p(self.stream))

    def synchronise(self) -> None:
        """Wait until everything in the stream is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def memory_bytes(self) -> tuple[int, int]:
        """(free, all) of the GPU, counting every process; a Jetson's GPU shares the board's memory."""
        free, whole = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(whole))
        return free.value, whole.value

    def facts(self) -> dict[str, Any]:
        """What an engine depends on: {gpu, sm, integrated, cuda_runtime, cuda_driver}.

        `sm` is the compute capability such as '8.7'; `cuda_runtime` the version of the library, `cuda_driver` the
        newest that the driver can serve, both such as '12.6'.
        """
        return {
            "gpu": self._name(),
            "sm": f"{self._attribute(_MAJOR)}.{self._attribute(_MINOR)}",
            "integrated": bool(self._attribute(_INTEGRATED)),
            "cuda_runtime": self._version("cudaRuntimeGetVersion"),
            "cuda_driver": self._version("cudaDriverGetVersion"),
        }

    def _name(self) -> str:
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        # CUDA 12 has a second struct under the name with _v2; both begin with the name
        name = "cudaGetDeviceProperties_v2"
        if not hasattr(self._library, name):
            name = "cudaGetDeviceProperties"
        self._call(name, properties, ctypes.c_int(self._device))
        return properties.raw[:_NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", "replace")

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(which), ctypes.c_int(self._device))
        return value.value

    def _version(self, function: str) -> str:
        value = ctypes.c_int()
        self._call(function, ctypes.byref(value))
        return f"{value.value // 1000}.{value.value % 1000 // 10}"  # 12060 is 12.6

    def _call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._library, name)(*arguments))
        if code == 0:
            return
        describe = self._library.cudaGetErrorString
        describe.restype = ctypes.c_char_p
        text = describe(ctypes.c_int(code))
        what = text.decode("utf-8", "replace") if isinstance(text, bytes) else "unknown error"
        fix = "free memory on the GPU, or restart what uses it"
        if code in (_NO_DEVICE, _OLD_DRIVER):
            fix = "check the driver with nvidia-smi, or cat /etc/nv_tegra_release on a Jetson"
        raise AgentError(f"{name}: {what} (error {code})", _WHERE, fix)
