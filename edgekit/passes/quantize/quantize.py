"""The quantize pass: calibration batches -> quantisation table. The float network stays as it is, and trainable."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from edgekit.data.observers import Seen
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.context import Context
from edgekit.passes.quantize.adaround import round_by_adaround
from edgekit.passes.quantize.batches import batch_size
from edgekit.passes.quantize.bias import correct_biases
from edgekit.passes.quantize.blocks import round_by_blocks
from edgekit.passes.quantize.calibrate import calibrate, calibration_samples
from edgekit.passes.quantize.gptq import round_by_gptq
from edgekit.passes.quantize.guard import guard
from edgekit.passes.quantize.keep import keep_named, keep_unequal_ends
from edgekit.passes.quantize.mixed import choose_numbers
from edgekit.passes.quantize.ranges import decide_edges
from edgekit.passes.quantize.recurrent import keep_accumulators
from edgekit.passes.quantize.saturation import narrow_summands, saturate
from edgekit.passes.quantize.task import Improve, Task
from edgekit.passes.quantize.weight_only import needs_samples, stored_table
from edgekit.passes.quantize.weights import nearest_codes
from edgekit.schema.passes import QuantizeOptions

logger = logging.getLogger(__name__)


def first_table(program: Program, seen: Seen, options: QuantizeOptions) -> QuantisationTable:
    """The table with every weight rounded to nearest, before anything improves it.

    Raises:
        PassError: an activation is not finite, or a weight does not fit its format.
    """
    if not options.activations.startswith("int"):
        return stored_table(program, seen, options)
    edges = saturate(program, decide_edges(seen, options))
    if options.observer == "mse":
        edges = narrow_summands(program, edges, seen.histograms)
    means = {name: mean.mean for name, mean in seen.means.items()} if options.bias_correction != "none" else {}
    return QuantisationTable(edges, nearest_codes(program, edges, options), means, activations=options.activations)


def _nearest(task: Task, table: QuantisationTable) -> QuantisationTable:
    return table


# how weights are rounded; each changes the integer codes in the table only
ROUNDINGS: Mapping[str, Improve] = {
    "nearest": _nearest,
    "gptq": round_by_gptq,
    "adaround": round_by_adaround,
    "block": round_by_blocks,
}


def quantize(model: Model, options: QuantizeOptions, context: Context) -> Model:
    """Add a quantisation table to `model`: ranges of activations, codes of weights, means of inputs.

    Raises:
        PassError: the calibration split is empty, an activation is not finite, or `keep_float` names nothing.
    """
    samples = calibration_samples(model, options, context)
    program = trace(model, batch_size(samples.inputs))
    seen = calibrate(model, program, samples, context) if needs_samples(options) else Seen()
    table = keep_accumulators(model, first_table(program, seen, options))
    table = keep_unequal_ends(program, keep_named(program, table, options.keep_float))
    task = Task(model, samples, options, context)
    if options.budget is not None:
        table = choose_numbers(task, table)
    table = ROUNDINGS[options.rounding](task, table)
    if options.bias_correction == "empirical":
        table = correct_biases(task, table)
    if options.mode == "auto":
        table = guard(task, table)
    logger.info(
        "quantised %d activations and %d weights on %d samples", len(table.edges), len(table.weights), len(samples)
    )
    return replace(model, history=(*model.history, "quantize"), table=table)
