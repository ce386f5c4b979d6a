"""What is wrong with a network or its weights."""

import importlib.util
import os

import pytest
import torch
from safetensors.torch import save_file

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
