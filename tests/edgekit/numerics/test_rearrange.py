"""Chains of reshapes and transposes in fewest words."""

import pytest
import torch

from edgekit.numerics.rearrange import Rearrangement, find_columns, find_rearrangement


def _index(*shape: int) -> torch.Tensor:
    return torch.arange(int(torch.tensor(shape).prod())).reshape(shape)


def test_no_movement_is_a_reshape_of_one_axis() -> None:
    found = find_rearrangement(_index(2, 3, 4).reshape(6, 4))
    assert found == Rearrangement((24,), (0,))
    assert found.is_reshape


def test_a_transpose_by_hand() -> None:
    assert find_rearrangement(_index(2, 3).T) == Rearrangement((2, 3), (1, 0))


def test_heads_by_way_of_five_operators_are_one_permutation() -> None:
    tokens, heads, width = 5, 3, 4
    moved = _index(1, tokens, heads * width).transpose(0, 1).reshape(tokens, heads, width).transpose(0, 1)
    moved = moved.reshape(1, heads, tokens, width)
    assert find_rearrangement(moved) == Rearrangement((tokens, heads, width), (1, 0, 2))


@pytest.mark.parametrize("seed", range(20))
def test_split_and_order_rebuild_any_chain(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = [2, 3, 4, 5]
    source = torch.randn(shape, generator=generator)
    index, value = _index(*shape), source
    for _ in range(3):
        order = torch.randperm(index.dim(), generator=generator).tolist()
        index, value = index.permute(order), value.permute(order)
        merged = [index.shape[0], int(torch.tensor(index.shape[1:]).prod())] if index.dim() > 2 else [6, 20]
        index, value = index.reshape(merged), value.reshape(merged)
    found = find_rearrangement(index)
    if found is not None:  # a reshape of a transposed tensor may cut through an axis: then no order of axes says it
        torch.testing.assert_close(source.reshape(found.split).permute(found.order).reshape(value.shape), value)


@pytest.mark.parametrize(
    "index",
    [
        _index(2, 3)[:, 1:],  # elements are missing
        _index(2, 3).flip(0),
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([0, 2, 1, 3, 4, 5]),
    ],
)
def test_what_is_no_rearrangement_of_all_elements_is_none(index: torch.Tensor) -> None:
    assert find_rearrangement(index) is None


def test_whole_runs_of_columns() -> None:
    matrix = _index(4, 6)
    assert find_columns(matrix[:, 2:4].T, 4, 6) == (2, 4)
    assert find_columns(matrix[:3, 2:4], 4, 6) is None  # a row is missing
    assert find_columns(matrix[:, ::2], 4, 6) is None
    assert find_columns(torch.stack([matrix[:, 1], matrix[:, 1]]), 4, 6) is None
