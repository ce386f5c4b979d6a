"""The parts of a program that have a precision of their own: kernels, and the wires between them.

A kernel is one operator with what it computes in the same go; layers that share one weight are one kernel. A wire is an
activation that kernels write and read; moved around, it is still the same wire. It is rounded as long as one kernel at
one of its ends works on integers: so an activation is in float only where all of its ends are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import fx

from edgekit.nets.graph import tensor_of
from edgekit.nets.operators import DATA_MOVEMENT, KINDS, activations, kind_of
from edgekit.nets.program import Program
from edgekit.numerics.number import find_number
from edgekit.passes.quantize.simulate import weighted, written

# no runtime normalises in integers; what only moves data is part of a wire
_COMPUTE = frozenset({*KINDS.values(), "mean"}) - DATA_MOVEMENT - {"layer_norm"}
_BITS = {"float": 32, "dynamic": 8}  # names that are no number formats


@dataclass(frozen=True)
class Kernel:
    """What has one precision.

    Attributes:
        layers: activation names; several where layers share a weight.
        weight: name of it, or None.
        macs: at batch 1.
        params: numbers in the weight.
        channels: of the weight, each of which has a scale.
        values: activations that are read and written, at batch 1.
    """

    layers: tuple[str, ...]
    weight: str | None
    macs: int
    params: int
    channels: int
    values: int

    @property
    def name(self) -> str:
        """Of its first layer."""
        return self.layers[0]


@dataclass(frozen=True)
class Wire:
    """An activation between kernels.

    Attributes:
        name: of the activation that is rounded first.
        ends: indices of the kernels that write or read it.
    """

    name: str
    ends: frozenset[int]


@dataclass(frozen=True)
class Anatomy:
    """Kernels and wires of one program, in order."""

    kernels: tuple[Kernel, ...]
    wires: tuple[Wire, ...]


def bits_of(number: str) -> int:
    """Bits of a value in a number format, or in what a table's activations are computed in."""
    return _BITS[number] if number in _BITS else find_number(number).bits


def dissect(program: Program) -> Anatomy:
    """Kernels and wires of a program of any batch. Operators that no runtime has integer kernels for are no kernels."""
    owner: dict[fx.Node, int] = {}
    inside: set[fx.Node] = set()
    kernels: list[Kernel] = []
    of_weight: dict[str, int] = {}
    layers = {node: name for name, node in weighted(program).items()}
    ends = set(written(program))
    for node, name in program.names.items():
        if node in owner or kind_of(node) not in _COMPUTE:
            continue
        weight = program.weight_name(node) if node in layers else None
        if kind_of(node) in ("conv", "linear") and weight is None:
            continue  # its weight is computed: no runtime takes that in integers
        out = node if name in ends else next(iter(node.users))
        inside |= {node} - {out}
        found = _kernel(program, node, out, name, weight)
        index = of_weight.get(weight, len(kernels)) if weight is not None else len(kernels)
        if index == len(kernels):
            kernels.append(found)
        else:
            kernels[index] = _joined(kernels[index], found)
        if weight is not None:
            of_weight[weight] = index
        owner |= {node: index, out: index}
    return Anatomy(tuple(kernels), tuple(_wires(program, owner, inside)))


def work(kernel: Kernel, weights: str, activations: str) -> float:
    """A proxy of the time that a kernel takes: products of 8 x 8 bits, and bytes moved.

    It orders precisions; it is no measurement.
    """
    weight_bits, value_bits = bits_of(weights), bits_of(activations)
    moved = (kernel.values * value_bits + kernel.params * weight_bits) / 8
    return kernel.macs * weight_bits * value_bits / 64 + moved


def _kernel(program: Program, node: fx.Node, out: fx.Node, name: str, weight: str | None) -> Kernel:
    batch = program.batch
    values = sum(_size(source, batch) for source in activations(node)) + _size(out, batch)
    if weight is None:
        inner = activations(node)[0].meta["val"].shape[-1] if kind_of(node) == "matmul" else 0
        return Kernel((name,), None, _size(node, batch) * inner, 0, 0, values)
    shape = tensor_of(program.module, node.args[1]).shape  # type: ignore[arg-type]
    macs = _size(node, batch) * math.prod(shape[1:])
    return Kernel((name,), weight, macs, math.prod(shape), shape[0], values)


def _joined(first: Kernel, second: Kernel) -> Kernel:
    return Kernel(
        first.layers + second.layers,
        first.weight,
        first.macs + second.macs,
        first.params,
        first.channels,
        first.values + second.values,
    )


def _size(node: fx.Node, batch: int) -> int:
    """Values of one sample; samples need not have an axis of their own, as tokens of all of them may lie in one."""
    return int(node.meta["val"].numel()) // batch


def _wires(program: Program, owner: dict[fx.Node, int], inside: set[fx.Node]) -> list[Wire]:
    """Args: owner: node -> its kernel; inside: nodes whose values never leave their kernel."""
    wire_of: dict[fx.Node, str] = {}
    ends: dict[str, set[int]] = {}
    for node, name in program.names.items():
        sources = [source for source in activations(node) if source not in inside]
        moved = kind_of(node) in DATA_MOVEMENT and len(sources) == 1
        wire_of[node] = wire_of[sources[0]] if moved else name
        if node in owner:
            for source in sources:
                ends.setdefault(wire_of[source], set()).add(owner[node])
            if node not in inside:
                ends.setdefault(wire_of[node], set()).add(owner[node])
    return [Wire(name, frozenset(ends[name])) for name in program.names.values() if name in ends]
