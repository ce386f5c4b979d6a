"""Scores that look at samples, against closed forms; and what is wrong with torch-pruning's own, each not with ours."""

import pytest
import torch
import torch_pruning
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.passes.prune.groups import find_groups
from edgekit.passes.prune.importance import saliency, score_channels
from edgekit.passes.prune.prune import prune
from edgekit.schema.prune import PruneOptions


class Small(nn.Module):
    """Two convolutions with norms, one of them depthwise, a flattened map and two linear layers."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.b = nn.Linear(32, 8)
        self.c = nn.Linear(8, 4)

    def forward(self, x):
        x = F.relu(self.depthwise(F.relu(self.norm(self.a(x)))))
        return self.c(F.relu(self.b(x.flatten(1))))


@pytest.fixture
def small(make_model, train_norms):
    torch.manual_seed(7)
    return make_model(train_norms(Small()))


def _group(model, root):
    return next(group for group in find_groups(model).groups if group.root == root)


def _regression(residual: float) -> tuple[nn.Module, Samples, torch.Tensor]:
    """A linear layer, orthogonal inputs of unlike power, and targets that all miss by `residual`, one way or the other.

    So the residuals stand on no input, the loss is quadratic with a diagonal Hessian, and E[g^2] is known.
    """
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    powers = torch.tensor([3.0, 1.0, 0.5])
    inputs = signs[:, :3] * powers
    network = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.5, -2.0, 3.0]]))
        targets = network(inputs) + residual * signs[:, 3:]
    return network, Samples((inputs,), targets), powers


def test_the_hessian_score_is_what_the_loss_rises_by_in_linear_regression():
    network, data, powers = _regression(residual=0.25)
    found = saliency(network, "hessian", data, "mse")[""]
    weight = network.weight.detach()
    # g = 2 r x, so E[g^2] = 4 r^2 E[x^2] = 2 r^2 H with H = 2 E[x^2]
    torch.testing.assert_close(found, 4 * 0.25**2 * weight.square() * powers.square())
    before = F.mse_loss(network(data.inputs[0]), data.labels).item()
    for i in range(3):
        without = nn.Linear(3, 1, bias=False)
        without.load_state_dict(network.state_dict())
        with torch.no_grad():
            without.weight[0, i] = 0
        rise = F.mse_loss(without(data.inputs[0]), data.labels).item() - before
        assert found[0, i].item() == pytest.approx(4 * 0.25**2 * rise, rel=1e-5)


def test_the_hessian_score_tells_apart_what_magnitude_and_taylor_cannot():
    network, data, _ = _regression(residual=0.25)
    # the loss is at its minimum over the weights: the first-order term of the mean loss is zero everywhere
    torch.testing.assert_close(saliency(network, "taylor", data, "mse")[""], torch.zeros(1, 3), atol=1e-6, rtol=0)
    hessian, magnitude = saliency(network, "hessian", data, "mse")[""], saliency(network, "magnitude", data)[""]
    assert hessian.argsort().tolist() != magnitude.argsort().tolist()


def test_the_hessian_score_is_of_every_sample_and_counts_them(small, samples):
    data = samples(40)  # more than a batch of the gradients' other user
    found = saliency(small.network, "hessian", data)
    for name in ("a", "norm", "depthwise", "c"):
        weight = small.network.get_submodule(name).weight.requires_grad_(True)
        squares = [
            torch.autograd.grad(
                F.cross_entropy(small.network(data.inputs[0][i : i + 1]), data.labels[i : i + 1]), weight
            )[0].square()
            for i in range(40)
        ]
        expected = weight.detach().square() * torch.stack(squares).mean(0)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-9)
        assert not torch.allclose(found[name], weight.detach().square() * squares[-1], rtol=0.1)  # the last one alone


def test_twice_the_samples_are_the_same_mean(small, samples):
    data = samples(12)
    doubled = Samples((data.inputs[0].repeat(2, 1, 1, 1),), data.labels.repeat(2))
    one, other = (saliency(small.network, "hessian", given)["a"] for given in (data, doubled))
    torch.testing.assert_close(one, other)


def test_torch_prunings_own_hessian_score_keeps_the_last_sample(small, samples):
    """What ours must not do; when this fails, it was mended there."""
    theirs = torch_pruning.importance.GroupHessianImportance()
    data = samples(6)
    theirs.zero_grad()
    for i in range(6):
        small.network.zero_grad()
        F.cross_entropy(small.network(data.inputs[0][i : i + 1]), data.labels[i : i + 1]).backward()
        theirs.accumulate_grad(small.network)
    kept = theirs._accu_grad[small.network.a.weight]
    torch.testing.assert_close(kept, small.network.a.weight.grad.square())


def test_activation_is_the_mean_magnitude_that_the_readers_see(small, samples):
    data = samples(40)
    found = saliency(small.network, "activation", data)
    assert set(found) == {"a", "b", "c"}  # a depthwise layer passes its channels on
    with torch.no_grad():
        x = F.relu(small.network.norm(small.network.a(data.inputs[0])))
        x = F.relu(small.network.depthwise(x))
        hidden = F.relu(small.network.b(x.flatten(1)))
    torch.testing.assert_close(found["b"].float(), x.flatten(1).abs().mean(0), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found["c"].float(), hidden.abs().mean(0), rtol=1e-5, atol=1e-7)
    scores = score_channels(_group(small, "a"), found, "activation")  # each channel is read at its four places
    expected = x.abs().mean((0, 2, 3)).double()
    torch.testing.assert_close(scores, expected / expected.mean(), rtol=1e-5, atol=1e-7)


def test_activation_does_not_take_what_a_layer_reads_for_what_it_makes(small, samples):
    found = saliency(small.network, "activation", samples(8))
    group = _group(small, "b")
    assert {member.side for member in group.members} == {"in", "out"}
    scores = score_channels(group, found, "activation")
    torch.testing.assert_close(scores, found["c"] / found["c"].mean())


def test_activation_of_two_readers_is_their_mean(make_model, samples):
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(1, 8, 1)
            self.b = nn.Conv2d(8, 4, 1)
            self.c = nn.Conv2d(8, 4, 1)

        def forward(self, x):
            x = self.a(x)
            return (self.b(F.relu(x)) + self.c(x.tanh())).mean((2, 3))

    torch.manual_seed(0)
    model = make_model(Fork())
    found = saliency(model.network, "activation", samples(8))
    mean = (found["b"] + found["c"]) / 2
    torch.testing.assert_close(score_channels(_group(model, "a"), found, "activation"), mean / mean.mean())


@pytest.mark.parametrize("importance", ["hessian", "activation"])
def test_channels_that_matter_least_go(importance, small, make_context, samples):
    with torch.no_grad():  # half of the hidden units are hardly read, and hardly there
        small.network.b.weight[::2] *= 1e-3
        small.network.b.bias[::2] *= 1e-3
        small.network.b.bias[1::2] += 1
    options = PruneOptions(channel_ratio=0.5, importance=importance, multiple_of=4, recalibrate_norms=False)
    pruned = prune(small, options, make_context(calibration=samples(32)))
    (edit,) = (edit for edit in pruned.edits if (edit.layer, edit.side) == ("b", "out"))
    assert edit.indices == (1, 3, 5, 7)


@pytest.mark.parametrize("importance", ["magnitude", "taylor", "hessian", "activation"])
def test_the_given_network_is_as_it_was_and_nothing_is_left_of_one_run_in_the_next(importance, small, samples):
    data = samples(8)
    before = {name: tensor.clone() for name, tensor in small.network.state_dict().items()}
    small.network.requires_grad_(False)  # a frozen network is scored as well
    first, second = (saliency(small.network, importance, data) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.network.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in small.network.parameters())
    assert not any(module._forward_pre_hooks for module in small.network.modules())


@pytest.mark.parametrize("importance", ["taylor", "hessian", "activation"])
def test_a_group_of_zeros_scores_zero_and_not_nan(importance, small, samples):
    with torch.no_grad():
        for tensor in (small.network.b.weight, small.network.b.bias, small.network.c.weight):
            tensor.zero_()
    scores = score_channels(_group(small, "b"), saliency(small.network, importance, samples(8)), importance)
    assert scores.tolist() == [0.0] * 8


@pytest.mark.parametrize("importance", ["taylor", "hessian", "activation"])
def test_norms_count_where_weights_are_scored(importance, small, samples):
    found = saliency(small.network, importance, samples(8))
    assert ("norm" in found) == (importance != "activation")
    if importance != "activation":
        assert (found["norm"] > 0).sum() >= 4  # the others are dead for these samples


def test_samples_that_are_not_finite_are_named(small, samples):
    data = samples(8)
    data.inputs[0][3] = float("nan")
    for importance in ("hessian", "activation"):
        with pytest.raises(PassError) as caught:
            score_channels(_group(small, "a"), saliency(small.network, importance, data), importance)
        assert "calibration samples" in caught.value.fix


def test_a_loss_is_for_scores_that_look_at_one():
    assert PruneOptions(channel_ratio=0.5, importance="hessian", loss="mse").loss == "mse"
    with pytest.raises(ValidationError, match="does not look at one"):
        PruneOptions(channel_ratio=0.5, importance="activation", loss="mse")
