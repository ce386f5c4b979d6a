"""Cutting groups of every kind: what a cut network answers, counts and exports to."""

import copy
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from edgekit.formats.onnx.export import export_onnx
from edgekit.nets.edits import apply_edits
from edgekit.nets.load import build, find_outputs
from edgekit.nets.model import Model
from edgekit.nets.saved import save_model
from edgekit.nets.vit import VisionTransformer
from edgekit.passes.prune.cut import keep_edits
from edgekit.passes.prune.groups import find_groups
from edgekit.passes.prune.heads import open_attention
from edgekit.passes.prune.widths import group_widths
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from examples.pixel_mamba.net import Mamba
from tests import nets


class FusedAttention(nn.Module):
    """As vision libraries write it: queries, keys and values of one layer, sizes as attributes, a scale at the end."""

    def __init__(self, width=12, heads=3, head_dim=4):
        super().__init__()
        self.num_heads, self.head_dim = heads, head_dim
        self.attn_dim = heads * head_dim
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * self.attn_dim)
        self.proj = nn.Linear(self.attn_dim, width)
        self.gamma = nn.Parameter(0.3 + torch.rand(width))

    def forward(self, x):
        samples, tokens, _ = x.shape
        qkv = self.qkv(self.norm(x)).reshape(samples, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        chances = (q * self.head_dim**-0.5 @ k.transpose(-2, -1)).softmax(-1)
        return x + self.gamma * self.proj((chances @ v).transpose(1, 2).reshape(samples, tokens, self.attn_dim))


class Fused(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 12)
        self.block = FusedAttention()
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.block(self.embed(x)).mean(1))


class GroupedQueries(nn.Module):
    """Two heads of queries read one of keys and values; rotary positions; a gated hidden layer behind an RMS norm."""

    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(6, 16, bias=False)
        self.k_proj = nn.Linear(6, 8, bias=False)
        self.v_proj = nn.Linear(6, 8, bias=False)
        self.o_proj = nn.Linear(16, 10)
        self.norm = nn.RMSNorm(10)
        self.gate_proj = nn.Linear(10, 14)
        self.up_proj = nn.Linear(10, 14)
        self.down_proj = nn.Linear(14, 3)
        self.register_buffer("angles", torch.rand(7, 4))

    def forward(self, x):
        q, k, v = (
            layer(x).view(len(x), x.shape[1], -1, 4).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (one * self.angles.cos() + self._turned(one) * self.angles.sin() for one in (q, k))
        k, v = (one[:, :, None].expand(-1, -1, 2, -1, -1).reshape(len(x), -1, *one.shape[2:]) for one in (k, v))
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.norm(self.o_proj(out)).mean(1)
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

    @staticmethod
    def _turned(x):
        return torch.cat([-x[..., 2:], x[..., :2]], -1)


class Layers(nn.Module):
    """Convolutions along time, in groups, transposed; norms of several kinds; PReLU."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv1d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm1d(8)
        self.depthwise = nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.b = nn.Conv1d(8, 12, 1)
        self.group_norm = nn.GroupNorm(3, 12)
        self.c = nn.Conv1d(12, 8, 1)
        self.grouped = nn.Conv1d(8, 8, 3, padding=1, groups=2)
        self.prelu = nn.PReLU(8, 0.3)
        self.up = nn.ConvTranspose1d(8, 6, 2, 2)
        self.plain_norm = nn.InstanceNorm1d(6)
        self.fc = nn.Linear(6, 2)

    def forward(self, x):
        x = F.relu(self.depthwise(self.norm(self.a(x.transpose(1, 2)))))
        x = self.prelu(self.grouped(self.c(self.group_norm(self.b(x)))))
        return self.fc(self.plain_norm(self.up(x)).square().amax(2))


class Recurrent(nn.Module):
    """PyTorch's own recurrent layers over a table of words."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 6)
        self.lstm = nn.LSTM(6, 5, 2, batch_first=True)
        self.gru = nn.GRU(5, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, words):
        x = self.lstm(self.table(words))[0]
        return self.fc(self.gru(x.transpose(0, 1))[1][-1])


class Space(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.mamba = Mamba(8, 6, states=4, rank=2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(self.mamba(self.embed(x)).mean(1))


def _vit():
    return VisionTransformer(3, "gelu", True, width=12, depth=1, heads=3, hidden=10, patch=4, image=8, dropout=0.0)


NETWORKS = {
    "vit": (_vit, InputSpec(name="x", shape=(1, 3, 8, 8))),
    "fused": (Fused, InputSpec(name="x", shape=(1, 7, 5), layout="NTC")),
    "grouped queries": (GroupedQueries, InputSpec(name="x", shape=(1, 7, 6), layout="NTC")),
    "layers": (Layers, InputSpec(name="x", shape=(1, 8, 3), layout="NTC")),
    "recurrent": (Recurrent, InputSpec(name="x", shape=(1, 6), dtype="int64", layout="NT")),
    "space": (Space, InputSpec(name="x", shape=(1, 9, 3), layout="NTC")),
}


@pytest.fixture(scope="module", params=[*NETWORKS, "lstm cell", "gru cell"])
def found(request):
    """A model whose attention is open, and its groups."""
    if request.param.endswith("cell"):
        model = nets.recurrent(request.param.split()[0], steps=6)
    else:
        factory, spec = NETWORKS[request.param]
        torch.manual_seed(3)
        network = factory().eval()
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm1d):
                nn.init.uniform_(norm.running_var, 0.5, 2)
        model = Model(network, ModelSource(factory="tests:made", inputs=(spec,)), ())
    model = open_attention(model)
    return request.param, model, {group.root: group for group in find_groups(model).groups}


EXPECTED = {  # width, channels of a layer that one is, exact
    "vit": {
        "patch_embed.proj": (12, 1, False),
        "transformer.layers.0.self_attn.q_proj": (3, 4, True),
        "transformer.layers.0.linear1": (10, 1, True),
    },
    "fused": {"embed": (12, 1, False), "block.qkv": (3, 4, True)},
    "grouped queries": {"q_proj": (2, 4, True), "o_proj": (10, 1, False), "gate_proj": (14, 1, True)},
    "layers": {"a": (8, 1, True), "b": (3, 4, True), "c": (4, 2, True), "grouped": (4, 2, True), "up": (6, 1, True)},
    "recurrent": {"table": (6, 1, True), "lstm": (5, 1, True), "gru": (4, 1, True)},
    "space": {
        "embed": (8, 1, True),
        "mamba.in_proj": (6, 1, True),
        "mamba.x_proj": (2, 1, True),
        "mamba.out_proj": (8, 1, True),
    },
    "lstm cell": {"lstm": (5, 1, True)},
    "gru cell": {"gates": (5, 1, True)},
}


def test_groups_are_the_units_that_can_go(found):
    name, _, groups = found
    assert {root: (group.width, group.unit_size, group.exact) for root, group in groups.items()} == EXPECTED[name]


def _cut(model, groups):
    """Every group without its second unit, and the fourth."""
    removed = {root: tuple(range(1, min(group.width, 4), 2)) for root, group in groups.items()}
    edits = keep_edits(model, list(groups.values()), removed)
    return removed, edits, model.with_(apply_edits(model.network, edits), "prune", edits)


class _NormOf(nn.Module):
    """A norm over the last axis that knows only the channels that are left."""

    def __init__(self, norm, kept):
        super().__init__()
        self.norm, self.kept = norm, kept

    def forward(self, x):
        own = copy.deepcopy(self.norm)
        own.normalized_shape = (len(self.kept),)
        for name, tensor in list(own.named_parameters()):
            setattr(own, name, nn.Parameter(tensor[self.kept]))
        made = torch.zeros_like(x)
        made[..., self.kept] = own(x[..., self.kept])
        return made


def _silenced(model, groups, removed):
    """The whole network, in which nothing reads what is cut, nor norms it."""
    network = copy.deepcopy(model.network)
    tensors = dict(network.named_parameters())
    for root, group in groups.items():
        for member in group.members:
            gone = [index for channel in removed[root] for index in member.channels[channel]]
            layer = dict(network.named_modules()).get(member.layer)
            if member.side == "in":
                tensor = tensors.get(member.layer, tensors.get(f"{member.layer}.weight"))
                with torch.no_grad():
                    tensor.index_fill_(member.axis, torch.tensor(gone), 0)
            elif isinstance(layer, nn.LayerNorm | nn.RMSNorm):
                kept = [index for index in range(layer.weight.numel()) if index not in gone]
                path, _, leaf = member.layer.rpartition(".")
                setattr(network.get_submodule(path), leaf, _NormOf(layer, kept))
    return network


def test_a_cut_network_is_the_network_in_which_nothing_reads_what_is_cut(found):
    _, model, groups = found
    removed, _, pruned = _cut(model, groups)
    silenced = _silenced(model, groups, removed)
    for batch in (1, 2, 3):
        inputs = model.example(batch, seed=batch)
        with torch.no_grad():
            made, expected, before = (network(*inputs) for network in (pruned.network, silenced, model.network))
        assert made.shape == before.shape
        assert not torch.allclose(expected, before, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


LEFT = {  # parameters of the network without two units of every group, or one of those of two or three
    # positions and class token of 10; patches; q, k, v of 2 heads and what puts them together; 8 hidden; 3 norms; head
    "vit": 6 * 10 + 10 * 49 + 3 * (10 * 8 + 8) + 8 * 10 + 10 + (10 * 8 + 8) + (8 * 10 + 10) + 3 * 20 + 33,
    "fused": 10 * 6 + 20 + (10 * 24 + 24) + (8 * 10 + 10) + 10 + 33,
    "grouped queries": 6 * (8 + 4 + 4) + 8 * 8 + 8 + 8 + 2 * (8 * 12 + 12) + 12 * 3 + 3,
    # a 3 -> 6, norm, depthwise; b 6 -> 8, its norm; c 8 -> 4; two groups of 2 -> 2; PReLU; up 4 -> 4; head
    "layers": (6 * 9 + 6) + 12 + (18 + 6) + 56 + 16 + 36 + (4 * 6 + 4) + 4 + (4 * 4 * 2 + 4) + 10,
    "recurrent": 4 * 4 + (12 * (4 + 3) + 24) + (12 * 6 + 24) + (6 * (3 + 2) + 12) + 9,
    # in 6 -> 8, convolution, x 4 -> 1 + 8, steps 1 -> 4, A, D, out 4 -> 6
    "space": (3 * 6 + 6) + 48 + 20 + 36 + 8 + 16 + 4 + 24 + 21,
    "lstm cell": 12 * (3 + 3) + 24 + 16,
    "gru cell": 6 * 6 + 6 + 3 * 6 + 3 + 16,
}


def test_parameters_by_hand(found):
    name, model, groups = found
    _, _, pruned = _cut(model, groups)
    assert sum(parameter.numel() for parameter in pruned.network.parameters()) == LEFT[name]


@pytest.mark.parametrize("name", ["vit", "fused", "recurrent", "space"])
def test_the_exported_network_answers_the_same(name, tmp_path):
    factory, spec = NETWORKS[name]
    torch.manual_seed(5)
    network, source = factory().eval(), ModelSource(factory="tests:made", inputs=(spec,))
    model = open_attention(Model(network, source, find_outputs(network, source)))
    _, _, pruned = _cut(model, {group.root: group for group in find_groups(model).groups})
    path = export_onnx(pruned, "onnxruntime-arm", tmp_path, "cut", Export(batch=2)).path
    inputs = pruned.example(2, seed=3)
    with torch.no_grad():
        expected = pruned.network(*inputs)
    (made,) = onnxruntime.InferenceSession(path).run(None, {"x": inputs[0].numpy()})
    np.testing.assert_allclose(made, expected.numpy(), rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_edits_of_every_kind_replayed_in_a_new_process_give_the_same_bits(tmp_path):
    vit = {"classes": 3, "activation": "relu", "norm_first": False, "width": 12, "depth": 1, "heads": 3, "hidden": 10}
    kinds = set()
    for name, factory, arguments, spec in (
        ("vit", "edgekit.nets.vit:VisionTransformer", vit, InputSpec(name="x", shape=(1, 3, 32, 32))),
        (
            "gru",
            "edgekit.nets.keyword_rnn:keyword_gru",
            {"units": 6},
            InputSpec(name="x", shape=(1, 4, 10), layout="NTC"),
        ),
    ):
        model = open_attention(build(ModelSource(factory=factory, arguments=arguments, inputs=(spec,))))
        _, _, pruned = _cut(model, {group.root: group for group in find_groups(model).groups})
        kinds |= {edit.kind for edit in pruned.edits}
        save_model(pruned, tmp_path / name)
        x = pruned.example(2)[0]
        with torch.no_grad():
            save_file({"x": x, "y": pruned.network(x)}, tmp_path / f"{name}.feeds")
    assert kinds == {"keep", "keep_of_tensor", "resize", "open"}
    code = """
import sys, torch
from pathlib import Path
from safetensors.torch import load_file
from edgekit.nets.saved import load_model
folder = Path(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
for name in ("vit", "gru"):
    feeds = load_file(folder / f"{name}.feeds")
    with torch.no_grad():
        print(torch.equal(load_model(folder / name).network(feeds["x"]), feeds["y"]))
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


class _Chance(nn.Module):
    """Numbers that are as large as the heads are by chance, and one that a size is written into."""

    def __init__(self):
        super().__init__()
        self.heads, self.repeats, self.head_dim = 3, 3, 3
        self.q, self.k, self.v = (nn.Linear(5, 9) for _ in range(3))
        self.out = nn.Linear(9, 4)
        self.fixed = nn.Linear(4, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        q, k, v = (
            layer(x).view(len(x), -1, self.heads, self.head_dim).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        x = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        for _ in range(self.repeats):
            x = x.tanh()
        return self.last(self.fixed(x).mean(1).reshape(-1, 6).relu())


def test_numbers_that_are_as_large_by_chance_stay_and_sizes_in_code_keep_their_channels():
    torch.manual_seed(0)
    spec = InputSpec(name="x", shape=(1, 4, 5), layout="NTC")
    model = Model(_Chance().eval(), ModelSource(factory="tests:made", inputs=(spec,)), ())
    found = find_groups(model)
    (heads,) = (group for group in found.groups if group.root == "q")
    assert [size.attribute for size in heads.sizes] == ["heads"]
    assert found.left["fixed"].startswith("the network does not run without some of its channels")
    edits = keep_edits(model, [heads], {"q": (0, 2)})
    assert edits[-1].model_dump() == {"kind": "resize", "layer": "", "attribute": "heads", "size": 1}


def test_a_group_has_the_widths_that_the_target_fills(found):
    name, _, groups = found
    if name == "vit":
        heads = groups["transformer.layers.0.self_attn.q_proj"]
        assert group_widths(heads, 1, 0.1) == group_widths(heads, 4, 0.1) == [3, 2, 1]
        assert group_widths(heads, 8, 0.1) == [3, 2]
        assert group_widths(heads, 4, 0.5) == [3, 2]
        assert group_widths(groups["patch_embed.proj"], 4, 0.25) == [12, 8, 4]
