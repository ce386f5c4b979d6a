"""PyTorch's runtime: what it refuses anywhere, and its arithmetic on the CPU; a GPU differs in the device alone."""

import importlib
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.torch_cuda import TorchCuda

NAMES = {"inputs": ["a", "b"], "outputs": ["sum", "difference"]}
A, B = np.array([[1.0, 2.0]], np.float32), np.array([[10.0, 20.0]], np.float32)


class OnCpu(TorchCuda):
    """The same code with the CPU as its device; never a runtime of the agent."""

    def _device_name(self, number: int) -> str:
        return "cpu"


class TwoWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scale * a + b, self.scale * a - b


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; boards have a torch that is not so new
        torch.jit.trace(TwoWays().eval(), (torch.ones(1, 2), torch.ones(1, 2))).save(str(tmp_path / "m.pt"))
    return tmp_path / "m.pt"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_arguments_go_in_and_results_come_out_in_the_order_of_their_names(traced: Path):
    with OnCpu(traced, 1, NAMES) as runtime:
        found = runtime.infer({"b": B, "a": A})
        np.testing.assert_array_equal(found["sum"], [[13.0, 26.0]])
        np.testing.assert_array_equal(found["difference"], [[-7.0, -14.0]])
        assert runtime.version == torch.__version__
        assert "not timed" in runtime.layers_unavailable
        with pytest.raises(AgentError) as caught:
            runtime.infer({"a": A})
        assert caught.value.what == "inputs ['a'] given, ['a', 'b'] known"
        with pytest.raises(AgentError) as caught:
            runtime.infer({"a": A, "b": np.ones((1, 3), np.float32)})
        assert "cannot run the artifact" in caught.value.what


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_an_output_without_a_name_is_an_error(traced: Path):
    with OnCpu(traced, 1, {**NAMES, "outputs": ["sum"]}) as runtime, pytest.raises(AgentError) as caught:
        runtime.infer({"a": A, "b": B})
    assert caught.value.what == "2 outputs found, 1 named"


def test_a_pickle_and_an_exported_program_are_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def opened(*arguments: object, **more: object) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setattr(torch.jit, "load", opened)
    torch.save(TwoWays().state_dict(), tmp_path / "m.pth")
    program = torch.export.export(TwoWays(), (torch.ones(1, 2), torch.ones(1, 2)))
    torch.export.save(program, tmp_path / "m.pt2")
    (tmp_path / "m.bin").write_bytes(b"no archive")
    for name in ("m.pth", "m.pt2", "m.bin"):
        with pytest.raises(AgentError) as caught:
            OnCpu(tmp_path / name, 1, NAMES).__enter__()
        assert "refused" in caught.value.what
        assert caught.value.where == name


def test_a_machine_without_a_gpu_is_told_so(traced: Path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(AgentError) as caught:
        TorchCuda(traced, 1, NAMES).__enter__()
    assert "sees no GPU" in caught.value.what


def test_names_are_required(tmp_path: Path):
    with pytest.raises(AgentError) as caught:
        TorchCuda(tmp_path / "m.pt", 1, {"inputs": ["a"]})
    assert "names of inputs and outputs" in caught.value.what


def test_torch_is_imported_by_the_runtime_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(importlib.import_module("sys").modules, "torch", None)
    with pytest.raises(AgentError) as caught:
        TorchCuda(tmp_path / "m.pt", 1, NAMES)
    assert caught.value.what.startswith("PyTorch is not installed")


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_gpu_computes_the_same(traced: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    with TorchCuda(traced, 1, NAMES) as runtime:
        np.testing.assert_array_equal(runtime.infer({"a": A, "b": B})["sum"], [[13.0, 26.0]])
        assert (runtime.peak_gpu_bytes or 0) > 0
