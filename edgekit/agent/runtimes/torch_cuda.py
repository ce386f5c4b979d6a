"""PyTorch on a GPU: a TorchScript file that edgekit made, and nothing else.

Every file that torch loads is a program. `torch.export.load` unpickles what is in a .pt2 by Python, and a .pth is a
pickle, so both are refused here. A TorchScript file is read by torch's C++ reader, which makes tensors and containers
alone and runs no Python, but its code still runs when it is called. So the file's origin has to be known: the agent
opens an artifact only under the digest that the job names, which is the digest of the file that the host traced.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Mapping

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.options import known_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHERE = "runtime torch-cuda"


class TorchCuda:
    """One TorchScript file on one GPU, in inference mode.

    Options: `inputs` and `outputs`, names in the order of the network's arguments and results, which TorchScript does
    not keep (required); `device`, number of the GPU. Threads are those of the host's part.
    """

    on_gpu = True
    layers_unavailable = "TorchScript's layers are not timed; a TensorRT engine of the same network gives its layers"

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None:
        known_only(options, ("inputs", "outputs", "device"), "torch-cuda")
        if not options.get("inputs") or not options.get("outputs"):
            raise AgentError(
                "the names of inputs and outputs are not given", _WHERE, "set the options inputs and outputs"
            )
        try:
            import torch
        except ImportError as err:
            raise AgentError(
                f"PyTorch is not installed: {err}", _WHERE, "install torch (for a Jetson: NVIDIA's own wheel)"
            ) from err
        self._torch: Any = torch
        self.version = str(torch.__version__)
        self._path, self._threads = path, threads
        self._inputs, self._outputs = list(options["inputs"]), list(options["outputs"])
        self._device = self._device_name(int(options.get("device", 0)))
        self._module: Any = None

    def _device_name(self, number: int) -> str:
        return f"cuda:{number}"

    def __enter__(self) -> TorchCuda:
        torch = self._torch
        if self._device.startswith("cuda") and not torch.cuda.is_available():
            raise AgentError(
                f"PyTorch {self.version} sees no GPU", _WHERE, "install a build of torch for this board's CUDA"
            )
        if not _is_torchscript(self._path):
            raise AgentError(
                "this is no TorchScript file; .pt2 and .pth are unpickled when they are loaded, so they are refused",
                self._path.name,
                "trace the network on the host and send that file",
            )
        torch.set_num_threads(self._threads)
        try:
            self._module = torch.jit.load(str(self._path), map_location=self._device).eval()
        except RuntimeError as err:
            raise AgentError(
                f"PyTorch {self.version} cannot load the artifact: {err}",
                self._path.name,
                "trace it with a torch that is not newer than the board's",
            ) from err
        if self._device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._module = None

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Runtime.infer`; host arrays in and out, as for every runtime."""
        if set(feeds) != set(self._inputs):
            raise AgentError(
                f"inputs {sorted(feeds)} given, {sorted(self._inputs)} known", self._path.name, "feed every input"
            )
        torch = self._torch
        try:
            with torch.inference_mode():
                given = [torch.from_numpy(feeds[name]).to(self._device) for name in self._inputs]
                found = self._module(*given)
        except RuntimeError as err:
            raise AgentError(
                f"PyTorch cannot run the artifact: {err}",
                self._path.name,
                "compare the inputs with those that the manifest lists for this artifact",
            ) from err
        results = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(results) != len(self._outputs):
            raise AgentError(
                f"{len(results)} outputs found, {len(self._outputs)} named", self._path.name, "name every output"
            )
        return {name: value.cpu().numpy() for name, value in zip(self._outputs, results)}

    @property
    def peak_gpu_bytes(self) -> int | None:
        """Most memory that torch's allocator held for tensors; the CUDA context and kernels are not in it."""
        if not self._device.startswith("cuda"):
            return None
        return int(self._torch.cuda.max_memory_allocated(self._device))


def _is_torchscript(path: Path) -> bool:
    """Whether the archive has TorchScript's code folder, which a .pt2 and a .pth lack."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False
    return any(name.split("/")[1:2] == ["code"] for name in names) and any(n.endswith("/constants.pkl") for n in names)
