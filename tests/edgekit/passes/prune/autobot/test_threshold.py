import itertools

import pytest
import torch

from edgekit.passes.prune.autobot.flops import GatedMacs
from edgekit.passes.prune.autobot.threshold import choose_channels
from edgekit.passes.prune.widths import achievable_widths


class Sum:
    """A cost that is the number of channels, some of them dearer."""

    def __init__(self, widths, each):
        self.widths, self.each = widths, each

    def total(self, kept):
        return sum(self.each[root] * kept.get(root, width) for root, width in self.widths.items())


def _kept(removed, widths):
    return {root: own[0] - len(removed[root]) for root, own in widths.items()}


def test_what_is_below_the_threshold_goes_and_nothing_above():
    logits = {"a": torch.tensor([3.0, -1.0, 2.0, -2.0]), "b": torch.tensor([-3.0, 1.0])}
    widths = {"a": [4, 3, 2, 1], "b": [2, 1]}
    assert choose_channels(logits, widths, Sum({"a": 4, "b": 2}, {"a": 1, "b": 1}), 4) == {"a": (3,), "b": (0,)}
    assert choose_channels(logits, widths, Sum({"a": 4, "b": 2}, {"a": 1, "b": 1}), 3) == {"a": (1, 3), "b": (0,)}


def test_no_group_is_emptied_even_if_the_bound_cannot_be_met():
    logits = {"a": torch.tensor([-30.0, -20.0]), "b": torch.tensor([1.0, 2.0])}
    removed = choose_channels(logits, {"a": [2, 1], "b": [2, 1]}, Sum({"a": 2, "b": 2}, {"a": 1, "b": 1}), 0)
    assert removed == {"a": (0,), "b": (0,)}


def test_widths_are_the_nearest_that_a_group_can_have():
    logits = {"a": torch.cat([torch.full((13,), 2.0), torch.full((19,), -2.0)]) + torch.arange(32) / 1000}
    cost = Sum({"a": 32}, {"a": 1})
    assert len(choose_channels(logits, {"a": [32, 24, 16, 8]}, cost, 17)["a"]) == 16
    assert choose_channels(logits, {"a": [32, 24, 16, 8]}, cost, 15)["a"] == (*range(5), *range(13, 32))


def test_what_is_left_of_the_budget_widens_the_group_with_the_highest_gates():
    logits = {"a": torch.tensor([5.0, 4.0, 0.9, 0.8]), "b": torch.tensor([5.0, 4.0, 0.4, 0.3])}
    widths = {"a": [4, 2], "b": [4, 2]}
    # 0.8 is the first to fall: a goes to 2 channels of 10 together with nothing else, and 6 of the bound are left
    cost = Sum({"a": 4, "b": 4}, {"a": 10, "b": 1})
    assert choose_channels(logits, widths, cost, 25) == {"a": (2, 3), "b": ()}


def test_gates_that_the_sigmoid_rounds_to_one_are_told_apart():
    logits = {"a": torch.tensor([60.0, 70.0, 80.0, 90.0])}
    assert torch.equal(logits["a"].sigmoid(), torch.ones(4))
    assert choose_channels(logits, {"a": [4, 3, 2, 1]}, Sum({"a": 4}, {"a": 1}), 2) == {"a": (0, 1)}


def _published(logits, cost, target, tolerance):
    """The loop of the published code: a threshold on the gates, halved up to 50 times."""
    threshold, delta = 0.5, 0.25
    for _ in range(50):
        masks = {root: own.double().sigmoid() > threshold for root, own in logits.items()}
        for root, mask in masks.items():
            if not mask.any():
                mask[logits[root].argmax()] = True
        now = cost.total({root: int(mask.sum()) for root, mask in masks.items()})
        if abs(now - target) <= tolerance:
            break
        threshold += delta if now > target else -delta
        delta /= 2
    return now, masks


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
def test_against_the_published_loop(ratio, model, groups):
    cost = GatedMacs.of(model, groups)
    generator = torch.Generator().manual_seed(1)
    logits = {group.root: 3 * torch.randn(group.width, generator=generator) for group in groups}
    widths = {group.root: achievable_widths(group.width, 1, 1e-9) for group in groups}
    bound = ratio * cost.total({})
    removed = choose_channels(logits, widths, cost, bound)
    ours = cost.total(_kept(removed, widths))
    tolerance = min(50_000, cost.total({}) // 200)  # published for networks of 126 million and more
    theirs, masks = _published(logits, cost, bound, tolerance)
    assert ours <= bound
    if theirs <= bound:
        assert ours >= theirs - tolerance
    # a gate more or less at the crossing, and what then still fits
    cut = {root: set(own) for root, own in removed.items()}
    others = {root: set(torch.nonzero(~mask).flatten().tolist()) for root, mask in masks.items()}
    assert all(cut[root] <= others[root] or others[root] <= cut[root] for root in cut)
    differing = sum(len(cut[root] ^ others[root]) for root in cut)
    assert differing <= max(8, 0.05 * sum(group.width for group in groups))
    for root in cut:  # nothing wider fits
        if cut[root]:
            assert cost.total({**_kept(removed, widths), root: widths[root][0] - len(cut[root]) + 1}) > bound


def test_multiples_and_floors_hold_at_any_bound(model, groups):
    cost = GatedMacs.of(model, groups)
    generator = torch.Generator().manual_seed(2)
    logits = {group.root: 40 * torch.randn(group.width, generator=generator) for group in groups}
    for multiple, ratio in itertools.product((4, 8), (0.4, 0.7)):
        widths = {group.root: achievable_widths(group.width, multiple, 0.25) for group in groups}
        kept = _kept(choose_channels(logits, widths, cost, ratio * cost.total({})), widths)
        assert all(kept[root] in widths[root] for root in kept)
        least = cost.total({root: own[-1] for root, own in widths.items()})
        assert cost.total(kept) <= max(ratio * cost.total({}), least)
