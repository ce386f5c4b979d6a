import pytest
import torch
from torch import nn

from edgekit.passes.prune.autobot.latency import GatedLatency, interpolate
from edgekit.passes.prune.groups import find_groups


def test_lines_between_what_was_measured_and_their_slopes():
    values = torch.tensor([[1.0, 3.0, 4.0], [2.0, 8.0, 9.0]], dtype=torch.float64)
    points = ((8, 16), (4, 8, 16))
    for i, out in enumerate(points[0]):
        for j, read in enumerate(points[1]):
            assert interpolate(points, values, [out, read]) == values[i, j].item()
    out = torch.tensor(12.0, dtype=torch.float64, requires_grad=True)
    read = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    ms = interpolate(points, values, [out, read])
    # a quarter from 4 to 8 in each row: 1.5 and 3.5; half way between the rows
    assert ms.item() == 2.5
    ms.backward()
    assert out.grad.item() == (3.5 - 1.5) / 8
    assert read.grad.item() == ((3 - 1) / 4 + (8 - 2) / 4) / 2
    assert interpolate(points, values, [8, 2]) == 0.0  # along the first piece: 1 - 2 * (3 - 1) / 4
    assert interpolate(points, values, [8, 24]) == 5.0  # along the last one


@pytest.fixture
def measured(make_model):
    """A network, its groups, a cost over fake measurements, and what was measured."""

    def make(layer_ms):
        network = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, 3, 2, 1, groups=8),
            nn.Conv2d(8, 6, 1),
            nn.Flatten(),
            nn.Linear(6 * 16, 2),
        )
        model = make_model(network, (1, 1, 8, 8))
        inputs = {}
        handles = [layer.register_forward_hook(lambda m, x, _: inputs.update({m: x[0]})) for layer in network]
        network(*model.example())
        for handle in handles:
            handle.remove()
        layers = [(network[i], inputs[network[i]]) for i in (0, 2, 3, 5)]
        groups = find_groups(model).groups
        seen = []

        def record(layer, given):
            with torch.no_grad():
                made = layer(given)  # it must be a layer that runs
            seen.append((type(layer).__name__, tuple(layer.weight.shape), tuple(given.shape)))
            return layer_ms(layer, made)

        widths = {"0": [8, 6, 4, 2], "3": [6, 4, 2]}
        progress = []
        cost = GatedLatency.measured(network, layers, groups, widths, record, lambda *said: progress.append(said))
        assert progress[-1] == (3, 4, "measuring 5")
        return cost, seen

    return make


def test_each_layer_is_measured_at_three_widths_of_each_side(measured):
    _, seen = measured(lambda layer, made: 1.0)
    assert seen == [
        *(("Conv2d", (c, 1, 3, 3), (1, 1, 8, 8)) for c in (2, 4, 8)),
        *(("Conv2d", (c, 1, 3, 3), (1, c, 8, 8)) for c in (2, 4, 8)),
        *(("Conv2d", (out, c, 1, 1), (1, c, 4, 4)) for out in (2, 4, 6) for c in (2, 4, 8)),
        *(("Linear", (2, 16 * c), (1, 16 * c)) for c in (2, 4, 6)),
    ]


def test_what_is_a_product_of_widths_is_found_between_the_points_too(measured):
    def ms(layer, made):  # multiply-accumulates and a call of its own: bilinear
        return 5 + made.numel() * layer.weight[0].numel() / 1000

    cost, _ = measured(ms)
    first, second = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (5.5, 3.5))
    total = cost.total({"0": first, "3": second})
    by_hand = 4 * 5 + (64 * 9 * 5.5 + 16 * 9 * 5.5 + 16 * 5.5 * 3.5 + 16 * 3.5 * 2) / 1000
    assert total.item() == pytest.approx(by_hand)
    total.backward()
    assert first.grad.item() == pytest.approx((64 * 9 + 16 * 9 + 16 * 3.5) / 1000)
    assert second.grad.item() == pytest.approx((16 * 5.5 + 32) / 1000)
    assert cost.total({}) == pytest.approx(20 + (64 * 72 + 16 * 72 + 16 * 48 + 192) / 1000)
    assert cost.total({"0": 4}) == pytest.approx(20 + (64 * 36 + 16 * 36 + 16 * 24 + 192) / 1000)


def test_layers_that_are_never_cut_are_measured_once(measured):
    cost, _ = measured(lambda layer, made: 2.0)
    assert cost.fixed == 0
    assert cost.total({}) == cost.total({"0": 2, "3": 3}) == 8
    linear = nn.Sequential(nn.Linear(3, 2))
    alone = GatedLatency.measured(linear, [(linear[0], torch.ones(1, 3))], [], {}, lambda *_: 3.0, lambda *_: None)
    assert alone.fixed == alone.total({}) == 3
