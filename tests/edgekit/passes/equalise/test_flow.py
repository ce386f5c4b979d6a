"""Which channels hang together, counted by hand; and that scaling any of them changes nothing, in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.nets.program import trace_as_written
from edgekit.passes.equalise.flow import follow
from edgekit.passes.equalise.regions import find_regions, one_but, scaled
from edgekit.passes.equalise.rules import RULES, selected_inputs
from tests.edgekit.passes.equalise.networks import (
    Block,
    Gated,
    Meetings,
    Pair,
    Shared,
    Shortcuts,
    Triple,
    model_of,
)


def _followed(network, shape):
    model = model_of(network, shape)
    # batch norms stand in the way until they are folded: here they are taken out
    for path, module in list(model.network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            model.network.get_submodule(path.rpartition(".")[0]).__setattr__(path.rpartition(".")[2], nn.Identity())
    program = trace_as_written(model)
    return model, program, follow(program, model.network, RULES)


# network, shape, regions by (channels, sources, sinks, offsets): what one finds by hand
CASES = [
    pytest.param(Pair(), (1, 5), [(6, 1, 1, 1)], id="pair"),
    pytest.param(Triple(), (1, 2, 6, 6), [(4, 1, 1, 1), (4, 1, 1, 1)], id="depthwise"),
    # the stem's channels go through both shortcuts into the second block; its 2 new channels begin there.
    # made by stem, same.conv2, wider.conv2 and read by same.conv1, wider.conv1, head
    pytest.param(Shortcuts(), (1, 1, 8, 8), [(6, 3, 3, 1), (4, 1, 1, 0), (6, 1, 1, 0)], id="shortcuts"),
    # 6 concatenated channels into the grouped layer; 4 through the shift into the gain; 4 from the gain into the head
    pytest.param(Meetings(), (1, 1, 8, 8), [(6, 2, 1, 2), (4, 1, 1, 2), (4, 1, 1, 0)], id="meetings"),
    # norm1 -> qkv; values -> out; norm2 -> up; up -> down; norm3 -> head. Norms have a gain and a shift
    pytest.param(
        Block(),
        (1, 4, 4),
        [(8, 1, 1, 1), (8, 1, 1, 1), (8, 1, 1, 1), (12, 1, 1, 1), (8, 1, 1, 1)],
        id="packed-attention",
    ),
    pytest.param(
        Block("rms", packed=False),
        (1, 4, 4),
        [(8, 1, 3, 0), (8, 1, 1, 0), (8, 1, 1, 0), (12, 1, 1, 0), (8, 1, 1, 0)],
        id="attention",
    ),
    pytest.param(Block(activation="gelu"), (1, 4, 4), [(8, 1, 1, 1)] * 4, id="gelu"),
    pytest.param(Gated(), (1, 4), [(6, 1, 1, 1)], id="gated"),
    # own -> tied cannot be scaled, nor into the layer that is used twice; only free -> head
    pytest.param(Shared(), (1, 4), [(4, 1, 1, 1)], id="shared"),
]


@pytest.mark.parametrize(("network", "shape", "expected"), CASES)
def test_regions_are_those_that_one_finds_by_hand(network, shape, expected):
    _, _, flow = _followed(network, shape)
    found = [
        (len(region.classes), *(len(region.of_role(role)) for role in ("source", "sink", "offset")))
        for region in find_regions(flow)
    ]
    assert found == expected


@pytest.mark.parametrize(("network", "shape", "expected"), CASES)
def test_any_factors_on_the_channels_of_regions_keep_the_function(network, shape, expected):
    model, _, flow = _followed(network, shape)
    draw = torch.Generator().manual_seed(5)
    tensors = {name: tensor.detach().double() for name, tensor in model.network.state_dict().items()}
    before = dict(tensors)
    for region in find_regions(flow):
        factors = torch.exp(torch.randn(flow.count, generator=draw, dtype=torch.float64))
        tensors = scaled(tensors, region.sites, one_but(region, factors))
    assert any(not torch.equal(tensors[name], before[name]) for name in before)
    x = torch.randn(2, *shape[1:], generator=draw, dtype=torch.float64)
    network = model.network.double()
    wanted = network(x)
    network.load_state_dict(tensors)
    torch.testing.assert_close(network(x), wanted, rtol=1e-12, atol=1e-12)


def test_a_flat_feature_belongs_to_the_channel_that_it_was_cut_from():
    _, _, flow = _followed(Meetings(), (1, 1, 8, 8))
    read = next(site for site in flow.sites if site.tensor == "head.weight" and site.role == "sink")
    made = next(site for site in flow.sites if site.tensor == "gain" and site.role == "source")
    assert read.classes[0].tolist() == made.classes.flatten().repeat_interleave(4).tolist()


def test_a_fixed_shortcut_keeps_its_zeros_and_ones():
    _, _, flow = _followed(Shortcuts(), (1, 1, 8, 8))
    assert not any("shortcut" in site.tensor for site in flow.sites)
    stem = next(site for site in flow.sites if site.tensor == "stem.weight" and site.role == "source")
    wider = next(site for site in flow.sites if site.tensor == "wider.conv2.weight" and site.role == "source")
    assert wider.classes[1:5, 0, 0, 0].tolist() == stem.classes[:, 0, 0, 0].tolist()  # one new channel on each side


def test_a_filter_that_does_more_than_pick_one_channel_is_a_layer():
    picks = torch.zeros(3, 2, 1, 1)
    picks[0, 1] = picks[2, 0] = 1
    assert selected_inputs(picks).tolist() == [1, -1, 0]
    assert selected_inputs(picks * 2) is None
    assert selected_inputs(torch.ones(3, 2, 1, 1)) is None
    assert selected_inputs(torch.nn.functional.pad(picks, (1, 1, 1, 1))) is None


class _Stopped(nn.Module):
    def __init__(self, between) -> None:
        super().__init__()
        self.first, self.second, self.between = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1), between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


@pytest.mark.parametrize(
    ("between", "word"),
    [
        (F.relu6, "relu6"),
        (F.gelu, "gelu"),
        (F.silu, "silu"),
        (lambda x: x + 1, "add"),
        (lambda x: F.pad(x, (1, 1, 1, 1), value=1.0), "pad"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "pad"),
        (lambda x: x * x.mean((2, 3), keepdim=True), "mul"),
        (lambda x: x / x.abs().amax(), "abs"),
        (lambda x: x.softmax(1), "softmax"),
    ],
)
def test_what_stops_a_factor_is_named(between, word):
    _, _, flow = _followed(_Stopped(between), (1, 1, 4, 4))
    assert find_regions(flow) == ()
    made = next(site for site in flow.sites if site.tensor == "first.weight" and site.role == "source")
    assert {flow.reasons[one].partition(" ")[0] for one in made.classes.flatten().tolist()} == {f"/{word}"}


class _Stored(nn.Module):
    """A weight with a second name that nothing reads, or a shift that is not saved with the model."""

    def __init__(self, tied) -> None:
        super().__init__()
        self.first, self.second, self.spare = nn.Linear(5, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.spare.weight = self.second.weight if tied else self.spare.weight
        self.register_buffer("shift", torch.ones(6), persistent=False)
        self.tied = tied

    def forward(self, x):
        x = self.first(x)
        return self.second(x if self.tied else x + self.shift)


@pytest.mark.parametrize("tied", [True, False])
def test_what_has_a_second_name_or_is_not_saved_stays(tied):
    _, _, flow = _followed(_Stored(tied), (1, 5))
    assert find_regions(flow) == ()
    made = next(site for site in flow.sites if site.tensor == "first.weight" and site.role == "source")
    assert "shared, or not saved" in flow.reasons[int(made.classes[0, 0])]


def test_inputs_and_outputs_keep_their_scale():
    _, _, flow = _followed(Pair(), (1, 5))
    reasons = {site.tensor + " " + site.role: flow.reasons.get(int(site.classes[0, 0])) for site in flow.sites[:2]}
    assert reasons == {"first.weight sink": "it is an input of the network", "first.weight source": None}
    assert "output of the network" in flow.reasons[int(flow.sites[-2].classes[0, 0])]


def test_a_rotation_passes_norms_and_attention_but_nothing_that_looks_at_channels():
    model = model_of(Block(), (1, 4, 4))
    flow = follow(trace_as_written(model), model.network, RULES, rotates=True)
    free = {
        site.tensor
        for site in flow.sites
        if site.role != "sink" and all(one not in flow.reasons for one in site.classes.flatten().tolist())
    }
    stream = {"embed.weight", "embed.bias", "token", "places", "out.weight", "out.bias", "down.weight", "down.bias"}
    assert free == stream
    made = next(site for site in flow.sites if site.tensor == "up.weight" and site.role == "source")
    assert "relu" in flow.reasons[int(made.classes[0, 0])]
    assert [norm.gain for norm in flow.norms] == ["norm1.weight", "norm2.weight", "norm3.weight"]
    assert all(norm.centred for norm in flow.norms)
    assert [len(cell) for cell in flow.cells] == [4, 4]  # the values of each head
