import math

import pytest
import torch

from edgekit.numerics.sparsity import (
    CubicSchedule,
    bitmask_bytes,
    block_scores,
    expand_blocks,
    is_two_of_four,
    kept_count,
    largest,
    largest_of_all,
    two_of_four,
)


def _ones(weight):
    return torch.ones_like(weight, dtype=torch.bool)


def test_the_cubic_schedule_has_the_published_values():
    schedule = CubicSchedule(initial=0.0, final=0.9, begin=1000, updates=100, every=100)
    golden = {0: 0, 1000: 0, 1100: 0.026731, 3500: 0.520313, 6000: 0.7875, 8500: 0.885938, 11000: 0.9, 50000: 0.9}
    assert {step: schedule.at(step) for step in golden} == pytest.approx(golden, abs=6e-7)  # six digits are published
    assert schedule.end == 11000


def test_the_schedule_starts_at_its_initial_share_and_not_before_its_begin():
    schedule = CubicSchedule(initial=0.5, final=0.8, begin=10, updates=4, every=5)
    assert schedule.at(9) == 0
    assert schedule.at(10) == pytest.approx(0.5)
    assert schedule.at(15) == pytest.approx(0.8 - 0.3 * 0.75**3)
    assert [step for step in range(40) if schedule.updates_at(step)] == [10, 15, 20, 25, 30]


def test_a_schedule_of_one_update_is_final_at_once():
    schedule = CubicSchedule(0.8, 0.8, 0, 0, 0)
    assert (schedule.at(0), schedule.at(7)) == (0.8, 0.8)
    assert [step for step in range(5) if schedule.updates_at(step)] == [0]


def test_how_many_stay_is_rounded_and_never_none():
    assert [kept_count(10, s) for s in (0, 0.26, 0.75, 0.999)] == [10, 7, 2, 1]  # 2.5 to the even number, as TensorFlow


def test_exactly_so_many_stay_and_of_equal_ones_the_first():
    scores = torch.tensor([1.0, 3.0, 1.0, 1.0, 2.0])
    assert largest(scores, 3).tolist() == [True, True, False, False, True]
    assert largest(torch.zeros(6), 4).tolist() == [True] * 4 + [False] * 2


def test_a_masked_weight_ranks_below_one_that_happens_to_be_zero():
    weight = torch.tensor([[0.0, 5.0, 0.0, 1.0]])
    mask = torch.tensor([[False, True, True, True]])
    scores = block_scores(weight, mask, (1, 1))
    assert scores.tolist() == [-1, 5, 0, 1]
    assert largest(scores, 3).tolist() == [False, True, True, True]


def test_blocks_rank_by_their_mean_magnitude_and_smaller_ones_at_the_edge_are_not_at_a_loss():
    weight = torch.tensor([[1.0, -1, 2, 2, 9], [1, 1, 2, -2, 9], [0, 0, 0, 0, 3]])  # (3, 5) in blocks of 2 x 2
    scores = block_scores(weight, _ones(weight), (2, 2))
    assert scores.tolist() == [1, 2, 9, 0, 0, 3]
    mask = expand_blocks(largest(scores, 3), weight.shape, (2, 2))
    assert mask.tolist() == [[False, False, True, True, True], [False, False, True, True, True], [False] * 4 + [True]]
    again = block_scores(weight * mask, mask, (2, 2))
    assert again.tolist() == [-1, 2, 9, -1, -1, 3]


def test_the_blocks_of_a_kernel_run_over_inputs_and_places():
    weight = torch.arange(1.0, 2 * 2 * 2 * 2 + 1).reshape(2, 2, 2, 2)
    mask = expand_blocks(largest(block_scores(weight, _ones(weight), (1, 4)), 2), weight.shape, (1, 4))
    assert mask.tolist() == [[[[False] * 2] * 2] * 2, [[[True] * 2] * 2] * 2]


def test_over_all_layers_the_largest_stay_but_each_layer_has_its_floor():
    scores = {"small": torch.tensor([0.1, 0.2, 0.3, 0.4]), "large": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])}
    kept = largest_of_all(scores, keep=5, floor=0.25)
    assert kept["small"].tolist() == [False, False, False, True]
    assert kept["large"].tolist() == [False, False, True, True, True, True]
    assert sum(int(mask.sum()) for mask in largest_of_all(scores, keep=1, floor=0.5).values()) == 5  # the floors alone


def test_two_of_four_by_hand_along_the_inputs():
    weight = torch.tensor([[4.0, 1, -3, 2, 0, 0, 0, 7]])
    assert two_of_four(weight).tolist() == [[True, False, True, False, True, False, False, True]]


def test_two_of_four_groups_inputs_at_each_place_of_a_kernel():
    weight = torch.randn(3, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    mask = two_of_four(weight)
    by_place = mask.permute(0, 2, 3, 1).reshape(-1, 4)
    assert (by_place.sum(1) == 2).all()
    for group, kept in zip(weight.permute(0, 2, 3, 1).reshape(-1, 4), by_place, strict=True):
        assert group[kept].abs().min() >= group[~kept].abs().max()
    assert is_two_of_four(weight * mask)
    assert not is_two_of_four(weight)
    wrong = (weight.reshape(3, -1, 4) * two_of_four(weight.reshape(-1, 4)).reshape(3, -1, 4)).reshape(weight.shape)
    assert not is_two_of_four(wrong)  # groups along the kernel's places are none
    assert not is_two_of_four(torch.zeros(2, 6))


def test_a_bitmask_and_values_at_eight_bits_and_80_per_cent_are_a_third_of_the_bytes():
    assert bitmask_bytes(1000, 200, 1) / 1000 == 0.325
    assert bitmask_bytes(9, 2, 4) == 2 + 8
    assert math.isclose(bitmask_bytes(800, 400, 4) / 3200, 0.5 + 1 / 32)
