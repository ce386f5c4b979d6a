"""Networks of several inputs and of integers, with several outputs and labels of any shape, through whole builds."""

import json
import sys

import pytest
from click.testing import CliRunner

from edgekit.cli.main import cli

NETWORKS = """
import numpy as np
import torch
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.side, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(4, 8), nn.Linear(16, 2)

    def forward(self, image, side):
        seen = torch.cat([self.conv(image).relu().mean((2, 3)), self.side(side).relu()], 1)
        return {"logits": self.head(seen), "seen": seen}


def loss(outputs, inputs, labels):
    assert len(inputs) == 2
    return nn.functional.cross_entropy(outputs["logits"], labels)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.hidden, self.out = nn.Embedding(20, 16), nn.Linear(16, 32), nn.Linear(32, 20)

    def forward(self, tokens):
        return self.out(torch.relu(self.hidden(self.table(tokens))))


class Step(nn.Module):
    def __init__(self):
        super().__init__()
        self.reset, self.update, self.new = (nn.Linear(2 + 12, 12) for _ in range(3))
        self.head = nn.Linear(12, 2)

    def forward(self, h, x):
        both = torch.cat([x, h], 1)
        reset, update = torch.sigmoid(self.reset(both)), torch.sigmoid(self.update(both))
        new = torch.tanh(self.new(torch.cat([x, reset * h], 1)))
        following = update * h + (1 - update) * new
        return {"following": following, "logits": self.head(following)}


def sequences():
    x = np.random.default_rng(0).normal(size=(400, 6, 2)).astype(np.float32)
    x[:, :, 0] += np.where(x[:, :, 0].sum(1) > 0, 0.5, -0.5)[:, None]  # room between the classes
    return _parts((x,), (x[:, :, 0].sum(1) > 0).astype(np.int64))


def pairs():
    draw = np.random.default_rng(0)
    image, side = draw.normal(size=(400, 1, 6, 6)), draw.normal(size=(400, 4))
    side[:, 0] += np.where(side[:, 0] > 0, 1, -1)  # room between the classes
    labels = (side[:, 0] > 0).astype(np.int64)
    return _parts((image.astype(np.float32), side.astype(np.float32)), labels)


def sentences():
    tokens = np.random.default_rng(0).integers(0, 20, (400, 12))
    return _parts((tokens,), (tokens * 7 + 3) % 20)


def _parts(inputs, labels):
    def cut(start, stop):
        return tuple(array[start:stop] for array in inputs), labels[start:stop]

    return {"train": cut(0, 250), "calibration": cut(0, 64), "selection": cut(250, 300), "test": cut(300, 400)}
"""
PAIR = """
name: pair
model:
  factory: own_inputs:Two
  inputs: [{name: image, shape: [1, 1, 6, 6]}, {name: side, shape: [1, 4], layout: NC}]
data: own_inputs:pairs
metric: {name: per_class, output: logits}
steps: [train: {epochs: 4, loss: "own_inputs:loss"}, quantize: {mode: auto}]
"""
SENTENCES = """
name: sentences
model:
  factory: own_inputs:Tokens
  inputs: [{name: tokens, shape: [1, 12], dtype: int64, layout: NT}]
data: own_inputs:sentences
metric: perplexity
steps: [train: {epochs: 4, learning_rate: 0.5}, quantize]
gates: {metric: {at_most: 1.5}}
"""


STEP = """
name: step
model:
  factory: own_inputs:Step
  inputs: [{name: h, shape: [1, 12], layout: NC, state: following}, {name: x, shape: [1, 2], layout: NC}]
data: own_inputs:sequences
steps: [train: {epochs: 12, optimizer: adamw, learning_rate: 0.02}, quantize]
gates: {float_metric: {at_least: 0.9}}
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="runs the ONNX artifact")
    pytest.importorskip("litert_torch", reason="writes the TFLite artifact")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKIT_HOME", raising=False)
    (tmp_path / "own_inputs.py").write_text(NETWORKS)

    def run(recipe):
        (tmp_path / "edgekit.yaml").write_text(recipe)
        result = CliRunner().invoke(cli, ["build", "--target", "raspberry-pi-5", "--no-measure", "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["manifest"]

    yield run
    sys.modules.pop("own_inputs", None)


def outcome(manifest):
    """The state of every gate that needs no device, by name and artifact."""
    return {
        (row["name"], row["subject"]): row["state"] for row in manifest["gates"] if not row["name"].startswith("lat")
    }


def test_two_inputs_and_two_outputs_in_integers_answer_as_the_network(build):
    manifest = build(PAIR)
    assert [(row["name"], row["shape"]) for row in manifest["inputs"]] == [("image", [1, 1, 6, 6]), ("side", [1, 4])]
    assert [row["name"] for row in manifest["outputs"]] == ["logits", "seen"]
    assert set(outcome(manifest).values()) == {"passed"}
    for row in manifest["artifacts"]:
        assert row["precision"] == "int8"
        assert [tensor["preprocess"]["raw_layout"] for tensor in row["inputs"]] == ["N", "N"]
    assert set(manifest["metrics"]["details"]) == {"class 0", "class 1"}
    assert manifest["steps"][-1]["guard"]["holds"]
    assert CliRunner().invoke(cli, ["verify", "dist/pair-raspberry-pi-5", "--parity"]).exit_code == 0


def test_tokens_stay_integers_and_a_smaller_perplexity_is_better(build):
    manifest = build(SENTENCES)
    assert (manifest["metrics"]["larger_is_better"], manifest["metrics"]["is_share"]) == (False, False)
    assert {row["format"]: row["inputs"][0]["dtype"] for row in manifest["artifacts"]} == {
        "onnx": "int64",
        "tflite": "int32",
    }
    assert set(outcome(manifest).values()) == {"passed"}
    for row in manifest["artifacts"]:
        assert not [item for item in row["quantisation"] if item["tensor"] == "input:tokens"]
        assert any("embedding" in item["op"].lower() for item in row["in_float"])  # named, since it is not in integers


def test_one_step_of_a_users_own_runs_over_sequences_everywhere(build):
    manifest = build(STEP)
    assert set(outcome(manifest).values()) == {"passed"}
    assert manifest["inputs"][0]["state"] == "following"
    for row in manifest["artifacts"]:
        assert row["feedback"] == {"following": "h"}
        grids = [tensor.get("scale") for tensor in (*row["inputs"], *row["outputs"]) if "h" in tensor["network_name"]]
        assert len(set(grids)) == 1  # a state goes back as it came
    assert CliRunner().invoke(cli, ["verify", "dist/step-raspberry-pi-5", "--parity"]).exit_code == 0
