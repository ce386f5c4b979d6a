"""Rotations: the function stays, outliers do not, and what cannot be rotated says why."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from edgekit.passes.equalise.hadamard import hadamard
from tests.edgekit.passes.equalise.networks import Block, Pair, Shared, model_of, task_of


def _outputs(model, tensors, x):
    network = model.network.double()
    network.load_state_dict(tensors)
    return network(x)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_function_is_kept_to_rounding_in_float64(norm, packed):
    model = model_of(Block(norm, packed), (1, 4, 4))
    task, before = task_of(model)
    rewrite = hadamard(task, before)
    x = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(_outputs(model, rewrite.tensors, x), _outputs(model, before, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_gains_of_a_rotated_stream_are_in_the_layers_that_read_it(norm):
    task, before = task_of(model_of(Block(norm), (1, 4, 4)))
    after = hadamard(task, before).tensors
    for name in ("norm1", "norm2", "norm3"):
        assert torch.equal(after[f"{name}.weight"], torch.ones(8, dtype=torch.float64))
        if norm == "layer":
            assert not bool(after[f"{name}.bias"].any())
    # all that is on the stream turns by one rotation: lengths and angles stay
    for name in ("token", "places"):
        torch.testing.assert_close(after[name][0] @ after[name][0].T, before[name][0] @ before[name][0].T)
        assert not torch.allclose(after[name], before[name])
    if norm == "layer":
        torch.testing.assert_close(after["places"].mean(-1), before["places"].mean(-1), rtol=1e-9, atol=1e-12)


def test_values_are_mixed_within_their_head_only():
    model = model_of(Block(packed=False), (1, 4, 4))
    task, before = task_of(model)
    after = hadamard(task, before).tensors
    v_before, v_after = before["v.bias"], after["v.bias"]
    # the norm's shift goes into the bias first: compare lengths of the rows before the rotation
    shifted = v_before + before["v.weight"] @ before["norm1.bias"]
    for head in (slice(0, 4), slice(4, 8)):
        torch.testing.assert_close(v_after[head].norm(), shifted[head].norm(), rtol=1e-9, atol=0)
        columns = [tensors["out.weight"][:, head].norm() for tensors in (before, after)]
        torch.testing.assert_close(columns[1], columns[0], rtol=1e-9, atol=0)
    for name in ("q", "k"):  # compared channel by channel: not rotated
        gained = before[f"{name}.weight"] * before["norm1.weight"]
        assert torch.allclose(after[f"{name}.weight"].norm(dim=1), gained.norm(dim=1))


def test_an_outlier_channel_of_the_stream_is_spread():
    model = model_of(Block("rms"), (1, 4, 4))
    with torch.no_grad():
        for name in ("embed.weight", "embed.bias", "token", "places"):
            tensor = model.network.get_parameter(name)
            tensor[(3,) if name.startswith("embed") else (..., 3)] *= 50
    task, before = task_of(model)
    after = hadamard(task, before).tensors

    def peak(tensors):
        stream = tensors["token"][0] + tensors["places"][0]
        return (stream.abs().amax(-1) / stream.square().mean(-1).sqrt()).mean()

    assert peak(before) > 2.7  # of at most 8 ** 0.5 = 2.83
    assert peak(after) < 1.5


def test_one_layer_behind_the_other_is_rotated_and_a_relu_is_not_passed():
    model = model_of(_Chain(), (1, 5))
    task, before = task_of(model)
    rewrite = hadamard(task, before)
    assert not torch.allclose(rewrite.tensors["first.weight"], before["first.weight"])
    assert set(rewrite.left) == {"third/linear", "second/linear"}
    assert "relu" in rewrite.left["second/linear"]
    assert "output" in rewrite.left["third/linear"]
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(_outputs(model, rewrite.tensors, x), _outputs(model, before, x), rtol=1e-12, atol=1e-12)


class _Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.third(torch.relu(self.second(self.first(x))))


def test_a_width_without_a_hadamard_matrix_is_left_with_the_reason():
    task, before = task_of(model_of(Pair("none"), (1, 5)))  # 6 channels
    rewrite = hadamard(task, before)
    assert rewrite.left["first/linear"] == "no Hadamard matrix of order 6"
    assert all(torch.equal(rewrite.tensors[name], before[name]) for name in before)


def test_a_stream_whose_gain_nobody_can_take_is_left():
    model = model_of(_NormRead(), (1, 5))
    task, before = task_of(model)
    rewrite = hadamard(task, before)
    assert "gain of norm" in rewrite.left["first/linear"]
    assert all(torch.equal(rewrite.tensors[name], before[name]) for name in before)


class _NormRead(nn.Module):
    """A post-norm stream: what the norm makes is read by a layer and added to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.inner, self.last = (
            nn.Linear(5, 8),
            nn.LayerNorm(8),
            nn.Linear(8, 8),
            nn.Linear(8, 2),
        )

    def forward(self, x):
        x = self.norm(self.first(x))
        return self.last(x + self.inner(x))


def test_shared_weights_are_left():
    task, before = task_of(model_of(Shared(), (1, 4)))
    rewrite = hadamard(task, before)
    assert "shared" in rewrite.left["free/linear"] or "relu" in rewrite.left["free/linear"]
    assert all(torch.equal(rewrite.tensors[name], before[name]) for name in before)


def test_another_seed_draws_another_rotation():
    model = model_of(Block(), (1, 4, 4))
    task, before = task_of(model)
    other = replace(task, context=replace(task.context, seed=1))
    first, again, second = hadamard(task, before), hadamard(task, before), hadamard(other, before)
    assert torch.equal(first.tensors["token"], again.tensors["token"])
    assert not torch.equal(first.tensors["token"], second.tensors["token"])
