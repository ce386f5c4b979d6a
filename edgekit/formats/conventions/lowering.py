"""Program + table + convention -> a program with Q/DQ that any exporter can read, and that PyTorch can run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from edgekit.errors import FormatError
from edgekit.formats.conventions.convention import Convention
from edgekit.formats.conventions.grids import Grid
from edgekit.formats.conventions.placement import Placement, place
from edgekit.formats.conventions.weight_only import decode_weights
from edgekit.formats.conventions.weights import qd, quantise_weights
from edgekit.nets.graph import aten, is_weight, set_tensor, tensor_of
from edgekit.nets.model import Model
from edgekit.nets.operators import DATA_MOVEMENT, kind_of, unmoved
from edgekit.nets.program import Program, trace
from edgekit.numerics.quantise import decode, encode
from edgekit.schema.manifest import InFloat, QuantisedTensor

_PASSING = DATA_MOVEMENT | {"relu", "clamp"}  # part of the kernel before them


@dataclass(frozen=True)
class Lowered:
    """A Q/DQ program for one convention.

    Attributes:
        module: runs in PyTorch; the witness that every runtime is compared with.
        tensors: how each tensor is quantised.
        inputs, outputs: grids of the program's inputs and outputs, None where float.
        islands: operators without a weight that compute in float on what stands for codes, and that a runtime which
            sees them so makes integer kernels of: because only codes are made of them, or it carries codes through.
    """

    module: fx.GraphModule
    tensors: tuple[QuantisedTensor, ...]
    in_float: tuple[InFloat, ...]
    inputs: tuple[Grid | None, ...]
    outputs: tuple[Grid | None, ...]
    islands: tuple[fx.Node, ...] = ()


def lower(model: Model, convention: Convention, batch: int = 1) -> Lowered:
    """The Q/DQ program of a quantised model.

    Raises:
        FormatError: the model has no quantisation table, or one made for another network, or number formats that the
            convention has no codes for.
    """
    if model.table is None:
        raise FormatError(
            "the model has no quantisation table", "steps", "add a quantize step before exporting integers"
        )
    program = trace(model, batch)
    if not model.table.integer:
        floats = (None,) * len(model.inputs), (None,) * len(model.outputs)
        return Lowered(program.module, decode_weights(program, model.table), (), *floats)
    placement = place(program, model.table, convention)
    rows = quantise_weights(program, model.table, placement, convention)
    rows = [*_insert_pairs(program, placement, convention), *rows]
    program.module.graph.eliminate_dead_code()
    program.module.recompile()
    ends = next(node for node in program.module.graph.nodes if node.op == "output").args[0]
    sources = {pair: grid for node, grid in placement.grids.items() for pair in _pairs(node)}
    return Lowered(
        module=program.module,
        tensors=tuple(rows),
        in_float=placement.in_float,
        inputs=tuple(placement.grids.get(n) for n in program.module.graph.nodes if n.op == "placeholder"),
        outputs=tuple(sources.get(end) for end in ends),
        islands=tuple(node for node in program.names if _is_island(node, placement, convention)),
    )


def _is_island(node: fx.Node, placement: Placement, convention: Convention) -> bool:
    if kind_of(node) in (None, *DATA_MOVEMENT) or node in placement.integer or not node.users:
        return False
    sources = [unmoved(source) for source in node.all_input_nodes if source.op != "get_attr"]
    if any(source.target is not qd.dequantize_per_tensor.default for source in sources):
        return False
    carried = convention.carries_codes and kind_of(node) in convention.shares_grid
    return carried or _only_codes_are_made_of(node)


def _only_codes_are_made_of(node: fx.Node) -> bool:
    return all(
        _only_codes_are_made_of(user) if kind_of(user) in _PASSING else user.target is qd.quantize_per_tensor.default
        for user in node.users
    )


def _pairs(node: fx.Node) -> list[fx.Node]:
    """The DQ nodes that read the codes of `node`."""
    limited = [user for user in node.users if user.target is aten.clamp.default]
    codes = [q for part in (node, *limited) for q in part.users if q.target is qd.quantize_per_tensor.default]
    return [dq for q in codes for dq in q.users]


def _insert_pairs(program: Program, placement: Placement, convention: Convention) -> list[QuantisedTensor]:
    rows = []
    for node, grid in placement.grids.items():
        codes = _codes(program, node, grid, convention)
        for user in placement.users[node]:
            # one DQ for each reader: litert-torch cannot change the layout of a shared one for some of its readers only
            with program.module.graph.inserting_before(user):
                real = program.module.graph.call_function(qd.dequantize_per_tensor.default, (codes, *_parameters(grid)))
            user.replace_input_with(node, real)
        rows.append(
            QuantisedTensor(
                tensor=program.names.get(node, str(node.target)),
                role="weight" if is_weight(node) else "activation",
                bits=grid.bits,
                dtype=grid.dtype,
                scheme="symmetric" if convention.symmetric or grid.bits > 8 else "affine",
                scale=(grid.scale,),
                zero_point=(grid.zero_point,),
                tied_to=grid.tied_to,
            )
        )
    return rows


def _codes(program: Program, node: fx.Node, grid: Grid, convention: Convention) -> fx.Node:
    """The codes of what `node` makes; of a stored operand, the codes are stored."""
    graph, parameters = program.module.graph, _parameters(grid)
    if not is_weight(node):
        with graph.inserting_after(node):
            codes = graph.call_function(qd.quantize_per_tensor.default, (node, *parameters))
        if grid.ends is not None:
            with graph.inserting_before(codes):
                codes.update_arg(0, graph.call_function(aten.clamp.default, (node, *grid.ends)))
        return codes
    stored = encode(tensor_of(program.module, node), grid.scale, grid.zero_point, grid.qmin, grid.qmax)
    fake = convention.weights == "fake"
    name = f"{node.target}_codes"
    set_tensor(
        program.module,
        name,
        decode(stored, grid.scale, grid.zero_point) if fake else stored.to(getattr(torch, grid.dtype)),
    )
    with graph.inserting_after(node):
        codes = graph.get_attr(name)
    if fake:
        with graph.inserting_after(codes):
            codes = graph.call_function(qd.quantize_per_tensor.default, (codes, *parameters))
    return codes


def _parameters(grid: Grid) -> tuple[float, int, int, int, torch.dtype]:
    """As Q and DQ take them."""
    return grid.scale, grid.zero_point, grid.qmin, grid.qmax, getattr(torch, grid.dtype)
