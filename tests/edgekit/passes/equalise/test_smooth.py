"""SmoothQuant against its own formula."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.passes.equalise.smooth import smooth
from tests.edgekit.passes.equalise.networks import Block, Pair, model_of, task_of


def _columns(weight):
    return weight.abs().transpose(0, 1).flatten(1).amax(1)


def _activation(model, task, tensors):
    model.network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    x = task.samples().inputs[0]
    with torch.no_grad():
        return F.relu(model.network.first(x)).abs().amax(0).double()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8, 1.0])
def test_ranges_behind_a_relu_follow_equation_4(alpha):
    model = model_of(Pair(), (1, 5))
    task, before = task_of(model, 64, alpha=alpha)
    seen, read = _activation(model, task, before), _columns(before["second.weight"])
    after = smooth(task, before).tensors
    divisor = seen**alpha / read ** (1 - alpha)  # s of the paper
    torch.testing.assert_close(_activation(model, task, after), seen / divisor, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(_columns(after["second.weight"]), read * divisor, rtol=1e-5, atol=1e-7)
    if alpha == 0.5:  # both sides meet in the middle
        torch.testing.assert_close(seen / divisor, read * divisor, rtol=1e-9, atol=0)


def test_an_outlier_of_a_norms_gain_goes_into_the_weights():
    model = model_of(Block(), (1, 4, 4))
    with torch.no_grad():
        model.network.norm2.weight[3] *= 50
        model.network.norm2.bias[3] *= 50
        model.network.up.weight[:, 3] /= 50
    task, before = task_of(model, alpha=1.0)

    def seen(tensors):
        found = []
        model.network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        handle = model.network.norm2.register_forward_hook(lambda *args: found.append(args[2]))
        with torch.no_grad():
            model.network(task.samples().inputs[0])
        handle.remove()
        return found[0].abs().flatten(0, 1).amax(0)

    assert seen(before)[3] > 20 * seen(before)[[0, 1, 2, 4, 5, 6, 7]].max()
    after = seen(smooth(task, before).tensors)
    torch.testing.assert_close(after, torch.ones(8), rtol=1e-4, atol=0)


class _Stream(nn.Module):
    """A residual stream of 4 channels with two activations on it, the second one 100 times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.head(F.relu(x + self.branch(x)))


def test_activations_of_a_stream_count_relative_to_their_own_largest_channel():
    model = model_of(_Stream(), (1, 3))
    with torch.no_grad():
        model.network.branch.weight *= 100
        model.network.branch.bias *= 100
    task, before = task_of(model, alpha=1.0)
    with torch.no_grad():
        inner = F.relu(model.network.first(task.samples().inputs[0]))
        sums = inner + model.network.branch(inner)
    # what a kernel writes: the first activation, the branch, and the sum behind its ReLU
    seen = [part.abs().amax(0).double() for part in (inner, model.network.branch(inner), F.relu(sums))]
    unit = max(one.max() for one in seen)
    expected = 1 / torch.stack([one / one.max() * unit for one in seen]).amax(0)
    after = smooth(task, before).tensors
    torch.testing.assert_close(after["first.bias"] / before["first.bias"], expected, rtol=1e-4, atol=0)
