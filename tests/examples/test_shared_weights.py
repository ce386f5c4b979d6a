"""The example of published weights in networks of one's own: published accuracies in float, whole builds."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from edgekit.cli.main import cli
from edgekit.data.splits import find_data
from edgekit.nets.vit import vit_d6

EXAMPLE = Path(__file__).parents[2] / "examples" / "shared_weights"
RECIPES = ("vit", "lstm", "lstm-step", "gru")


@pytest.fixture(scope="module")
def net() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE / "net.py")))


def weights(folder, prefix):
    with np.load(folder / "weights" / "kws_arm_hello_edge.npz") as arrays:
        return {k.removeprefix(prefix): torch.from_numpy(arrays[k]) for k in arrays.files if k.startswith(prefix)}


def words(name):
    """All 1,000 utterances, which a calibration set cuts into three."""
    data = find_data(name)
    parts = [data.splits.calibration, data.splits.selection, data.test]
    return torch.cat([part.inputs[0] for part in parts]), torch.cat([part.labels for part in parts])


def right(scores, labels):
    return int((scores.argmax(1) == labels).sum())


@torch.no_grad()
def test_the_transformer_is_the_published_one(net, data_folder):
    file = data_folder / "weights" / "cifar10_vit_d6.pth"
    state = torch.load(file, map_location="cpu", weights_only=True)
    ours, shipped = net.VisionTransformer().eval(), vit_d6().eval()
    ours.load_state_dict(state)
    shipped.load_state_dict(state)
    images = torch.randn((8, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(images), shipped(images), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_lstm_hears_as_published_whole_and_step_by_step(net, workplace_with_data, data_folder):
    whole, step = net.KeywordLstm().eval(), net.LstmStep().eval()
    for network in (whole, step):
        network.load_state_dict(weights(data_folder, "lstm_s."))
    mfcc, labels = words("words-20ms")
    scores = whole(mfcc)
    assert right(scores, labels) == 843
    scaled, _ = words("speech-commands-20ms")
    h = c = torch.zeros(len(scaled), 118)
    for x in scaled.unbind(1):
        made = step(x, h, c)
        h, c = made["next_h"], made["next_c"]
    torch.testing.assert_close(made["scores"], scores, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_gru_hears_as_published(net, workplace_with_data, data_folder):
    network = net.KeywordGru().eval()
    network.load_state_dict(weights(data_folder, "gru."))
    mfcc, labels = words("speech-commands-40ms")
    assert right(network(mfcc), labels) == 865


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_plans(workplace_with_data, recipe):
    result = CliRunner().invoke(cli, ["plan", f"{recipe}.yaml", "--target", "raspberry-pi-5"])
    assert result.exit_code == 0, result.output


@pytest.mark.slow  # each up to a minute; the transformer's ten thousand pictures more
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_build_keeps_the_accuracy(workplace_with_data, recipe):
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    arguments = ["build", f"{recipe}.yaml", "--target", "cpu", "--set", "export.formats=[onnx]", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    manifest = json.loads(result.stdout)["manifest"]
    assert [row["state"] for row in manifest["gates"] if row["name"] in ("float_metric", "metric_drop")] == [
        "passed"
    ] * 2
    (artifact,) = manifest["artifacts"]
    assert artifact["precision"] == ("fp32" if recipe == "lstm" else "int8")
