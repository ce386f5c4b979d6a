"""Codes of weights where activations are no integers of a fixed grid: weight-only, dynamic, half and minifloat schemes.

Nothing is known here of any runtime: a format stores these codes as it can, and says which of them it computes with.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from edgekit.data.observers import Histogram, Seen
from edgekit.errors import PassError
from edgekit.nets.graph import tensor_of
from edgekit.nets.lstm import lstm_weights
from edgekit.nets.program import Program
from edgekit.nets.quantisation import HALVES, EdgeRange, QuantisationTable, WeightCodes
from edgekit.numerics.minifloat import least_error_scales, minifloat_scales, to_words
from edgekit.numerics.number import Half, Integer, Minifloat, find_number
from edgekit.numerics.quantise import channel_scales, encode
from edgekit.numerics.ranges import percentile_range
from edgekit.numerics.scales import group_scales, mse_channel_scales, mse_group_scales
from edgekit.passes.quantize.ranges import check_finite
from edgekit.passes.quantize.simulate import weighted
from edgekit.schema.passes import QuantizeOptions

_WITHOUT_EDGES = ("float", "dynamic", "fp16")


def needs_samples(options: QuantizeOptions) -> bool:
    """Whether anything of the table comes from calibration samples. What a half rounds away needs no correction."""
    corrected = options.bias_correction != "none" and not isinstance(find_number(options.weights), Half)
    return corrected or options.activations not in _WITHOUT_EDGES


def stored_table(program: Program, seen: Seen, options: QuantizeOptions) -> QuantisationTable:
    """Codes of every weight in the format of `options`, rounded to nearest; grids of activations for minifloats alone.

    Args:
        seen: of the calibration samples; empty where `needs_samples` says that none are needed.

    Raises:
        PassError: a weight is too large for its format, or an activation is not finite.
    """
    weights = {}
    for name, node in weighted(program).items():
        weight = tensor_of(program.module, node.args[1]).detach()  # type: ignore[arg-type]
        weights[program.weight_name(node)] = _codes(name, weight, options)
    if options.activations == "dynamic" and options.weights == "int8":
        weights |= _lstm_codes(program, options)
    means = {name: mean.mean for name, mean in seen.means.items()} if options.bias_correction != "none" else {}
    table = QuantisationTable({}, weights, means, activations=options.activations)
    if options.activations in _WITHOUT_EDGES:
        return table
    number = find_number(options.activations)
    assert isinstance(number, Minifloat)
    return replace(table, edges={name: _edge(name, h, number, options) for name, h in seen.histograms.items()})


def _codes(name: str, weight: Tensor, options: QuantizeOptions) -> WeightCodes:
    number = find_number(options.weights)
    by_error = options.weight_observer == "mse"
    if isinstance(number, Half):
        rounded = weight.to(HALVES[number.name])
        if not rounded.isfinite().all():
            raise PassError(
                f"the weight of {name!r} reaches {weight.abs().max().item():.4g}, which {number.name} cannot hold",
                "step quantize",
                "use bf16, or fold the scale of this layer into its neighbours",
            )
        return WeightCodes(rounded.view(torch.int16), torch.ones(1), 0, options.weights)
    if isinstance(number, Minifloat):
        scale = (least_error_scales if by_error else minifloat_scales)(weight, 0, number)
        words = to_words(weight, scale.reshape(-1, *[1] * (weight.dim() - 1)), number)
        return WeightCodes(words.view(torch.int8), scale, 0, options.weights)
    if options.group_size is not None:
        return _grouped(weight, number, options.group_size, options)
    scale = (mse_channel_scales if by_error else channel_scales)(weight, 0, number.qmax)
    codes = encode(weight, scale, 0, -number.qmax, number.qmax, 0)
    return WeightCodes(codes.to(torch.int8), scale, 0, options.weights)


def _lstm_codes(program: Program, options: QuantizeOptions) -> dict[str, WeightCodes]:
    """One scale for each row of each gate, whatever groups linear layers have: LSTM kernels know no others."""
    per_row = options.model_copy(update={"group_size": None})
    module = program.module
    return {name: _codes(name, module.get_buffer(name), per_row) for names in lstm_weights(program) for name in names}


def _grouped(weight: Tensor, number: Integer, group: int, options: QuantizeOptions) -> WeightCodes:
    scale = (mse_group_scales if options.weight_observer == "mse" else group_scales)(weight, group, number.qmax)
    flat = weight.flatten(1)
    spread = scale.repeat_interleave(group, 1)[:, : flat.shape[1]]
    codes = encode(flat, spread, 0, -number.qmax, number.qmax).to(torch.int8)
    return WeightCodes(codes.reshape(weight.shape), scale, 0, options.weights, group)


def _edge(name: str, seen: Histogram, number: Minifloat, options: QuantizeOptions) -> EdgeRange:
    """The symmetric grid of one activation: minifloats have a sign, and no zero point."""
    check_finite(name, seen.low, seen.high)
    magnitude = max(-seen.low, seen.high)
    if magnitude > 0 and options.observer == "percentile":
        low, high = percentile_range(seen.counts, seen.width, seen.low, seen.high, options.percentile)
        magnitude = max(-low, high)
    elif magnitude > 0 and options.observer == "mse":
        counts = torch.from_numpy(seen.counts).double()
        scale = least_error_scales(torch.from_numpy(seen.centres)[None], 0, number, counts)
        return EdgeRange(-magnitude, magnitude, scale.item(), 0, options.activations)
    scale = minifloat_scales(torch.tensor([magnitude]), None, number)
    return EdgeRange(-magnitude, magnitude, scale.item(), 0, options.activations)
