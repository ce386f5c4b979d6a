"""From an .onnx file to a model, to disk, and back without the file."""

import onnx
import pytest
import torch
from torch import nn

from edgekit.errors import ModelError
from edgekit.nets.edits import Replace, apply_edits
from edgekit.nets.load import build
from edgekit.nets.saved import load_model, model_digest, save_model
from edgekit.schema.recipe import ModelSource
from tests.edgekit.nets.from_onnx.graphs import network_file


def test_a_file_becomes_ordinary_layers_under_the_names_of_its_weights(tmp_path):
    made = build(ModelSource(onnx=str(network_file(tmp_path / "net.onnx"))))
    kinds = {name: type(layer) for name, layer in made.network.named_modules()}
    assert {kinds[name] for name in ("conv", "bn", "fc")} == {nn.Conv2d, nn.BatchNorm2d, nn.Linear}
    assert [spec.name for spec in made.inputs] == ["x"]
    assert made.inputs[0].shape == (1, 3, 8, 8)
    assert made.outputs[0].shape == (1, 4)
    assert sum(p.numel() for p in made.network.parameters()) == 6 * 27 + 12 + 4 * 6 + 4


def test_a_batch_that_the_file_fixes_is_free(tmp_path):
    network = build(ModelSource(onnx=str(network_file(tmp_path / "net.onnx")))).network
    x = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(x), torch.cat([network(one) for one in x.split(1)]))


def test_a_saved_model_needs_its_file_no_more(tmp_path):
    path = network_file(tmp_path / "net.onnx")
    made = build(ModelSource(onnx=str(path)))
    save_model(made, tmp_path / "model")
    network_file(path, seed=9)  # another file under the same name
    again = load_model(tmp_path / "model")
    x = made.example(3)
    with torch.no_grad():
        assert torch.equal(made.network(*x), again.network(*x))
    path.unlink()
    assert model_digest(load_model(tmp_path / "model")) == model_digest(made)


def test_weights_are_stored_once(tmp_path):
    made = build(ModelSource(onnx=str(network_file(tmp_path / "net.onnx"))))
    save_model(made, tmp_path / "model")
    graph = onnx.load(tmp_path / "model" / "structure.onnx")
    (weight,) = [tensor for tensor in graph.graph.initializer if tensor.name == "conv.weight"]
    assert not weight.raw_data
    assert not weight.float_data


def test_edits_are_done_again_on_a_network_from_a_file(tmp_path):
    made = build(ModelSource(onnx=str(network_file(tmp_path / "net.onnx"))))
    edits = (Replace(layer="bn", by="identity"),)
    changed = made.with_(apply_edits(made.network, edits), "without its norm", edits)
    save_model(changed, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert isinstance(again.network.get_submodule("bn"), nn.Identity)
    x = made.example(2)
    with torch.no_grad():
        assert torch.equal(changed.network(*x), again.network(*x))


def test_a_damaged_graph_is_refused(tmp_path):
    made = build(ModelSource(onnx=str(network_file(tmp_path / "net.onnx"))))
    save_model(made, tmp_path / "model")
    (tmp_path / "model" / "structure.onnx").write_bytes(b"\x08\x08\xff\xff")
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "model")
    assert "damaged" in caught.value.what
    assert "structure.onnx" in caught.value.where
    assert caught.value.fix == "build the model again"


def test_the_same_model_in_two_folders_is_the_same(tmp_path):
    digests = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        digests.add(model_digest(build(ModelSource(onnx=str(network_file(tmp_path / folder / "net.onnx"))))))
    assert len(digests) == 1


def test_a_dynamic_batch_is_read_as_one(tmp_path):
    made = build(ModelSource(onnx=str(network_file(tmp_path / "net.onnx", batch="N"))))
    assert made.inputs[0].shape == (1, 3, 8, 8)
