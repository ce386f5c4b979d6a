"""The quantize pass: calibration batches -> quantisation table. The float network stays as it is, and trainable."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from edgekit.data.observers import observe_ranges
from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.program import CONVOLUTIONS, LINEAR, Program, is_weight, tensor_of, trace
from edgekit.nets.quantisation import EdgeRange, QuantisationTable, WeightCodes
from edgekit.numerics.quantise import affine_grid, channel_scales, encode
from edgekit.passes.context import Context
from edgekit.schema.passes import QuantizeOptions

logger = logging.getLogger(__name__)

CALIBRATION_BATCH = 32
WEIGHT_MAX = 127  # -128 is left out: the grid stays symmetric, and two's complement has no code for +128
BIAS_MAX = 2**30  # half of int32, the other half is left to the sum of products


def quantize(model: Model, options: QuantizeOptions, context: Context) -> Model:
    """Add a quantisation table to `model`: min-max ranges of activations, per-channel codes of weights.

    Raises:
        PassError: the calibration split is empty, or an activation is not finite.
    """
    samples = context.splits.calibration
    if options.samples is not None:
        samples = samples.head(options.samples)
    ranges = _observe(model, samples, context)
    edges = {}
    for name, (low, high) in ranges.items():
        if not (abs(low) < float("inf") and abs(high) < float("inf")):
            raise PassError(
                f"activation {name!r} has the range [{low}, {high}]",
                "step quantize",
                "the network overflows on its calibration samples; check its weights and the preprocessing",
            )
        scale, zero_point = affine_grid(low, high, -128, 127)
        edges[name] = EdgeRange(low, high, scale, zero_point)
    table = QuantisationTable(edges, _weights(trace(model), edges))
    logger.info("quantised %d activations and %d weights on %d samples", len(edges), len(table.weights), len(samples))
    return replace(model, history=(*model.history, "quantize"), table=table)


def _observe(model: Model, samples: Samples, context: Context) -> dict[str, tuple[float, float]]:
    if len(samples) == 0:
        raise PassError("the calibration split is empty", "step quantize", "give it samples: calib file, `calibration`")
    ranges: dict[str, tuple[float, float]] = {}
    full = len(samples) // CALIBRATION_BATCH * CALIBRATION_BATCH
    # a program has a fixed batch, so what does not fill one is traced and run by itself
    for start, stop, batch in ((0, full, CALIBRATION_BATCH), (full, len(samples), len(samples) - full)):
        if start == stop:
            continue
        program = trace(model, batch)
        names = {node.name: name for node, name in program.names.items()}
        batches = ((samples.inputs[i : i + batch],) for i in range(start, stop, batch))
        for name, (low, high) in observe_ranges(program.module, names, batches).items():
            seen_low, seen_high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (float(np.minimum(low, seen_low)), float(np.maximum(high, seen_high)))
        context.progress(stop, len(samples), "calibrating")
    return ranges


def _weights(program: Program, edges: dict[str, EdgeRange]) -> dict[str, WeightCodes]:
    """Codes of every stored weight, rounded to nearest, one scale per output channel.

    A channel whose weights are almost zero beside its bias gets a larger scale than its weights ask for: biases are
    int32 codes of scale s_input * s_weight, and would overflow.
    """
    found = {}
    for node in program.names:
        if node.op != "call_function" or node.target not in CONVOLUTIONS | LINEAR or not is_weight(node.args[1]):
            continue
        weight = tensor_of(program.module, node.args[1])  # type: ignore[arg-type]
        scale = channel_scales(weight, 0, WEIGHT_MAX)
        bias = node.args[2] if len(node.args) > 2 else None
        if is_weight(bias):
            (source, *_) = node.all_input_nodes
            smallest = tensor_of(program.module, bias).abs() / (edges[program.names[source]].scale * BIAS_MAX)  # type: ignore[arg-type]
            scale = torch.maximum(scale, smallest)
        codes = encode(weight, scale, 0, -WEIGHT_MAX, WEIGHT_MAX, 0)
        found[program.weight_name(node)] = WeightCodes(codes.to(torch.int8), scale, 0)
    return found
