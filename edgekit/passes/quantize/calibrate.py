"""Running calibration samples through a network: what every activation was seen to be."""

from __future__ import annotations

import hashlib

from edgekit.data.observers import Seen, observe
from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.program import Program, trace
from edgekit.passes.context import Context
from edgekit.passes.quantize.batches import LARGEST_BATCH
from edgekit.passes.quantize.data_free import SAMPLES, synthetic_samples
from edgekit.passes.quantize.select import chosen
from edgekit.passes.quantize.simulate import written
from edgekit.passes.quantize.weight_only import needs_samples
from edgekit.schema.calibration import CalibrationRow
from edgekit.schema.passes import QuantizeOptions


def calibration_samples(model: Model, options: QuantizeOptions, context: Context) -> Samples:
    """The samples that `options` asks for; the context is told which, for the step's row in the manifest.

    Raises:
        PassError: there are none, or the network has nothing to choose or to make samples by.
        DataError: more are to be chosen than there are.
    """
    samples, row = _picked(model, options, context)
    if needs_samples(options) or options.rounding != "nearest" or options.bias_correction == "empirical":
        context.record(row)  # else nothing was decided on them
    return samples


def _picked(model: Model, options: QuantizeOptions, context: Context) -> tuple[Samples, CalibrationRow]:
    if options.calibration == "data-free":
        made = synthetic_samples(model, options.samples or SAMPLES, context)
        return made, CalibrationRow(source="synthetic", count=len(made), seed=context.seed, digest=_digest(made))
    pool, choose = context.splits.calibration, options.choose or context.splits.choose
    if len(pool) == 0:
        raise PassError("the calibration split is empty", "step quantize", "give it samples: calib file, `calibration`")
    if choose is None:
        first = pool if options.samples is None else pool.head(options.samples)
        return first, CalibrationRow(source="samples", count=len(first), digest=_digest(first))
    indices = chosen(model, choose, pool, context)[: options.samples]
    taken, listed = pool.take(indices), tuple(indices.tolist())
    row = CalibrationRow(source="samples", count=len(taken), chosen=choose, indices=listed, digest=_digest(taken))
    return taken, row


def _digest(samples: Samples) -> str:
    digest = hashlib.sha256()
    for inputs in samples.inputs:
        digest.update(f"{tuple(inputs.shape)}\n".encode())
        for start in range(0, len(samples), LARGEST_BATCH):  # the whole of it may not fit into memory twice
            digest.update(inputs[start : start + LARGEST_BATCH].contiguous().numpy().data)
    return digest.hexdigest()


def calibrate(model: Model, program: Program, samples: Samples, context: Context) -> Seen:
    """What every activation that a kernel writes is for all samples.

    Args:
        program: of `model`; what does not fill a batch of it is traced and run by itself.
    """
    seen = Seen()
    size = program.batch
    full = len(samples) // size * size
    for start, stop, batch in ((0, full, size), (full, len(samples), len(samples) - full)):
        if start == stop:
            continue
        here = program if batch == size else trace(model, batch)
        for index in range(start, stop, batch):
            observe(here, [samples.batch(index, index + batch)], seen, written(here))
            context.progress(index + batch, len(samples), "calibrating")
    return seen
