import math

import pytest
import torch
from torch import nn

from edgekit.passes.prune.autobot.gates import Gates
from edgekit.passes.prune.autobot.rounds import each_alone, in_blocks
from edgekit.passes.prune.groups import find_groups


@pytest.fixture
def gates(make_model):
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    return Gates(network, find_groups(make_model(network)).groups)


def test_at_first_every_gate_is_alone(gates):
    part = each_alone(gates, 200)
    logits = torch.arange(10.0)
    assert torch.equal(part.spread(logits), logits)
    assert (part.first, part.steps) == (0, 200)
    assert torch.equal(part.initial.sigmoid(), torch.full((10,), 0.9))


def test_blocks_lie_between_widths_in_the_order_of_the_gates(gates):
    logits = torch.tensor([3.0, -1.0, 2.0, -9.0, 1.0, 0.0, 0.5, 9.0, -0.5, 8.0])
    part = in_blocks(gates, logits, {"0": [6, 4, 2], "1": [4, 2]}, first=200, steps=100)
    # of the first six 3 and 2 stay, then 1 and 0, then -1 and -9; of the last four 9 and 8 stay
    assert part.places.tolist() == [3, 1, 3, 1, 0, 0, 2, 3, 2, 3]
    means = [
        (torch.tensor([1.0, 0.0]).sigmoid().mean()).item(),
        0.5 * torch.tensor(-1.0).sigmoid().item() + 0.5 * torch.tensor(-9.0).sigmoid().item(),
        0.5,
    ]
    assert part.initial.sigmoid().tolist() == pytest.approx(means, abs=1e-6)
    inf = math.inf
    assert part.spread(torch.tensor([7.0, 8.0, 9.0])).tolist() == [inf, 8, inf, 8, 7, 7, 9, inf, 9, inf]
    shut = in_blocks(gates, logits - 50, {"0": [6, 4, 2], "1": [4, 2]}, 200, 100)
    assert shut.initial.sigmoid().tolist() == pytest.approx([0.05] * 3)  # not so far closed that it cannot open
