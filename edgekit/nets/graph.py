"""Small questions to a traced graph, stored tensors and new nodes in it. Rewrites live in `canonical.py` and beside."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

aten = torch.ops.aten

CONVOLUTIONS = frozenset({aten.conv1d.default, aten.conv2d.default})
LINEAR = frozenset({aten.linear.default})


def tensor_of(module: fx.GraphModule, node: fx.Node) -> torch.Tensor:
    """The parameter or buffer that a get_attr node reads."""
    value = operator.attrgetter(str(node.target))(module)
    assert isinstance(value, torch.Tensor)
    return value


def is_weight(node: object) -> bool:
    """Whether `node` reads a stored tensor."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def set_tensor(module: fx.GraphModule, name: str, value: torch.Tensor) -> None:
    """Store `value` as the buffer called `name` (dots make submodules)."""
    *path, leaf = name.split(".")
    owner: nn.Module = module
    for part in path:
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    owner.register_buffer(leaf, value)


def call_before(place: fx.Node, target: Any, args: tuple[Any, ...], value: torch.Tensor) -> fx.Node:
    """A new operator before `place`, of the same module as it.

    Args:
        value: has the shape and type of its result.
    """
    with place.graph.inserting_before(place):
        node = place.graph.call_function(target, args)
    node.meta = {"nn_module_stack": place.meta.get("nn_module_stack"), "val": value}
    return node


def layer_of(node: fx.Node) -> str:
    """Path of the innermost module that made `node`; empty for the network itself and for what no module made."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""


def value_of(node: fx.Node) -> torch.Tensor:
    """A tensor with the shape and type of what `node` makes."""
    value = node.meta["val"]
    assert isinstance(value, torch.Tensor)
    return value


def free_name(module: fx.GraphModule, name: str) -> str:
    """`name` with the first number that makes it the name of no tensor yet."""
    taken = {own for own, _ in [*module.named_parameters(), *module.named_buffers()]}
    return next(f"{name}_{i}" for i in range(1, len(taken) + 2) if f"{name}_{i}" not in taken)


def zero_pad(node: fx.Node) -> tuple[int, int, int, int] | None:
    """(left, right, top, bottom) if `node` pads the last two axes with constant zeros, else None."""
    if node.op != "call_function" or node.target not in (aten.pad.default, aten.constant_pad_nd.default):
        return None
    amounts = list(node.args[1])  # type: ignore[arg-type]
    if node.target is aten.pad.default:
        mode = node.args[2] if len(node.args) > 2 else node.kwargs.get("mode", "constant")
        value = node.args[3] if len(node.args) > 3 else node.kwargs.get("value")
    else:
        mode, value = "constant", node.args[2] if len(node.args) > 2 else 0
    if mode != "constant" or value not in (None, 0, 0.0) or len(amounts) != 4 or min(amounts) < 0:
        return None
    return amounts[0], amounts[1], amounts[2], amounts[3]


def conv2d_defaults(node: fx.Node) -> list[object]:
    """All seven arguments of a conv2d node: input, weight, bias, stride, padding, dilation, groups."""
    defaults: list[object] = [None, None, None, [1, 1], [0, 0], [1, 1], 1]
    return [*node.args, *defaults[len(node.args) :]]
