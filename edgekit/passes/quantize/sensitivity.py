"""How much of the error of a network's outputs each weight and each activation makes, rounded alone.

Error is told as noise: power of the difference from the float outputs / power of the float outputs, summed over the
outputs; -10 log10 of it is the signal-to-quantisation-noise ratio in dB. It is read from a few samples with far less
scatter than an accuracy, and to first order it adds up over layers.

Source: Pandey et al., A Practical Mixed Precision Algorithm for Post-Training Quantization, arXiv:2302.05397: their
list of layers by SQNR, with weights and activations apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from edgekit.data.observers import Seen
from edgekit.data.samples import in_batches
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import Kept, QuantisationTable, WeightCodes
from edgekit.passes.quantize.kernels import Anatomy, dissect
from edgekit.passes.quantize.simulate import Simulation
from edgekit.passes.quantize.task import Task
from edgekit.passes.quantize.weight_only import stored_table
from edgekit.passes.quantize.weights import nearest_codes

SAMPLES = 64
BATCH = 32


@dataclass(frozen=True)
class Sensitivity:
    """What rounding does to the outputs, one thing at a time.

    Attributes:
        codes: number format -> weight name -> its codes in that format.
        weights: noise of each kernel's weight, in the order of the kernels: number format -> noise; empty for a
            kernel without one.
        wires: noise of each wire, in their order; 0 where the table has no grid for it.
    """

    anatomy: Anatomy
    codes: Mapping[str, Mapping[str, WeightCodes]]
    weights: tuple[Mapping[str, float], ...]
    wires: tuple[float, ...]


def measure_sensitivity(task: Task, table: QuantisationTable, numbers: Sequence[str]) -> Sensitivity:
    """Noise of every weight in each of `numbers`, and of every wire on its grid.

    A format that a weight of `table` already has is measured with the codes that are there; others are rounded to
    nearest. `float` among the numbers makes no noise and is not measured.
    """
    samples = task.samples.head(SAMPLES)
    batch = min(BATCH, len(samples))
    inputs = samples.batch(0, len(samples) // batch * batch)
    program = trace(task.model, batch)
    anatomy = dissect(program)
    reference = outputs_of(fx.Interpreter(program.module), inputs, batch)
    codes = {number: _codes(task, program, table, number) for number in numbers if number != "float"}
    bare = replace(table, kept={})
    done, total = 0, len(anatomy.kernels) + len(anatomy.wires)

    def noise(with_codes: Mapping[str, WeightCodes], edges: Sequence[str], weights: Sequence[str]) -> float:
        simulation = Simulation(program, replace(bare, weights=dict(with_codes)), edges, weights)
        return noise_of(outputs_of(simulation, inputs, batch), reference)

    weights: list[dict[str, float]] = []
    for kernel in anatomy.kernels:
        own = [] if kernel.weight is None else [kernel.weight]
        weights.append({number: noise(codes[number], (), own) for number in codes if own})
        done += 1
        task.context.progress(done, total, "measuring sensitivity")
    wires = []
    for wire in anatomy.wires:
        wires.append(noise({}, (wire.name,), ()) if wire.name in table.edges else 0.0)
        done += 1
        task.context.progress(done, total, "measuring sensitivity")
    return Sensitivity(anatomy, codes, tuple(weights), tuple(wires))


def assign(
    table: QuantisationTable, found: Sensitivity, numbers: Mapping[int, str], reasons: Mapping[int, str]
) -> QuantisationTable:
    """`table` with the number formats of some kernels changed.

    A weight in float has no codes; a layer with other codes than before loses its shift, which was measured with them.

    Args:
        numbers: index of a kernel -> its format.
        reasons: index of a kernel that is kept in a higher precision than the rest -> why.
    """
    weights, shifts, kept = dict(table.weights), dict(table.shifts), dict(table.kept)
    for index, number in numbers.items():
        kernel = found.anatomy.kernels[index]
        if kernel.weight is not None:
            before = weights.pop(kernel.weight, None)
            if number != "float":
                weights[kernel.weight] = found.codes[number][kernel.weight]
            if weights.get(kernel.weight) is not before:
                for layer in kernel.layers:
                    shifts.pop(layer, None)
        if index in reasons:
            kept |= dict.fromkeys(kernel.layers, Kept(number, reasons[index]))
    return replace(table, weights=weights, shifts=shifts, kept=kept)


def outputs_of(interpreter: fx.Interpreter, inputs: Sequence[Tensor], batch: int) -> tuple[Tensor, ...]:
    """Every float output of a program for inputs (N, ...), N a multiple of `batch`; each output (N, ...)."""
    with torch.no_grad():
        found = [interpreter.run(*part) for part in in_batches(inputs, batch)]
    rows = [out if isinstance(out, tuple | list) else (out,) for out in found]
    return tuple(torch.cat(column) for column in zip(*rows, strict=True) if column[0].is_floating_point())


def noise_of(found: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Power of the error / power of the reference, summed over the outputs."""
    total = 0.0
    for one, other in zip(found, reference, strict=True):
        power = other.double().square().sum().item()
        total += (one.double() - other.double()).square().sum().item() / power if power else 0.0
    return total


def _codes(task: Task, program: Program, table: QuantisationTable, number: str) -> dict[str, WeightCodes]:
    options = task.options.model_copy(update={"weights": number})
    if table.integer:
        rounded = nearest_codes(program, table.edges, options)
    else:
        rounded = stored_table(program, Seen(), options.model_copy(update={"bias_correction": "none"})).weights
    return rounded | {name: codes for name, codes in table.weights.items() if codes.number == number}
