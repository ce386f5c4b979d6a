import math
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgekit.data.samples import Samples
from edgekit.errors import PassError, SchemaError
from edgekit.passes.losses import find_loss
from edgekit.passes.train import train
from edgekit.schema.distill import DistillOptions
from edgekit.schema.losses import LOSS_NAMES
from edgekit.schema.pass_options import parse_options
from edgekit.schema.prune import PruneOptions
from edgekit.schema.recipe import Step
from edgekit.schema.train import TrainOptions

LOG_3 = math.log(3)
X = torch.tensor([[1.0, -1.0], [0.0, 2.0]])
OUTPUTS = torch.tensor([[LOG_3, 0.0], [0.0, 0.0]], requires_grad=True)  # as in training


def of(name: str, outputs: object, labels: Tensor, *inputs: Tensor, smoothing: float = 0.0) -> float:
    return find_loss(name, "step train", smoothing)(outputs, inputs or (X,), labels).item()


def test_cross_entropy_by_hand():
    # shares 3/4, 1/4 and 1/2, 1/2
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert of("cross_entropy", OUTPUTS, torch.tensor([0, 1])) == pytest.approx(expected, rel=1e-6)
    smoothed = 0.9 * expected + 0.1 * (-math.log(0.75) / 2 - math.log(0.25) / 2 - math.log(0.5)) / 2
    assert of("cross_entropy", OUTPUTS, torch.tensor([0, 1]), smoothing=0.1) == pytest.approx(smoothed, rel=1e-6)


def test_cross_entropy_of_sequences_is_a_mean_over_their_tokens():
    tokens, labels = torch.stack([OUTPUTS, OUTPUTS.flip(-1)]), torch.tensor([[0, 0], [0, -1]])
    expected = (-math.log(0.75) - math.log(0.5) - math.log(0.25)) / 3
    assert of("cross_entropy", tokens, labels) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", [[[1.0], [2.0]], [1.0, 2.0], [1, 2]])
def test_mse_by_hand(labels: list[object]):
    assert of("mse", torch.tensor([[3.0], [1.0]]), torch.tensor(labels)) == pytest.approx((4 + 1) / 2)


def test_bce_by_hand():
    expected = -(0.25 * math.log(0.75) + 0.75 * math.log(0.25) + 2 * math.log(0.5) + math.log(0.5)) / 4
    assert of("bce", OUTPUTS, torch.tensor([[0.25, 1.0], [0.5, 0.0]])) == pytest.approx(expected, rel=1e-6)


def test_reconstruction_is_of_the_input_and_looks_at_no_label():
    assert of("reconstruction", {"output": X + 2}, torch.tensor([7, 7])) == pytest.approx(4)


FIT = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "what", "fix"),
    [
        ("cross_entropy", OUTPUTS, torch.rand(2), "float32 of shape (2,)", "loss: mse"),
        ("cross_entropy", OUTPUTS, torch.tensor([[0], [1]]), "(2, 1)", "one class index"),
        ("cross_entropy", OUTPUTS, torch.tensor([0, 2]), "labels from 0 to 2 for 2 classes", "0 to 1"),
        ("cross_entropy", OUTPUTS, torch.tensor([-1, 1]), "labels from -1", "0 to 1"),
        ("cross_entropy", (OUTPUTS, OUTPUTS), FIT, "2 outputs", "package.module:function"),
        ("mse", OUTPUTS, FIT, "int64 of shape (2,)", "loss: cross_entropy"),
        ("bce", OUTPUTS, torch.tensor([[0.0, 1.0], [0.5, 2.0]]), "from 0 to 2", "loss: mse"),
        ("reconstruction", OUTPUTS[:, :1], FIT, "(2, 1) for inputs of (2, 2)", "its shape"),
    ],
)
def test_labels_and_outputs_that_do_not_fit_are_named(name: str, outputs: object, labels: Tensor, what: str, fix: str):
    with pytest.raises(PassError) as caught:
        of(name, outputs, labels)
    assert what in caught.value.what
    assert caught.value.where == f"step train, loss {name}"
    assert fix in caught.value.fix


OWN = """
import torch

def weighted(outputs, inputs, labels):
    return (outputs["a"] * inputs).sum() + 10 * labels.sum()

def both(outputs, inputs, labels):
    return (inputs[0] * inputs[1]).sum() + 0 * outputs["a"].sum()

def many(outputs, inputs, labels):
    return outputs["a"]

def number(outputs, inputs, labels):
    return 3.0

def apart(outputs, inputs, labels):
    return inputs.mean()

def broken(outputs, inputs, labels):
    return outputs["b"].mean()

def learnt(outputs, inputs, labels):
    return (outputs.squeeze(1) - labels[:, 1]).abs().mean()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_losses.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)


@pytest.mark.usefixtures("own")
def test_a_loss_of_the_users_own_gets_what_the_network_returns():
    assert of("own_losses:weighted", {"a": OUTPUTS + 1}, FIT) == pytest.approx(LOG_3 + 1 - 1 + 2 + 10)
    assert of("own_losses:both", {"a": OUTPUTS}, FIT, X, X) == pytest.approx(6)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "what", "fix"),
    [
        ("number", "3.0", "one number as a tensor"),
        ("many", "float32 of shape (2, 2)", "one number as a tensor"),
        ("apart", "float32 of shape ()", "computed from the outputs"),
        ("broken", "KeyError('b')", "outputs a (2, 2), inputs (2, 2) and labels int64 of shape (2,)"),
        ("brokn", "no function 'brokn'", "did you mean 'broken'"),
    ],
)
def test_a_loss_of_the_users_own_that_fails_is_named(name: str, what: str, fix: str):
    with pytest.raises(PassError) as caught:
        of(f"own_losses:{name}", {"a": OUTPUTS}, FIT)
    assert what in caught.value.what
    assert "step train, loss" in caught.value.where
    assert fix in caught.value.fix


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["mse", "own_losses:learnt"])
def test_training_descends_the_loss_that_is_named(name, make_model, make_context):
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randn((128, 3), generator=draw)
    answers = inputs @ torch.tensor([[2.0], [-1.0], [0.5]]) + 3
    labels = answers if name == "mse" else torch.cat([torch.zeros_like(answers), answers], 1)
    torch.manual_seed(0)
    model = make_model(nn.Sequential(nn.Linear(3, 1)), (1, 3))
    options = TrainOptions(epochs=20, batch_size=16, loss=name, learning_rate=0.1, weight_decay=0.0)
    data = Samples((inputs,), labels)
    trained = train(model, options, make_context(train=data, calibration=data))
    with torch.no_grad():
        assert (trained.network(inputs) - answers).abs().max() < 0.1


def test_names_are_checked_before_anything_runs():
    for name in LOSS_NAMES:
        assert TrainOptions(loss=name).loss == name
    with pytest.raises(ValidationError, match="no loss is called 'mze'"):
        TrainOptions(loss="mze")
    with pytest.raises(ValidationError, match="label_smoothing"):
        TrainOptions(loss="mse", label_smoothing=0.1)
    with pytest.raises(ValidationError, match="a teacher's outputs"):
        DistillOptions(loss="own_losses:learnt")
    with pytest.raises(ValidationError, match="does not look at one"):
        PruneOptions(budget={"macs_ratio": 0.5}, method="ranking", loss="mse")


def test_a_mistyped_loss_names_the_nearest_with_its_place():
    step = Step(name="train", options={"loss": "mze"})
    with pytest.raises(SchemaError) as caught:
        parse_options(step, "edgekit.yaml: steps.0")
    assert caught.value.what == "no loss is called 'mze'"
    assert caught.value.where == "edgekit.yaml: steps.0.train.loss"
    assert "did you mean 'mse'" in caught.value.fix
