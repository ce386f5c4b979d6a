"""Program + table without integer activations -> the same program with the weights that its codes stand for.

No Q/DQ stands in such a program. Which kernels read the codes themselves, and where codes are only a smaller file, is
for each format to say; a format finds the weights again by their content, since exporters keep no names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, fx
from torch.nn import functional

from edgekit.errors import FormatError
from edgekit.nets.graph import set_tensor, tensor_of
from edgekit.nets.lstm import lstm_weights
from edgekit.nets.program import Program
from edgekit.nets.quantisation import QuantisationTable, WeightCodes
from edgekit.passes.quantize.simulate import bias_shift, weighted
from edgekit.schema.manifest import QuantisedTensor
from edgekit.schema.scheme import is_minifloat

Rounding: TypeAlias = Callable[[Tensor], Tensor]


def decode_weights(program: Program, table: QuantisationTable) -> tuple[QuantisedTensor, ...]:
    """Put what the codes stand for in place of the weights, and correct the biases. The program is edited.

    Returns:
        A row for every weight. Groups are not listed scale by scale: there may be more of them than a manifest bears.

    Raises:
        FormatError: activations are minifloats, which no runtime has; or the table is of another network.
    """
    if is_minifloat(table.activations):
        raise FormatError(
            f"no runtime computes with {table.activations} activations: they exist in PyTorch only, simulated",
            "step quantize: activations",
            "set `activations: float` to ship minifloat weights, or an integer format",
        )
    rows = []
    layers = stored_layers(program, table)
    for name, node in layers.items():
        weight = program.weight_name(node)
        if weight not in table.weights:
            raise FormatError(
                f"the quantisation table has no weight {weight!r}",
                "quantisation table",
                "the network changed after it was quantised; run quantize as the last step",
            )
        codes = table.weights[weight]
        shift = bias_shift(program, table, name, node, codes.values())
        if shift is not None:
            bias = node.args[2]
            assert isinstance(bias, fx.Node)
            set_tensor(program.module, str(bias.target), tensor_of(program.module, bias) - shift)
        rows.append(_row(weight, codes))
    for weight in {program.weight_name(node) for node in layers.values()}:  # now that every layer has read its own
        set_tensor(program.module, weight, table.weights[weight].values())
    for weight in (name for names in lstm_weights(program) for name in names if name in table.weights):
        set_tensor(program.module, weight, table.weights[weight].values())
        rows.append(_row(weight, table.weights[weight]))
    return tuple({row.tensor: row for row in rows}.values())


def stored_layers(program: Program, table: QuantisationTable) -> dict[str, fx.Node]:
    """Activation name -> node of every layer whose codes count: all with a stored weight but those kept in float."""
    floats = {name for name, kept in table.kept.items() if kept.number == "float"}
    layers = weighted(program)
    shared = {program.weight_name(layers[name]) for name in floats if name in layers}
    return {name: node for name, node in layers.items() if program.weight_name(node) not in shared}


def _row(name: str, weight: WeightCodes) -> QuantisedTensor:
    return QuantisedTensor(
        tensor=name,
        role="weight",
        bits=weight.bits,
        dtype=weight.number,
        scheme="symmetric",
        axis=weight.axis,
        group=weight.group,
        scale=tuple(weight.scale.tolist()) if weight.group is None else (),
        zero_point=(0,),
    )


def round_inputs(module: fx.GraphModule, roundings: Mapping[fx.Node, Rounding]) -> None:
    """Round what some layers read, on grids that are made from it. Only PyTorch can run the module then."""
    for node, rounding in roundings.items():
        with module.graph.inserting_before(node):
            rounded = module.graph.call_function(rounding, (node.args[0],))
        node.args = (rounded, *node.args[1:])
    module.recompile()


def affine_rounding(axes: tuple[int, ...] | None) -> Rounding:
    """Rounding to 256 levels from the smallest to the largest value, 0 among them.

    Args:
        axes: what shares a grid: the last for rows of a matrix, the last three for images of a batch; none: all.
    """

    def round_input(values: Tensor) -> Tensor:
        x = values.float()  # kernels make their grids in float32
        over = tuple(range(x.dim())) if axes is None else axes
        low, high = x.amin(over, keepdim=True).clamp_max(0), x.amax(over, keepdim=True).clamp_min(0)
        scale = ((high - low) / 255).clamp_min(torch.finfo(torch.float32).tiny)
        zero_point = (-low / scale).round().clamp(0, 255)
        codes = ((x / scale).round() + zero_point).clamp(0, 255)
        return ((codes - zero_point).to(values.dtype) * scale).to(values.dtype)

    return round_input


def group_rounding(group: int) -> Rounding:
    """Rounding to codes -127 to 127, with a scale for every `group` values along the last axis."""

    def round_input(values: Tensor) -> Tensor:
        size = values.shape[-1]
        x = functional.pad(values.float(), (0, -size % group)).reshape(*values.shape[:-1], -1, group)
        scale = (x.abs().amax(-1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        return ((x / scale).round().to(values.dtype) * scale).to(values.dtype).flatten(-2)[..., :size]

    return round_input
