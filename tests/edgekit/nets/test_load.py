import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgekit.errors import DataError, ModelError
from edgekit.nets.checkpoint import read_state
from edgekit.nets.load import build
from edgekit.schema.recipe import Checkpoint, ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets


def source(factory=nets.TINY_CONV.factory, shape=nets.TINY_CONV.shape, **more):
    return ModelSource(factory=factory, inputs=(InputSpec(name="image", shape=shape),), **more)


def state():
    """Weights of tiny_conv, other than those it starts with."""
    return {name: tensor * 0.5 for name, tensor in nets.tiny_conv().state_dict().items() if "tracked" not in name}


def write_pth(path, content):
    torch.save({"model": {f"net.{name}": tensor for name, tensor in content.items()}, "epoch": 3}, path)


def write_npz(path, content):
    np.savez(path, **{f"net.{name}": tensor.numpy() for name, tensor in content.items()})


def write_safetensors(path, content):
    save_file({f"net.{name}": tensor for name, tensor in content.items()}, path)


@pytest.mark.parametrize(
    ("file", "write", "key"),
    [("w.pth", write_pth, "model"), ("w.npz", write_npz, None), ("w.safetensors", write_safetensors, None)],
)
def test_every_kind_of_file_gives_the_same_weights(tmp_path, file, write, key):
    write(tmp_path / file, state())
    checkpoint = Checkpoint(path=str(tmp_path / file), key=key, strip_prefix="net.")
    loaded = build(source(checkpoint=checkpoint)).network.state_dict()
    for name, tensor in state().items():
        assert torch.equal(loaded[name], tensor), name


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "hostile.pth"
    torch.save({"weight": Hostile()}, path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Hostile()))
    (tmp_path / "ran").unlink(missing_ok=True)
    for file in (path, plain):
        with pytest.raises(ModelError) as caught:
            build(source(checkpoint=Checkpoint(path=str(file))))
        assert "not unpickled" in caught.value.what
        assert str(file) in caught.value.where
    assert not (tmp_path / "ran").exists()


def test_an_npz_with_objects_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", weight=np.array([{}], dtype=object))
    with pytest.raises(ModelError):
        build(source(checkpoint=Checkpoint(path=str(tmp_path / "w.npz"))))


@pytest.mark.parametrize("file", ["w.pth", "w.npz", "w.safetensors", "w.bin", "w.onnx", "w.json"])
def test_a_damaged_or_unknown_file_is_refused(tmp_path, file):
    (tmp_path / file).write_bytes(b"not weights at all")
    with pytest.raises(ModelError) as caught:
        build(source(checkpoint=Checkpoint(path=str(tmp_path / file))))
    assert file in caught.value.where


def test_every_difference_between_file_and_network_is_named(tmp_path):
    content = state()
    content["pointwise.bias"] = torch.zeros(5)
    content["extra"] = torch.zeros(1)
    del content["linear.bias"]
    write_npz(tmp_path / "w.npz", content)
    path = str(tmp_path / "w.npz")
    with pytest.raises(ModelError) as caught:
        build(source(checkpoint=Checkpoint(path=path, strip_prefix="net.")))
    assert "1 missing: linear.bias" in caught.value.what
    assert "1 unexpected: extra" in caught.value.what
    assert "pointwise.bias (5,) instead of (6,)" in caught.value.what
    content["pointwise.bias"] = torch.ones(6)
    write_npz(tmp_path / "w.npz", content)
    allowed = Checkpoint(path=path, strip_prefix="net.", ignore_missing=("linear.*",), ignore_unexpected=("ex*",))
    assert build(source(checkpoint=allowed)).network.state_dict()["pointwise.bias"].eq(1).all()


def test_a_file_with_another_digest_is_refused(tmp_path):
    write_npz(tmp_path / "w.npz", state())
    with pytest.raises(DataError) as caught:
        build(source(checkpoint=Checkpoint(path=str(tmp_path / "w.npz"), sha256="0" * 64)))
    assert "sha256" in caught.value.what


def test_an_absent_file_names_the_variable(tmp_path):
    with pytest.raises(DataError) as caught:
        build(source(checkpoint=Checkpoint(path=str(tmp_path / "absent.npz"))))
    assert "EDGEKIT_DATA" in caught.value.fix


def test_a_wrong_key_names_the_entries(tmp_path):
    write_pth(tmp_path / "w.pth", state())
    with pytest.raises(ModelError) as caught:
        build(source(checkpoint=Checkpoint(path=str(tmp_path / "w.pth"), key="modle")))
    assert "did you mean 'model'" in caught.value.fix


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("tests.nets", "package.module:function"),
        ("tests.no_such_module:net", "tests.no_such_module"),
        ("tests.nets:tiny_cnv", "tiny_cnv"),
        ("builtins:dict", "dict"),
    ],
)
def test_a_factory_that_is_none_is_an_error(factory, said):
    with pytest.raises(ModelError) as caught:
        build(source(factory))
    assert said in str(caught.value)
    assert "model.factory" in caught.value.where


def test_wrong_arguments_are_an_error():
    with pytest.raises(ModelError) as caught:
        build(source(arguments={"depth": 3}))
    assert "depth" in caught.value.what


def test_a_module_of_the_working_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "my_own_net.py").write_text("from torch import nn\ndef net(): return nn.Conv2d(2, 3, 1)\n")
    monkeypatch.chdir(tmp_path)
    assert build(source("my_own_net:net")).outputs[0].shape == (1, 3, 8, 8)


def test_a_seed_decides_the_weights_and_leaves_torchs_own_state():
    def weights(seed):
        return build(source("edgekit.nets.repvgg:repvgg_digits", (1, 1, 8, 8)), seed).network.linear.weight

    before = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_outputs_are_found_by_running():
    (one,) = build(source()).outputs
    assert (one.name, one.shape, one.dtype) == ("output", (1, 3), "float32")
    outputs = build(source("tests.nets:two_heads")).outputs
    assert [(o.name, o.shape) for o in outputs] == [("output0", (1, 3)), ("output1", (1, 1, 8, 8))]


def test_inputs_that_the_network_does_not_take_are_refused():
    with pytest.raises(ModelError) as caught:
        build(source(shape=(1, 3, 8, 8)))
    assert caught.value.where == "model.inputs"


def test_bytes_that_mislead_the_unpickler_are_no_traceback(tmp_path):
    (tmp_path / "junk.pth").write_bytes(b"junkjunk")  # reads as an index into an empty memo
    with pytest.raises(ModelError) as caught:
        read_state(Checkpoint(path=str(tmp_path / "junk.pth")))
    assert caught.value.what == "not a file of torch.save"


def test_weights_published_as_integers_become_floats(tmp_path):
    arrays = {
        "conv.weight_q": np.array([[[[3]]], [[[-2]]]], np.int8),
        "conv.weight_scale": np.array([0.5, 0.25], np.float32),
        "conv.weight_zp": np.array([1, -4], np.int32),
        "conv.bias_q": np.array([10, -7], np.int32),
        "conv.bias_scale": np.array([0.1], np.float32),
        "conv.in_scale_zp": np.array([0.1, 3.0]),
        "freq": np.array([1.0], np.float32),
    }
    np.savez(tmp_path / "w.npz", **arrays)
    state = read_state(Checkpoint(path=str(tmp_path / "w.npz")))
    assert set(state) == {"conv.weight", "conv.bias", "conv.in_scale_zp", "freq"}
    assert state["conv.weight"].dtype == torch.float32
    assert state["conv.weight"].flatten().tolist() == [1.0, 0.5]
    torch.testing.assert_close(state["conv.bias"], torch.tensor([1.0, -0.7]))
