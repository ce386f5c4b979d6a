"""Ranges seen over batches, against the activations themselves."""

import torch

from edgekit.data.observers import observe_ranges
from edgekit.nets.program import trace
from tests import nets


def test_ranges_are_those_of_all_batches_together() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    program = trace(model, 2)
    batches = [model.example(2, seed=seed) for seed in range(3)]
    batches[1] = (batches[1][0] * 40,)
    ranges = observe_ranges(program.module, {n.name: name for n, name in program.names.items()}, batches)
    everything = torch.cat([x for (x,) in batches])
    assert ranges["input:image"] == (float(everything.min()), float(everything.max()))
    stem = torch.cat([model.network.stem(x) for (x,) in batches]).detach()  # type: ignore[operator, union-attr]
    assert ranges["stem/conv2d"] == (float(stem.min()), float(stem.max()))
    assert ranges["/relu"][0] == 0.0


def test_a_range_always_holds_zero() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    program = trace(model, 1)
    (x,) = model.example()
    ranges = observe_ranges(program.module, {n.name: name for n, name in program.names.items()}, [(x.abs() + 1,)])
    assert ranges["input:image"][0] == 0.0
