"""What is wrong with a network or its weights."""

import importlib.util
import os
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

pytestmark = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="plans an ONNX artifact")

STATE = {
    "0.weight": torch.ones(4, 1, 3, 3),
    "0.bias": torch.zeros(4),
    "3.weight": torch.ones(2, 64),
    "3.bias": torch.zeros(2),
}


@pytest.fixture
def refused_weights(refused, folder):
    """Builds with a checkpoint of the given name, which must be refused."""

    def run(path, **more):
        error = refused(over={"model": {"checkpoint": {"path": path, **more}}})
        assert path in error.where
        assert "model.checkpoint" in error.where
        return error

    return run


def test_a_missing_checkpoint(refused_weights):
    error = refused_weights("absent.pth")
    assert (error.kind, error.what) == ("DataError", "there is no such file")
    assert "check the path" in error.fix


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.npz"])
def test_a_damaged_checkpoint(refused_weights, folder, name):
    if name == "w.safetensors":
        save_file(STATE, folder / name)
    else:
        torch.save(STATE, folder / name)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    error = refused_weights(name)
    assert error.kind == "ModelError"
    assert "again" in error.fix or "numpy.savez" in error.fix


def test_a_pickle_with_a_payload_does_not_run(refused_weights, folder):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(folder / "ran"),))

    torch.save({**STATE, "extra": Payload()}, folder / "w.pth")
    torch.load(folder / "w.pth", weights_only=False)  # it would
    assert (folder / "ran").exists()
    (folder / "ran").rmdir()
    error = refused_weights("w.pth")
    assert "not unpickled" in error.what
    assert "mkdir" in error.what
    assert "state_dict" in error.fix
    assert not (folder / "ran").exists()


def test_the_weights_of_a_wider_network_name_the_first_tensor(refused_weights, folder):
    torch.save({**STATE, "0.weight": torch.ones(8, 1, 3, 3), "0.bias": torch.zeros(8)}, folder / "w.pth")
    error = refused_weights("w.pth")
    assert "2 of another shape: 0.weight (8, 1, 3, 3) instead of (4, 1, 3, 3)" in error.what
    assert "arguments" in error.fix


def test_weights_of_a_wrapped_network_name_the_prefix(refused_weights, folder):
    torch.save({f"module.{name}": tensor for name, tensor in STATE.items()}, folder / "w.pth")
    assert refused_weights("w.pth").fix == "set strip_prefix: 'module.'"


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_weights_that_are_not_finite(refused_weights, folder, value, said):
    bad = {**STATE, "3.weight": STATE["3.weight"].clone()}
    bad["3.weight"][1, 5] = value
    torch.save(bad, folder / "w.pth")
    error = refused_weights("w.pth")
    assert error.what == f"1 of the 128 numbers of 3.weight are {said}"
    assert error.where.startswith("layer 3 (Linear), ")
    assert "checkpoint" in error.fix


def test_activations_that_overflow_name_the_first_layer(refused, folder):
    (folder / "own_code.py").write_text(
        (folder / "own_code.py").read_text()
        + "\n\nclass Overflow(nn.Module):\n"
        + "    def forward(self, x):\n        return (x * 1e30) ** 2\n"
        + "\n\ndef overflowing():\n"
        + "    return nn.Sequential(nn.Conv2d(1, 2, 1), Overflow(), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))\n"
    )
    error = refused(over={"model": {"factory": "own_code:overflowing"}, "steps": ["quantize"]})
    assert error.kind == "PassError"
    assert error.what.startswith("activation '1/pow' holds an infinity")
    assert error.where == "step quantize, layer 1"
    assert "preprocessing" in error.fix


def test_a_factory_that_raises(refused, folder):
    (folder / "own_code.py").write_text(
        (folder / "own_code.py").read_text() + "\n\ndef broken():\n    raise RuntimeError('no such depth')\n"
    )
    error = refused(over={"model": {"factory": "own_code:broken"}})
    assert error.what == "the factory raised RuntimeError('no such depth')"
    assert error.where == "model.factory: own_code:broken"
    assert "model.arguments" in error.fix


def test_a_factory_with_other_arguments(refused):
    error = refused(over={"model": {"arguments": {"widht": 8}}})
    assert "widht" in error.what
    assert error.where == "model.factory: own_code:network"
    assert "model.arguments" in error.fix


def test_a_program_with_a_payload_does_not_run(refused, folder):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(folder / "ran"),))

    torch.save(Payload(), folder / "payload.pt")
    program = torch.export.export(nn.Conv2d(1, 2, 3).eval(), (torch.zeros(1, 1, 4, 4),))
    torch.export.save(program, folder / "net.pt2")
    with zipfile.ZipFile(folder / "net.pt2") as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(folder / "net.pt2", "w") as file:
        for name, content in members.items():
            hostile = name.endswith("sample_inputs/model.pt")
            file.writestr(name, (folder / "payload.pt").read_bytes() if hostile else content)
    error = refused(over={"model": {"factory": None, "inputs": [], "pt2": "net.pt2"}})
    assert "sample_inputs/model.pt" in error.what
    assert error.where == "model.pt2: net.pt2"
    assert "torch.export.load" in error.fix
    assert not (folder / "ran").exists()


def test_a_program_of_one_batch_names_the_line_that_frees_it(refused, folder):
    class OverTheBatch(nn.Module):
        def forward(self, x):
            return x - x.mean(0, keepdim=True)

    torch.export.save(torch.export.export(OverTheBatch(), (torch.zeros(1, 1, 4, 4),)), folder / "net.pt2")
    error = refused(over={"model": {"factory": None, "inputs": [], "pt2": "net.pt2"}})
    assert "it computes something else at batch 3" in error.what
    assert error.where == "model.pt2: net.pt2"
    assert "dynamic_shapes={'x': {0: torch.export.Dim('batch')}}" in error.fix


@pytest.mark.parametrize("name", ["timm", "transformers"])
def test_a_library_that_is_not_installed(refused, folder, monkeypatch, name):
    (folder / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, name, None)
    error = refused(over={"model": {"factory": None, name: "." if name == "transformers" else "resnet18"}})
    assert error.kind == "MissingExtraError"
    assert error.what.startswith(f"{name} is not installed")
    assert error.where.startswith(f"model.{name}: ")
    assert error.fix == f"pip install 'edgekit[{name}]'"
