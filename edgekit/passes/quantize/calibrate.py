"""Running calibration samples through a network: what every activation was seen to be."""

from __future__ import annotations

from edgekit.data.observers import Seen, observe
from edgekit.data.samples import Samples
from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.nets.program import trace
from edgekit.passes.context import Context
from edgekit.schema.passes import QuantizeOptions

CALIBRATION_BATCH = 32


def calibration_samples(model: Model, options: QuantizeOptions, context: Context) -> Samples:
    """The samples of the calibration split that `options` asks for.

    Raises:
        PassError: there are none, or the network has several inputs.
    """
    samples = context.splits.calibration
    if options.samples is not None:
        samples = samples.head(options.samples)
    if len(samples) == 0:
        raise PassError("the calibration split is empty", "step quantize", "give it samples: calib file, `calibration`")
    if len(model.inputs) != 1:
        raise PassError(
            f"the network has {len(model.inputs)} inputs, and calibration samples have one",
            "step quantize",
            "wrap the network so that it takes one input",
        )
    return samples


def calibrate(model: Model, samples: Samples, context: Context) -> Seen:
    """What every activation of the network's program is for all samples."""
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
