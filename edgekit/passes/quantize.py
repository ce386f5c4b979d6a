"""The quantize pass: calibration batches -> quantisation table. The float network stays as it is, and trainable."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from edgekit.data.observers import Seen, observe
from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.graph import CONVOLUTIONS, LINEAR, is_weight, tensor_of
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import EdgeRange, QuantisationTable, WeightCodes
from edgekit.numerics.quantise import affine_grid, channel_scales, encode
from edgekit.numerics.ranges import mse_range
from edgekit.passes.context import Context
from edgekit.schema.passes import QuantizeOptions

logger = logging.getLogger(__name__)

CALIBRATION_BATCH = 32
QMIN, QMAX = -128, 127
WEIGHT_MAX = 127  # -128 is left out: the grid stays symmetric, and two's complement has no code for +128
BIAS_MAX = 2**30  # half of int32, the other half is left to the sum of products


def quantize(model: Model, options: QuantizeOptions, context: Context) -> Model:
    """Add a quantisation table to `model`: ranges of activations, per-channel codes of weights, means of inputs.

    Raises:
        PassError: the calibration split is empty, the network has several inputs, or an activation is not finite.
    """
    samples = context.splits.calibration
    if options.samples is not None:
        samples = samples.head(options.samples)
    seen = _observe(model, samples, context)
    edges = {}
    for name, histogram in seen.histograms.items():
        low, high = histogram.low, histogram.high
        if not (np.isfinite(low) and np.isfinite(high)):
            raise PassError(
                f"activation {name!r} has the range [{low}, {high}]",
                "step quantize",
                "the network overflows on its calibration samples; check its weights and the preprocessing",
            )
        if options.observer == "mse":
            low, high = mse_range(histogram.centres, histogram.counts, low, high, QMIN, QMAX)
        edges[name] = EdgeRange(low, high, *affine_grid(low, high, QMIN, QMAX))
    means = {name: mean.mean for name, mean in seen.means.items()} if options.bias_correction else {}
    table = QuantisationTable(edges, _weights(trace(model), edges), means)
    logger.info("quantised %d activations and %d weights on %d samples", len(edges), len(table.weights), len(samples))
    return replace(model, history=(*model.history, "quantize"), table=table)


def _observe(model: Model, samples: Samples, context: Context) -> Seen:
    if len(samples) == 0:
        raise PassError("the calibration split is empty", "step quantize", "give it samples: calib file, `calibration`")
    if len(model.inputs) != 1:
        raise PassError(
            f"the network has {len(model.inputs)} inputs, and calibration samples have one",
            "step quantize",
            "wrap the network so that it takes one input",
        )
    seen = Seen()
    full = len(samples) // CALIBRATION_BATCH * CALIBRATION_BATCH
    # a program has a fixed batch, so what does not fill one is traced and run by itself
    for start, stop, batch in ((0, full, CALIBRATION_BATCH), (full, len(samples), len(samples) - full)):
        if start == stop:
            continue
        program = trace(model, batch)
        for index in range(start, stop, batch):
            observe(program, [(samples.inputs[index : index + batch],)], seen)
            context.progress(index + batch, len(samples), "calibrating")
    return seen


def _weights(program: Program, edges: dict[str, EdgeRange]) -> dict[str, WeightCodes]:
    """Codes of every stored weight, rounded to nearest, one scale per output channel.

    A channel whose weights are almost zero beside its bias gets a larger scale than its weights ask for: biases are
    int32 codes of scale s_input * s_weight, and would overflow.
    """
    found: dict[str, WeightCodes] = {}
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
        if program.weight_name(node) in found:  # one weight of several layers has one scale
            scale = torch.maximum(scale, found[program.weight_name(node)].scale)
        codes = encode(weight, scale, 0, -WEIGHT_MAX, WEIGHT_MAX, 0)
        found[program.weight_name(node)] = WeightCodes(codes.to(torch.int8), scale, 0)
    return found
