"""Networks whose channels meet on the way from the layer that makes them to the layers that read them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.nets.cifar_resnet import resnet20
from edgekit.nets.mlperf_tiny import ds_cnn
from edgekit.nets.mobilenet import mobilenet_v2
from edgekit.nets.repvgg import repvgg_digits
from edgekit.passes.prune.autobot.gates import why_not_gated
from edgekit.passes.prune.groups import find_groups


class Mixed(nn.Module):
    """Concatenation, an activation with f(0) != 0, excitation by a product, depthwise, and a flattened map."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, 1, 1)
        self.b = nn.Conv2d(8, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(16)
        self.squeeze = nn.Linear(16, 4)
        self.excite = nn.Linear(4, 16)
        self.depthwise = nn.Conv2d(16, 16, 3, 2, 1, groups=16)
        self.c = nn.Conv2d(16, 6, 1)
        self.d = nn.Linear(6 * 4, 12)
        self.e = nn.Linear(in_features=12, out_features=4)

    def forward(self, x):
        a = torch.sigmoid(self.a(x))
        x = self.norm(torch.cat([F.max_pool2d(a, 2), self.b(a)], 1))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))[..., None, None]
        x = F.gelu(self.c(torch.sigmoid(self.depthwise(x))))
        return self.e(input=torch.cos(self.d(x.flatten(1))))


NETWORKS = {
    "mixed": (Mixed, (1, 1, 8, 8)),
    "resnet20": (resnet20, (1, 3, 32, 32)),
    "repvgg": (repvgg_digits, (1, 1, 8, 8)),
    "ds_cnn": (ds_cnn, (1, 1, 49, 10)),
    "mobilenet_v2": (lambda: mobilenet_v2(0.25, 10), (1, 3, 32, 32)),
}


class Attention(nn.Module):
    """Four heads out of one layer, then two layers around an activation, in a residual stream with norms."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv1d(1, 12, 4, stride=4)
        self.norm = nn.LayerNorm(12)
        self.qkv = nn.Linear(12, 3 * 16)
        self.project = nn.Linear(16, 12)
        self.wide = nn.Linear(12, 20)
        self.narrow = nn.Linear(20, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = self.embed(x).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, -1, 4)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        x = x + self.narrow(torch.cos(self.wide(x)))
        return self.head(x.mean(1))


NETWORKS["attention"] = (Attention, (1, 1, 32))

_GROUPS = {}  # found once for each network: each is tried by running it


@pytest.fixture(params=sorted(NETWORKS))
def model(request, make_model, train_norms):
    """Each network in turn, with random weights and norms away from their defaults."""
    factory, shape = NETWORKS[request.param]
    torch.manual_seed(4)
    return make_model(train_norms(factory()), shape)


@pytest.fixture
def groups(request, model):
    """The groups of `model` that gates can stand for."""
    name = request.node.callspec.params["model"]
    if name not in _GROUPS:
        found = find_groups(model).groups
        _GROUPS[name] = [group for group in found if why_not_gated(group, model.network) is None]
    return _GROUPS[name]


@pytest.fixture
def draw_cut(groups):
    """`draw_cut()`: of each group, at random, a mask (width,) of the channels that stay, never none."""

    def draw(seed=0):
        generator = torch.Generator().manual_seed(seed)
        masks = {group.root: torch.rand(group.width, generator=generator) < 0.5 for group in groups}
        for mask in masks.values():
            mask[0] = True
        return masks

    return draw
