"""A .pt2 file as the source of a model: recorded, replayed, refused when it is another file."""

import shutil

import pytest
import torch
from torch import nn

from edgekit.errors import DataError, ModelError
from edgekit.nets.load import build
from edgekit.nets.program import trace
from edgekit.nets.saved import load_model, model_digest, save_model
from edgekit.schema.recipe import ModelSource
from edgekit.schema.weight_files import sha256_of
from tests import nets


@pytest.fixture
def path(saved):
    return saved(nets.tiny_conv(), torch.zeros(2, 2, 8, 8))


def test_a_build_records_the_file_and_its_inputs(path):
    model = build(ModelSource(pt2=str(path)))
    assert model.source.sha256 == sha256_of([path])
    assert [(spec.name, spec.shape, spec.layout) for spec in model.inputs] == [("x", (1, 2, 8, 8), "NCHW")]
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("output", (1, 3))]
    assert "pointwise/conv2d" in trace(model).names.values()


def test_a_saved_model_is_replayed_from_the_file(path, tmp_path):
    model = build(ModelSource(pt2=str(path)))
    with torch.no_grad():
        model.network.get_submodule("linear").bias.add_(1.0)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    x = model.example(3)
    assert torch.equal(again.network(*x), model.network(*x))
    torch.export.save(torch.export.export(nn.Conv2d(2, 3, 1), (torch.zeros(1, 2, 8, 8),)), path)
    with pytest.raises(DataError) as caught:
        load_model(tmp_path / "model")
    assert "sha256" in caught.value.what
    path.unlink()
    with pytest.raises(DataError) as caught:
        load_model(tmp_path / "model")
    assert caught.value.what == "there is no such file"


def test_where_the_file_lies_is_no_part_of_the_model(path, tmp_path):
    other = tmp_path / "other.pt2"
    shutil.copy(path, other)
    one, two = (model_digest(build(ModelSource(pt2=str(file)))) for file in (path, other))
    assert one == two


def test_another_file_than_the_recipe_means_is_refused(path):
    with pytest.raises(DataError) as caught:
        build(ModelSource(pt2=str(path), sha256="0" * 64))
    assert caught.value.where == f"model.sha256: {path}"


def test_weights_of_an_exported_program_that_are_not_finite_name_their_layer(saved):
    network = nets.tiny_conv()
    network.pointwise.weight.data[0] = torch.nan
    with pytest.raises(ModelError) as caught:
        build(ModelSource(pt2=str(saved(network, torch.zeros(2, 2, 8, 8)))))
    assert caught.value.where.startswith("layer pointwise (Conv2d), model.pt2: ")
