"""The canonical program of a network: an inference graph that quantisation and every format start from.

The network is traced by `torch.export` at a fixed batch, batch norms are folded into the layer before them, and a few
spellings are reduced to one, so that a placement rule has to know one form only. Every activation has a stable name,
`<module path>/<operator>` or `input:<name>`; the quantisation table speaks of activations by these names.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import fx, nn

from edgekit.errors import ModelError
from edgekit.nets.model import Model
from edgekit.numerics.fold import NormStats, fold_batch_norm

aten = torch.ops.aten

CONVOLUTIONS = frozenset({aten.conv1d.default, aten.conv2d.default})
LINEAR = frozenset({aten.linear.default})
_NO_OP_IN_EVAL = frozenset({aten.dropout.default, aten.dropout_.default, aten.alias.default, aten.contiguous.default})
_OUT_OF_PLACE = {
    aten.relu_.default: aten.relu.default,
    aten.add_.Tensor: aten.add.Tensor,
    aten.mul_.Tensor: aten.mul.Tensor,
    aten.hardtanh_.default: aten.hardtanh.default,
}


@dataclass(frozen=True)
class Program:
    """A traced network.

    Attributes:
        module: the graph; weights are its parameters and buffers under their names in the network.
        names: activation name of every node that makes a tensor, in execution order.
    """

    module: fx.GraphModule
    names: dict[fx.Node, str]

    def node(self, name: str) -> fx.Node:
        """The node that makes the activation called `name`."""
        for node, own in self.names.items():
            if own == name:
                return node
        raise ModelError(f"the program has no activation called {name!r}", "quantisation table", "quantise again")

    def weight_name(self, node: fx.Node) -> str:
        """Name of the weight that a convolution or linear node reads."""
        return str(node.args[1].target)  # type: ignore[union-attr]


def trace(model: Model, batch: int = 1) -> Program:
    """The canonical program of `model` at a fixed batch.

    Raises:
        ModelError: the network cannot be traced; the reason of `torch.export` is passed on.
    """
    was_training = model.network.training
    model.network.eval()
    try:
        exported = torch.export.export(model.network, tuple(model.example(batch)))
    except Exception as err:  # torch.export raises many kinds; all of them mean the same to a user
        raise ModelError(
            f"the network cannot be traced: {str(err).splitlines()[0] if str(err) else type(err).__name__}",
            f"model.factory {model.source.factory}",
            "torch.export must accept the network: no Python control flow that depends on tensor values",
        ) from err
    finally:
        model.network.train(was_training)
    traced = exported.module(check_guards=False)
    assert isinstance(traced, fx.GraphModule)
    module = fx.GraphModule(traced, traced.graph).eval()  # a plain one: torch.export's own refuses .eval()
    _own_parameters(module)
    _name_inputs(module, model)
    _drop_no_ops(module)
    _fold_norms(module)
    _fold_pads(module)
    _global_pools(module)
    module.graph.eliminate_dead_code()
    _drop_unused_tensors(module)
    module.recompile()
    return Program(module, _names(module))


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


def _own_parameters(module: fx.GraphModule) -> None:
    """Give the graph copies of the weights: the program is edited, the model is not."""
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        set_tensor(module, name, value.detach().clone())


def _name_inputs(module: fx.GraphModule, model: Model) -> None:
    for node, spec in zip(_placeholders(module), model.inputs, strict=True):
        node.meta["edgekit_name"] = f"input:{spec.name}"


def _placeholders(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def _drop_no_ops(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        node.target = _OUT_OF_PLACE.get(node.target, node.target)
        if node.target in _NO_OP_IN_EVAL:
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)


def _fold_norms(module: fx.GraphModule) -> None:
    """conv or linear -> batch norm becomes one layer (RepVGG, arXiv:2101.03697, eq. 3)."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.batch_norm.default:
            continue
        layer = node.args[0]
        foldable = layer.op == "call_function" and layer.target in CONVOLUTIONS | LINEAR and len(layer.users) == 1
        if not foldable or not all(is_weight(arg) for arg in layer.args[1:2]):
            continue
        gamma, beta, mean, var = (None if arg is None else tensor_of(module, arg) for arg in node.args[1:5])
        assert mean is not None
        assert var is not None
        norm = NormStats(
            mean=mean,
            var=var,
            gamma=torch.ones_like(mean) if gamma is None else gamma,
            beta=torch.zeros_like(mean) if beta is None else beta,
            eps=float(node.args[7]),
        )
        bias_node = layer.args[2] if len(layer.args) > 2 else None
        bias = None if bias_node is None else tensor_of(module, bias_node)
        weight, shift = fold_batch_norm(tensor_of(module, layer.args[1]), bias, norm)
        weight_name = str(layer.args[1].target)
        bias_name = (
            weight_name.removesuffix("weight") + "bias" if weight_name.endswith("weight") else f"{weight_name}_bias"
        )
        set_tensor(module, weight_name, weight)
        set_tensor(module, bias_name, shift)
        if bias_node is None:
            with module.graph.inserting_before(layer):
                bias_node = module.graph.get_attr(bias_name)
            layer.args = (*layer.args[:2], bias_node, *layer.args[3:])
        elif str(bias_node.target) != bias_name:
            bias_node.target = bias_name
        node.replace_all_uses_with(layer)
        module.graph.erase_node(node)


def _fold_pads(module: fx.GraphModule) -> None:
    """A symmetric zero pad in front of a convolution becomes the convolution's own padding."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.conv2d.default:
            continue
        pad = node.args[0]
        if len(pad.users) != 1 or (amounts := zero_pad(pad)) is None:
            continue
        left, right, top, bottom = amounts
        if left != right or top != bottom:
            continue
        args = [*node.args, *conv2d_defaults(node)[len(node.args) :]]
        args[0] = pad.args[0]
        args[4] = [args[4][0] + top, args[4][1] + left]
        node.args = tuple(args)
        module.graph.erase_node(pad)


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


def _global_pools(module: fx.GraphModule) -> None:
    """mean over height and width becomes a global average pool, which runtimes have an integer kernel for."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.mean.dim or node.kwargs:
            continue
        value = node.args[0].meta.get("val")
        axes = node.args[1]
        if value is None or value.dim() != 4 or sorted(axis % 4 for axis in axes) != [2, 3]:
            continue
        keep = len(node.args) > 2 and bool(node.args[2])
        with module.graph.inserting_before(node):
            pool = module.graph.call_function(aten.adaptive_avg_pool2d.default, (node.args[0], [1, 1]))
            pool.meta = dict(node.meta)
            pool.meta["val"] = value.mean((2, 3), keepdim=True)
            new = pool
            if not keep:
                new = module.graph.call_function(aten.flatten.using_ints, (pool, 1))
                new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        module.graph.erase_node(node)


def _drop_unused_tensors(module: fx.GraphModule) -> None:
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in [*module.named_parameters(), *module.named_buffers()]:
        if name not in used:
            *path, leaf = name.split(".")
            delattr(operator.attrgetter(".".join(path))(module) if path else module, leaf)


def _names(module: fx.GraphModule) -> dict[fx.Node, str]:
    """A readable, unique and reproducible name for every activation."""
    names: dict[fx.Node, str] = {}
    taken: dict[str, int] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder":
            names[node] = node.meta["edgekit_name"]
        elif node.op == "call_function":
            stack = node.meta.get("nn_module_stack") or {}
            path = next(reversed(stack.values()))[0] if stack else ""
            kind = str(node.target).split(".")[1] if str(node.target).startswith("aten.") else node.name
            base = f"{path}/{kind}"
            seen = taken.get(base, 0)
            taken[base] = seen + 1
            names[node] = base if seen == 0 else f"{base}_{seen}"
    return names
