"""Networks that are hard to quantise, made from ordinary ones by exact rescaling: the float function stays."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor

from edgekit.nets.model import Model
from edgekit.nets.program import trace_as_written
from edgekit.passes.context import Context
from edgekit.passes.equalise.flow import follow
from edgekit.passes.equalise.regions import Region, find_regions, one_but, scaled
from edgekit.passes.equalise.rules import RULES
from edgekit.passes.reparam import reparam
from edgekit.schema.passes import ReparamOptions

Kind = Literal["alternating", "random", "outliers"]
KINDS: tuple[Kind, ...] = ("alternating", "random", "outliers")
OUTLIER_RATIO = 1 / 16


def harden(model: Model, kind: Kind, context: Context, factor: float = 50.0, seed: int = 0) -> Model:
    """`model`, batch norms folded, with every channel that can be scaled multiplied by up to `factor`.

    What makes a channel is multiplied, and what reads it divided. So activations get channels of very different range,
    which one grid for all of them cannot hold, and the function stays, to the rounding of float32.

    Args:
        kind: `alternating`: channels times `factor` and 1 / `factor` by turns; `random`: times factor^u, u uniform in
            [-1, 1]; `outliers`: every 16th channel, drawn at random, times `factor`.
    """
    folded = reparam(model, ReparamOptions(), context)
    flow = follow(trace_as_written(folded), folded.network, RULES)
    draw = torch.Generator().manual_seed(seed)
    tensors = {name: tensor.detach().double() for name, tensor in folded.network.state_dict().items()}
    for region in find_regions(flow):
        factors = torch.ones(flow.count, dtype=torch.float64)
        factors[region.classes] = _factors(kind, region, factor, draw)
        tensors = scaled(tensors, region.sites, one_but(region, factors))
    network = copy.deepcopy(folded.network)
    network.load_state_dict(tensors)
    return folded.with_(network, f"harden {kind} x{factor:g}")


def _factors(kind: Kind, region: Region, factor: float, draw: torch.Generator) -> Tensor:
    count = len(region.classes)
    if kind == "alternating":
        return torch.tensor([factor, 1 / factor], dtype=torch.float64).repeat(-(-count // 2))[:count]
    if kind == "random":
        return factor ** (2 * torch.rand(count, generator=draw, dtype=torch.float64) - 1)
    chosen = torch.randperm(count, generator=draw)[: max(1, round(count * OUTLIER_RATIO))]
    factors = torch.ones(count, dtype=torch.float64)
    factors[chosen] = factor
    return factors
