"""Networks by name. transformers is real, with tiny configs; timm is a stand-in with its public functions."""

import json
import sys

import pytest
import torch
from torch import nn

from edgekit.errors import DataError, MissingExtraError, ModelError
from edgekit.formats.onnx.export import export_onnx
from edgekit.nets.load import build
from edgekit.nets.saved import load_model, save_model
from edgekit.schema.recipe import Checkpoint, Export, ModelSource
from edgekit.schema.tensors import InputSpec

TIMM_STAND_IN = '''
"""A stand-in for timm: the same functions, one model."""
from torch import nn

def is_model(name):
    return name == "tinynet"

def list_models(filter="*"):
    return ["tinynet"]

def create_model(model_name, pretrained=False, **kwargs):
    assert not pretrained  # timm would download
    return nn.Sequential(nn.Conv2d(kwargs.get("in_chans", 3), 4, 1), nn.Flatten(), nn.Linear(64, kwargs["num_classes"]))
'''
IDS, MASK = (InputSpec(name=name, shape=(1, 6), dtype="int64", layout="NT") for name in ("input_ids", "attention_mask"))
IMAGE = InputSpec(name="x", shape=(1, 2, 4, 4))


@pytest.fixture
def stand_in_timm(tmp_path, monkeypatch):
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "timm.py").write_text(TIMM_STAND_IN)
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("timm", None)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Folder and network of a tiny classifier of token ids."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(
        vocab_size=20, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=8, num_labels=3
    )
    network = transformers.DistilBertForSequenceClassification(config).eval()
    folder = tmp_path_factory.mktemp("bert")
    network.save_pretrained(folder)
    return folder, network


def of(folder, *inputs, **more):
    return ModelSource(transformers=str(folder), inputs=inputs, **more)


def refused(source, error=ModelError):
    with pytest.raises(error) as caught:
        build(source)
    return caught.value


def test_a_model_of_timm_is_made_without_weights_and_filled_from_a_checkpoint(stand_in_timm, tmp_path):
    arguments = {"in_chans": 2, "num_classes": 5}
    state = {"0.weight": torch.ones(4, 2, 1, 1), "0.bias": torch.zeros(4), "2.weight": torch.ones(5, 64)}
    torch.save({**state, "2.bias": torch.arange(5.0)}, tmp_path / "w.pth")
    checkpoint = Checkpoint(path=str(tmp_path / "w.pth"))
    model = build(ModelSource(timm="tinynet", arguments=arguments, checkpoint=checkpoint, inputs=(IMAGE,)))
    assert model.network[2].bias.tolist() == [0, 1, 2, 3, 4]
    assert model.outputs[0].shape == (1, 5)


def test_what_timm_does_not_know_is_named(stand_in_timm):
    error = refused(ModelSource(timm="tinynte", inputs=(IMAGE,)))
    assert error.what == "timm has no model called 'tinynte'"
    assert "did you mean 'tinynet'?" in error.fix
    error = refused(ModelSource(timm="tinynet", inputs=(IMAGE,)))
    assert error.where == "model.timm: tinynet"
    assert "num_classes" in error.what


@pytest.mark.parametrize("name", ["timm", "transformers"])
def test_a_library_that_is_not_installed_names_the_command(monkeypatch, tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, name, None)
    error = refused(ModelSource(**{name: str(tmp_path)}, inputs=(IMAGE,)), MissingExtraError)
    assert error.fix == f"pip install 'edgekit[{name}]'"


def test_a_saved_network_of_transformers_is_loaded_exported_and_run(bert, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, network = bert
    model = build(of(folder, IDS, MASK))
    assert [(output.name, output.shape) for output in model.outputs] == [("logits", (1, 3))]
    ids, mask = torch.tensor([[3, 7, 19, 2, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        wanted = network(input_ids=ids, attention_mask=mask).logits
        torch.testing.assert_close(model.network(ids, mask)["logits"], wanted, rtol=1e-5, atol=1e-6)
    artifact = export_onnx(model, "onnxruntime-x86", tmp_path, "model", Export())
    session = onnxruntime.InferenceSession(artifact.path)
    feeds = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    (found,) = session.run(None, feeds)
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-4, atol=1e-5)


def test_inputs_are_given_by_name_whatever_their_order(bert):
    folder, network = bert
    model = build(of(folder, MASK, IDS))
    ids, mask = torch.tensor([[3, 7, 19, 2, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        torch.testing.assert_close(model.network(mask, ids)["logits"], network(ids, mask).logits)
    error = refused(of(folder, IDS.model_copy(update={"name": "input_id"})))
    assert "takes no input called 'input_id'" in error.what
    assert "did you mean 'input_ids'?" in error.fix


def test_it_is_replayed_from_its_config(bert, tmp_path):
    model = build(of(bert[0], IDS))
    save_model(model, tmp_path)
    again, ids = load_model(tmp_path), torch.tensor([[3, 7, 19, 2, 0, 0]])
    assert torch.equal(again.network(ids)["logits"], model.network(ids)["logits"])


def test_a_config_alone_gives_initial_weights_and_a_checkpoint_fills_them(bert):
    folder, network = bert
    fresh = build(of(folder / "config.json", IDS), seed=1)
    assert not torch.equal(fresh.network.classifier.weight, network.classifier.weight)
    checkpoint = Checkpoint(path=str(folder / "model.safetensors"))
    for inputs in ((IDS,), (MASK, IDS)):  # the second is called by names
        state = build(of(folder / "config.json", *inputs, checkpoint=checkpoint)).network.state_dict()
        (weight,) = (tensor for name, tensor in state.items() if name.endswith("pre_classifier.weight"))
        assert torch.equal(weight, network.pre_classifier.weight)


def test_weights_of_another_size_name_the_first_tensor(bert):
    error = refused(of(bert[0], IDS, arguments={"dim": 32}))
    assert "of another shape: distilbert.embeddings.word_embeddings.weight (20, 16) instead of (20, 32)" in error.what
    assert error.where == f"model.transformers: {bert[0]}"


def test_arguments_are_laid_over_the_config_and_checked(bert):
    folder = bert[0]
    model = build(of(folder, IDS, arguments={"architectures": ["DistilBertModel"]}))
    assert model.outputs[0].name == "last_hidden_state"
    error = refused(of(folder, IDS, arguments={"n_haeds": 4}))
    assert (error.what, error.where) == ("the config has no 'n_haeds'", "model.arguments.n_haeds")
    assert "did you mean 'n_heads'?" in error.fix
    error = refused(of(folder, IDS, arguments={"architectures": ["DistilBort"]}))
    assert error.what == "transformers has no class 'DistilBort'"


def test_a_config_that_asks_for_code_of_its_own_is_refused_and_not_run(bert, tmp_path):
    config = json.loads((bert[0] / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    assert "not a config" in refused(of(tmp_path, IDS)).what
    assert not (tmp_path / "ran").exists()


def test_what_is_absent_is_not_downloaded(tmp_path, bert):
    assert refused(of("bert-base-uncased", IDS), DataError).what == "there is no such file"
    (tmp_path / "config.json").write_bytes((bert[0] / "config.json").read_bytes())
    error = refused(of(tmp_path, IDS))
    assert "could not load its weights" in error.what
    assert "save_pretrained" in error.fix


def test_an_image_classifier_of_transformers_is_a_network_like_any(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    model = build(of(tmp_path, InputSpec(name="pixel_values", shape=(1, 3, 8, 8))))
    assert isinstance(model.network.classifier, nn.Linear)
    assert model.outputs[0].shape == (1, 2)
