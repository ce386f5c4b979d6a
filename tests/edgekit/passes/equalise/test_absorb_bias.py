"""Bias absorption, worked out by hand."""

import torch
from torch import nn
from torch.nn import functional as F

from edgekit.passes.equalise.absorb_bias import absorb_bias
from tests.edgekit.passes.equalise.networks import model_of, task_of


class _Raised(nn.Module):
    """3 -> 4 -> 2 with a ReLU, or without."""

    def __init__(self, relu: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(3, 4), nn.Linear(4, 2), relu

    def forward(self, x):
        x = self.first(x)
        return self.second(F.relu(x) if self.relu else x)


def _model(relu=True):
    model = model_of(_Raised(relu), (1, 3))
    with torch.no_grad():
        model.network.first.bias.copy_(torch.tensor([20.0, 0.1, 30.0, -5.0]))  # two are never below 0
    return model


def test_what_a_channel_never_falls_below_goes_into_the_next_biases():
    model = _model()
    task, before = task_of(model)
    with torch.no_grad():
        y = model.network.first(task.samples().inputs[0]).double()
    lowest = y.amin(0).clamp_min(0)
    assert (lowest > 0).tolist() == [True, False, True, False]
    rewrite = absorb_bias(task, before)
    after = rewrite.tensors
    torch.testing.assert_close(after["first.bias"], before["first.bias"] - lowest, rtol=1e-5, atol=0)
    expected = before["second.bias"] + before["second.weight"] @ lowest
    torch.testing.assert_close(after["second.bias"], expected, rtol=1e-5, atol=0)
    assert torch.equal(after["first.weight"], before["first.weight"])
    assert not rewrite.always


def test_it_holds_on_the_samples_and_not_below_what_they_showed():
    model = _model()
    task, before = task_of(model)
    after = absorb_bias(task, before).tensors
    network = model.network.double()

    def differs(x):
        network.load_state_dict(before)
        wanted = network(x)
        network.load_state_dict(after)
        return (network(x) - wanted).abs().max().item()

    assert differs(task.samples().inputs[0].double()) < 1e-12
    far = -100 * torch.linalg.pinv(before["first.weight"][:1])[:, 0]  # drives channel 0 below what was seen
    assert differs(far[None]) > 0.1


def test_without_a_relu_it_holds_everywhere():
    task, before = task_of(_model(relu=False))
    rewrite = absorb_bias(task, before)
    assert rewrite.always
    assert not torch.equal(rewrite.tensors["first.bias"], before["first.bias"])


class _Padded(nn.Module):
    def __init__(self, padding, bias=True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 3, padding=padding, bias=bias)

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


def test_a_reader_that_pads_or_has_no_bias_is_left():
    for padding, bias, word in ((1, True, "pads"), ("same", True, "pads"), (0, False, "no bias")):
        model = model_of(_Padded(padding, bias), (1, 1, 5, 5))
        with torch.no_grad():
            model.network.first.bias += 50
        task, before = task_of(model)
        rewrite = absorb_bias(task, before)
        assert word in rewrite.left["first/conv2d"]
        assert torch.equal(rewrite.tensors["first.bias"], before["first.bias"])
    model = model_of(_Padded(0), (1, 1, 5, 5))
    with torch.no_grad():
        model.network.first.bias += 50
    task, before = task_of(model)
    after = absorb_bias(task, before).tensors
    assert bool((after["first.bias"] < before["first.bias"] - 20).all())
    lowest = before["first.bias"] - after["first.bias"]
    expected = before["second.bias"] + before["second.weight"].sum((2, 3)) @ lowest
    torch.testing.assert_close(after["second.bias"], expected, rtol=1e-9, atol=0)
