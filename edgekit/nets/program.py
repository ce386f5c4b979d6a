"""The canonical program of a network: an inference graph that quantisation and every format start from.

The network is traced by `torch.export` at a fixed batch, batch norms are folded into the layer before them, and a few
spellings are reduced to one, so that a placement rule has to know one form only. Every activation has a stable name,
`<module path>/<operator>` or `input:<name>`; the quantisation table speaks of activations by these names.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from edgekit.errors import ModelError
from edgekit.nets.canonical import canonicalise
from edgekit.nets.graph import layer_of, set_tensor, value_of
from edgekit.nets.model import Model
from edgekit.nets.movement import MADE, origin
from edgekit.nets.recurrent import recurrent_network, step_model
from edgekit.nets.steps import declared_states
from edgekit.nets.unroll import share_state_names, unroll

_SAME_FUNCTION_RATIO = 1e-3  # of the largest output: far above float32 rounding, far below any wrong rewrite


@dataclass(frozen=True)
class Program:
    """A traced network.

    Attributes:
        module: the graph; weights are its parameters and buffers under their names in the network.
        names: activation name of every node that makes a tensor, in execution order. Nodes of one name are one
            activation of a recurrent network at several steps: they share a grid.
    """

    module: fx.GraphModule
    names: dict[fx.Node, str]

    @property
    def batch(self) -> int:
        """Samples of the first input."""
        return int(value_of(next(iter(self.names))).shape[0])

    def node(self, name: str) -> fx.Node:
        """The node that makes the activation called `name`."""
        for node, own in self.names.items():
            if own == name:
                return node
        raise ModelError(f"the program has no activation called {name!r}", "quantisation table", "quantise again")

    def weight_name(self, node: fx.Node) -> str:
        """Name of the weight that a convolution or linear node reads."""
        return str(node.args[1].target)  # type: ignore[union-attr]

    def edge_name(self, node: fx.Node) -> str:
        """Name under which a table knows the values of a node: of what it moves, where tracing made the movement.

        Chains of such movement differ between batches, and a table is made at several.
        """
        return self.names[origin(node) if node.meta.get(MADE) else node]


def trace(model: Model, batch: int = 1) -> Program:
    """The canonical program of `model` at a fixed batch.

    A recurrent network is traced at one step, which is then repeated.

    Raises:
        ModelError: the network cannot be traced, and the reason of `torch.export` is passed on; or the program would
            not compute what the network does.
    """
    if recurrent_network(model) is not None:
        step = trace(step_model(model), batch)
        program = Program(*unroll(step.module, step.names, model.inputs[0].shape[1]))
        _check_function(program.module, model, batch)
        return program
    module = trace_as_written(model, batch).module
    canonicalise(module)
    module.graph.eliminate_dead_code()
    _drop_unused_tensors(module)
    module.recompile()
    _check_function(module, model, batch)
    names = _names(module)
    states = declared_states(model.inputs)
    if states:
        share_state_names(module, names, states, model)
    return Program(module, names)


def trace_as_written(model: Model, batch: int = 1) -> Program:
    """The program of `model` before any rewrite: every stored tensor is the network's own, under its name there.

    Raises:
        ModelError: the network cannot be traced, and the reason of `torch.export` is passed on.
    """
    was_training, fast_path = model.network.training, torch.backends.mha.get_fastpath_enabled()
    model.network.eval()
    torch.backends.mha.set_fastpath_enabled(
        False
    )  # one operator for a whole transformer layer, which no exporter knows
    running: list[str] = []
    hooks = _follow_layers(model.network, running)
    try:
        with warnings.catch_warnings():
            # nn.LSTM holds its parameters in a list besides, which tracing takes for tensors that nobody registered
            warnings.filterwarnings("ignore", r"The tensor attributes? .* assigned during export", UserWarning)
            exported = torch.export.export(model.network, tuple(model.example(batch)))
    except Exception as err:  # torch.export raises many kinds; all of them mean the same to a user
        layer = f"layer {running[-1]}; " if running and running[-1] else ""
        raise ModelError(
            f"the network cannot be traced: {str(err).splitlines()[0] if str(err) else type(err).__name__}",
            f"{layer}{model.source.where}",
            "torch.export must accept the network: no Python control flow that depends on tensor values",
        ) from err
    finally:
        for hook in hooks:
            hook.remove()
        model.network.train(was_training)
        torch.backends.mha.set_fastpath_enabled(fast_path)
    _refuse_open_sizes(exported.graph, model)
    traced = exported.module(check_guards=False)
    assert isinstance(traced, fx.GraphModule)
    module = fx.GraphModule(traced, traced.graph).eval()  # a plain one: torch.export's own refuses .eval()
    returned = exported.call_spec.out_spec
    if returned is not None and isinstance(returned.type, type) and issubclass(returned.type, dict):
        module.graph.set_codegen(fx.graph.CodeGen())  # returns a tuple: exporters know no dicts
    _own_parameters(module)
    _name_inputs(module, model)
    return Program(module, _names(module))


def _follow_layers(network: nn.Module, running: list[str]) -> list[RemovableHandle]:
    """Hooks that keep in `running` the layers that are being called, the innermost last."""

    def enter(name: str) -> Callable[..., None]:
        return lambda layer, inputs: running.append(name)

    def leave(layer: nn.Module, inputs: object, output: object) -> None:
        running.pop()

    hooks: list[RemovableHandle] = []
    for name, layer in network.named_modules():
        hooks += [layer.register_forward_pre_hook(enter(name)), layer.register_forward_hook(leave)]
    return hooks


def _refuse_open_sizes(graph: fx.Graph, model: Model) -> None:
    """A size that depends on values, as a selection by a mask has, is fixed in no artifact."""
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and any(isinstance(size, torch.SymInt) for size in value.shape):
            layer = layer_of(node)
            operator_name = str(node.target).removeprefix("aten.").partition(".")[0]
            raise ModelError(
                f"what {operator_name} gives has a size that depends on the values it is given",
                f"{f'layer {layer}; ' if layer else ''}{model.source.where}",
                "no format takes sizes that are open: give as many results for every input, by topk or a mask",
            )


def _own_parameters(module: fx.GraphModule) -> None:
    """Give the graph copies of the weights: the program is edited, the model is not."""
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        set_tensor(module, name, value.detach().clone())


def _name_inputs(module: fx.GraphModule, model: Model) -> None:
    for node, spec in zip(_placeholders(module), model.inputs, strict=True):
        node.meta["edgekit_name"] = f"input:{spec.name}"


def _placeholders(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if node.op == "placeholder"]


def _check_function(module: fx.GraphModule, model: Model, batch: int) -> None:
    """Every artifact is compared with the program; so the program must be the network."""
    inputs = model.example(batch)
    was_training = model.network.training
    model.network.eval()
    try:
        with torch.no_grad():
            wanted, found = (pytree.tree_leaves(run(*inputs)) for run in (model.network, module))
    finally:
        model.network.train(was_training)
    for before, after in zip(wanted, found, strict=True):
        largest = before.abs().max().item() if before.is_floating_point() and before.numel() else 0.0
        if not (largest and math.isfinite(largest)):
            continue  # nothing to compare by: the quantize pass refuses what is not finite
        error = (after - before).abs().max().item() / largest
        if not error <= _SAME_FUNCTION_RATIO:
            raise ModelError(
                f"the traced program differs from the network by {error:.2e} of its largest output",
                model.source.where,
                "a network whose eval mode depends on anything but its inputs cannot be exported; else report it",
            )


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
            kind = str(node.target).split(".")[1] if str(node.target).startswith("aten.") else node.name
            # chains of movement differ between batches, what they move does not
            base = f"{names[origin(node)]}/{kind}" if node.meta.get(MADE) else f"{layer_of(node)}/{kind}"
            seen = taken.get(base, 0)
            taken[base] = seen + 1
            names[node] = base if seen == 0 else f"{base}_{seen}"
    return names
