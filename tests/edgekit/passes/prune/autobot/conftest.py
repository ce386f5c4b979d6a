"""Networks whose channels meet on the way from the layer that makes them to the layers that read them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.nets.cifar_resnet import resnet20
from edgekit.nets.mlperf_tiny import ds_cnn
from edgekit.nets.mobilenet import mobilenet_v2
from edgekit.nets.repvgg import repvgg_digits
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


@pytest.fixture(params=sorted(NETWORKS))
def model(request, make_model, train_norms):
    """Each network in turn, with random weights and norms away from their defaults."""
    factory, shape = NETWORKS[request.param]
    torch.manual_seed(4)
    return make_model(train_norms(factory()), shape)


@pytest.fixture
def draw_cut():
    """`draw_cut(model)`: groups, and for each at random a mask (width,) of the channels that stay, never none."""

    def draw(model, seed=0):
        groups = find_groups(model).groups
        generator = torch.Generator().manual_seed(seed)
        masks = {group.root: torch.rand(group.width, generator=generator) < 0.5 for group in groups}
        for mask in masks.values():
            mask[0] = True
        return groups, masks

    return draw
