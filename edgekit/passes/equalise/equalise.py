"""The equalise pass: scales are moved between layers, or channels mixed, so that rounding loses less.

Only weights change, and the float function does not: it is the network that every later step works on.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping

import torch
from torch import nn

from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.program import trace_as_written
from edgekit.passes.context import Context
from edgekit.passes.equalise.absorb_bias import absorb_bias
from edgekit.passes.equalise.awq import awq
from edgekit.passes.equalise.cross_layer import cross_layer
from edgekit.passes.equalise.flow import follow
from edgekit.passes.equalise.hadamard import hadamard
from edgekit.passes.equalise.proof import prove
from edgekit.passes.equalise.rules import RULES
from edgekit.passes.equalise.smooth import smooth
from edgekit.passes.equalise.task import Method, Task, Tensors
from edgekit.passes.equality import check_network
from edgekit.passes.reparam import reparam
from edgekit.schema.passes import EqualiseOptions, ReparamOptions

logger = logging.getLogger(__name__)

METHODS: Mapping[str, Method] = {
    "cross_layer": cross_layer,
    "smooth": smooth,
    "awq": awq,
    "hadamard": hadamard,
    "absorb_bias": absorb_bias,
}


def equalise(model: Model, options: EqualiseOptions, context: Context) -> Model:
    """The same function with weights and activations that are easier to round. Batch norms are folded first.

    After every method each activation is what it was, times the factor it was given, to 1e-9 in float64; at the end
    the network gives what it gave, to `options.tolerance` in float32. `absorb_bias` is held to that on calibration
    samples only, and the history says so. Layers that are left as they are, are logged with the reason.

    Raises:
        PassError: an output or activation changed; or a method needs calibration samples, and there are none.
    """
    folded = reparam(model, ReparamOptions(tolerance=options.tolerance), context)
    program = trace_as_written(folded)
    task = Task(folded, program, follow(program, folded.network, RULES), options, context)
    tensors: Tensors = {name: t.detach().double() for name, t in folded.network.state_dict().items()}
    always = True
    for name in options.methods:
        rewrite = METHODS[name](task, tensors)
        prove(task, tensors, rewrite, name)
        for layer, reason in rewrite.left.items():
            logger.info("equalise: %s leaves %s: %s", name, layer, reason)
        logger.info("equalise: %s changed %d activations", name, len(rewrite.factors))
        tensors, always = rewrite.tensors, always and rewrite.always
    network = _with_tensors(folded.network, tensors)
    exact = copy.deepcopy(folded.network).double()
    check_network(
        folded,
        network,
        exact,
        _with_tensors(exact, tensors),
        context,
        "equalise",
        options.tolerance,
        random_inputs=always,
    )
    return folded.with_(network, "equalise" if always else "equalise, exact on calibration samples only")


def _with_tensors(network: nn.Module, tensors: Tensors) -> nn.Module:
    """A copy of `network` that holds `tensors`.

    Raises:
        PassError: one is not finite in the network's precision.
    """
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for name, own in copied.state_dict().items():
            own.copy_(tensors[name])
            if own.is_floating_point() and not own.isfinite().all():
                raise PassError(
                    f"{name} is not finite after its channels were scaled",
                    "step equalise",
                    "its ranges differ too much for float32: drop the method that scaled it",
                )
    return copied
