"""Codes of weights, rounded to nearest: the table that every other rounding starts from."""

from __future__ import annotations

import torch

from edgekit.nets.graph import CONVOLUTIONS, LINEAR, is_weight, tensor_of
from edgekit.nets.program import Program
from edgekit.nets.quantisation import EdgeRange, WeightCodes
from edgekit.numerics.number import parse_number
from edgekit.numerics.quantise import channel_scales, encode
from edgekit.numerics.scales import mse_channel_scales
from edgekit.schema.passes import QuantizeOptions

BIAS_MAX = 2**30  # half of int32, the other half is left to the sum of products


def nearest_codes(program: Program, edges: dict[str, EdgeRange], options: QuantizeOptions) -> dict[str, WeightCodes]:
    """Codes of every stored weight, one scale per output channel.

    The smallest code of the format is left out: the grid stays symmetric, and int8 has no code for +128.
    A channel whose weights are almost zero beside its bias gets a larger scale than its weights ask for: biases are
    int32 codes of scale s_input * s_weight, and would overflow.
    """
    found: dict[str, WeightCodes] = {}
    largest = parse_number(options.weights).qmax
    scales = mse_channel_scales if options.weight_observer == "mse" else channel_scales
    for node in program.names:
        if node.op != "call_function" or node.target not in CONVOLUTIONS | LINEAR or not is_weight(node.args[1]):
            continue
        weight = tensor_of(program.module, node.args[1])  # type: ignore[arg-type]
        scale = scales(weight, 0, largest)
        bias = node.args[2] if len(node.args) > 2 else None
        if is_weight(bias):
            (source, *_) = node.all_input_nodes
            smallest = tensor_of(program.module, bias).abs() / (edges[program.edge_name(source)].scale * BIAS_MAX)  # type: ignore[arg-type]
            scale = torch.maximum(scale, smallest)
        if program.weight_name(node) in found:  # one weight of several layers has one scale
            scale = torch.maximum(scale, found[program.weight_name(node)].scale)
        codes = encode(weight, scale, 0, -largest, largest, 0)
        found[program.weight_name(node)] = WeightCodes(codes.to(torch.int8), scale, 0, options.weights)
    return found
