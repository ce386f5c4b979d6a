"""TorchScript files made on the host, run by the agent's runtime; its device is the CPU here."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.agent.runtimes.torch_cuda import TorchCuda
from edgekit.errors import FormatError
from edgekit.profiling.torchscript import write_torchscript
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.tensors import ArtifactTensor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class OnCpu(TorchCuda):
    def _device_name(self, number: int) -> str:
        return "cpu"


def tensor(name: str, *shape: int) -> ArtifactTensor:
    return ArtifactTensor(name=name, network_name=name, dtype="float32", shape=shape, layout="NC")


ROW = ArtifactRow(
    format="onnx",
    convention="onnxruntime-x86",
    path="m.onnx",
    sha256="0" * 64,
    size_bytes=1,
    precision="fp32",
    inputs=(tensor("a", 2, 3), tensor("b", 2, 3)),
    outputs=(tensor("y", 2, 4), tensor("b2", 2, 3)),
)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(3, 4)
        self.drop = nn.Dropout(0.9)  # a network traced in training would be random

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.drop(self.layer(a - b)), 2 * b


def test_what_is_traced_runs_as_the_network_does(tmp_path: Path):
    network = Network().train()
    made = write_torchscript(network, ROW, tmp_path / "m.pt")
    assert network.training
    assert made.row.sha256 != ROW.sha256
    assert made.row.inputs == ROW.inputs
    a, b = np.ones((2, 3), np.float32), np.full((2, 3), 0.5, np.float32)
    with OnCpu(made.path, 1, made.runtime_options) as runtime:
        found = runtime.infer({"a": a, "b": b})
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_array_equal(found["y"], expected[0].numpy())
    np.testing.assert_array_equal(found["b2"], expected[1].numpy())


def test_the_file_says_nothing_of_this_machine(tmp_path: Path):
    first = write_torchscript(Network(), ROW, tmp_path / "m.pt")
    content = first.path.read_bytes()
    names = zipfile.ZipFile(first.path).namelist()
    assert not [name for name in names if name.endswith(".debug_pkl")]
    assert str(Path(__file__).parent).encode() not in content


def test_a_network_that_looks_at_values_is_refused(tmp_path: Path):
    with pytest.raises(FormatError) as caught:
        write_torchscript(Flips(), ROW, tmp_path / "m.pt")
    assert "does not compute" in caught.value.what


class Flips(Network):
    """Takes another way for every input that it sees."""

    calls = 0

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls += 1
        y, b2 = super().forward(a, b)
        return y * self.calls, b2


def test_another_number_of_outputs_is_refused(tmp_path: Path):
    row = ROW.model_copy(update={"outputs": ROW.outputs[:1]})
    with pytest.raises(FormatError):
        write_torchscript(Network(), row, tmp_path / "m.pt")


def test_a_network_that_cannot_be_traced_is_an_error(tmp_path: Path):
    row = ROW.model_copy(update={"inputs": ROW.inputs[:1]})
    with pytest.raises(FormatError) as caught:
        write_torchscript(Network(), row, tmp_path / "m.pt")
    assert "cannot be traced" in caught.value.what
