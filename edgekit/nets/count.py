"""How large a network is and how much it computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgekit.nets.graph import LINEAR, value_of
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.nets.recurrent import recurrent_network

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)


def count_params(network: nn.Module) -> int:
    """Numbers in all parameters, each counted once; fixed ones too, since they are stored like the others."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(model: Model) -> int:
    """Multiply-accumulates of convolutions and linear layers in one run at batch 1.

    Nothing else counts: no bias, norm, activation, pooling, nor products of two activations. Every convolution counts
    as it runs, so the fixed 1x1 shortcuts of `nets/cifar_resnet.py` count too. A layer that runs twice counts twice.
    A recurrent network counts over its whole sequence, but for products with the zeros that its states begin as.
    """
    if recurrent_network(model) is not None:
        program = trace(model)
        layers = [node for node in program.names if node.op == "call_function" and node.target in LINEAR]
        return sum(value_of(node).numel() * value_of(node.all_input_nodes[0]).shape[-1] for node in layers)
    total = 0

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, Tensor)
        if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            total += inputs[0].numel() * weight[0].numel()  # every input meets (C_out / groups) kernels
        else:
            total += output.numel() * weight[0].numel()  # every output sums over one filter

    handles: list[RemovableHandle] = []
    was_training = model.network.training
    try:
        handles += [m.register_forward_hook(add) for m in model.network.modules() if isinstance(m, _LAYERS)]
        model.network.eval()
        with torch.no_grad():
            model.network(*model.example())
    finally:
        model.network.train(was_training)
        for handle in handles:
            handle.remove()
    return total
