"""How large a network is and how much it computes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.nets.graph import LINEAR, aten, value_of
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.nets.recurrent import recurrent_network


def count_params(network: nn.Module) -> int:
    """Numbers in all parameters, each counted once; fixed ones too, since they are stored like the others."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(model: Model) -> int:
    """Multiply-accumulates of convolutions and products of matrices in one run at batch 1.

    That is linear layers, LSTM, GRU, and both products of attention. Nothing else counts: no bias, norm, activation,
    pooling, nor products number by number. Every convolution counts as it runs, so the fixed 1x1 shortcuts of
    `nets/cifar_resnet.py` count too. A layer that runs twice counts twice. A recurrent network of ours counts over its
    whole sequence, but for products with the zeros that its states begin as.
    """
    if recurrent_network(model) is not None:
        return _count_over_time(model)
    was_training, fast_path = model.network.training, torch.backends.mha.get_fastpath_enabled()
    counter = FlopCounterMode(display=False, custom_mapping=_OPERATIONS)
    trained = [parameter for parameter in model.network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:  # torch's counter follows gradients of what modules are given, such as a weight
            parameter.requires_grad_(False)
        model.network.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # one operator for all of attention, which nothing counts
        with counter, torch.no_grad():
            model.network(*model.example())
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model.network.train(was_training)
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return int(counter.get_total_flops()) // 2


def _count_over_time(model: Model) -> int:
    """Every step after the first one computes the same, so three steps say what any number of them does."""
    (sequence,) = model.inputs
    batch, length, *rest = sequence.shape
    two, three = (_count_traced(_with_steps(model, (batch, steps, *rest))) for steps in (2, 3))
    return two + (length - 2) * (three - two) if length > 1 else _count_traced(model)


def _with_steps(model: Model, shape: tuple[int, ...]) -> Model:
    inputs = (model.inputs[0].model_copy(update={"shape": shape}),)
    return replace(model, source=model.source.model_copy(update={"inputs": inputs}))


def _count_traced(model: Model) -> int:
    program = trace(model)
    layers = [node for node in program.names if node.op == "call_function" and node.target in LINEAR]
    return sum(value_of(node).numel() * value_of(node.all_input_nodes[0]).shape[-1] for node in layers)


def _recurrent_operations(
    x: Sequence[int], of_input: Sequence[int], of_state: Sequence[int], *_: Any, **__: Any
) -> int:
    """Two for every multiply-accumulate of one LSTM layer over x (T, N, C); all are shapes."""
    steps, batch, inputs = x
    return 2 * steps * batch * of_input[0] * (inputs + of_state[1])


def _attention_operations(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    """Two for every multiply-accumulate of both products; all are shapes, (..., tokens, channels)."""
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


# what torch's own counter leaves out, by operator
_OPERATIONS = {
    aten.mkldnn_rnn_layer: _recurrent_operations,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention_operations,
}
