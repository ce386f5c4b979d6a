"""How long single layers take on the device in each number format: each is exported and measured as a network.

The time of a layer alone holds the call of the runtime, and steps between floats and integers at its ends that it would
not have beside others. Differences between formats say which layer to choose; what a whole network takes is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

from torch import fx

from edgekit.errors import PassError
from edgekit.nets.graph import is_weight, set_tensor, tensor_of
from edgekit.nets.model import Model
from edgekit.nets.operators import activations
from edgekit.nets.program import Program, trace
from edgekit.nets.quantisation import QuantisationTable
from edgekit.passes.quantize.sensitivity import Sensitivity
from edgekit.passes.quantize.simulate import weighted, written
from edgekit.passes.quantize.task import Task
from edgekit.schema.profile import Profile
from edgekit.schema.recipe import ModelSource
from edgekit.schema.tensors import InputSpec, OutputSpec


def measure_ms(measure: Callable[[Model], Profile | None], model: Model) -> float:
    """p50 of a model on the device.

    Raises:
        PassError: there is no device.
    """
    profile = measure(model)
    if profile is None:
        raise PassError(
            "a budget of latency_ms is measured, and no device is named",
            "step quantize: budget",
            "build with --device NAME, or set a budget of size_bytes or bit_operations_ratio",
        )
    return profile.summary.p50_ms


def layer_times(
    task: Task, table: QuantisationTable, found: Sensitivity, numbers: Sequence[str]
) -> tuple[Mapping[str, float], ...]:
    """p50 in ms of each kernel alone, at batch 1, in each of `numbers`; empty for a kernel without a weight.

    Layers of equal shapes are measured once.

    Raises:
        PassError: there is no device.
    """
    program = trace(task.model)
    known: dict[Hashable, dict[str, float]] = {}
    times: list[Mapping[str, float]] = []
    for index, kernel in enumerate(found.anatomy.kernels):
        if kernel.weight is None:
            times.append({})
            continue
        shapes = _shapes(program, kernel.name)
        if shapes not in known:
            model = alone(program, kernel.name)
            known[shapes] = {
                number: measure_ms(
                    task.context.measure,
                    model if number == "float" else with_table(model, program, kernel.name, table, found, number),
                )
                for number in numbers
            }
        times.append(known[shapes])
        task.context.progress(index + 1, len(found.anatomy.kernels), "measuring layers")
    return tuple(times)


def alone(program: Program, layer: str) -> Model:
    """A layer, with the activation that its kernel applies, as a float network of its own: one input, one output."""
    node, out = _kernel(program, layer)
    (source, *_) = activations(node)
    module, graph = fx.GraphModule({}, fx.Graph()), fx.Graph()
    copies = {source: graph.placeholder("input")}
    for stored in node.all_input_nodes:
        if is_weight(stored):
            set_tensor(module, stored.name, tensor_of(program.module, stored).clone())
            copies[stored] = graph.get_attr(stored.name)
    for one in (node,) if out is node else (node, out):
        copies[one] = graph.node_copy(one, lambda read: copies[read])
    graph.output((copies[out],))
    module.graph = graph
    return Model(
        module.eval(),
        ModelSource(
            factory=f"edgekit.passes.quantize.latency:alone ({layer})",
            inputs=(InputSpec(name="input", shape=_sample_shape(source)),),
        ),
        (OutputSpec(name="output", shape=_sample_shape(out)),),
    )


def with_table(
    model: Model, program: Program, layer: str, table: QuantisationTable, found: Sensitivity, number: str
) -> Model:
    """What `alone` made of a layer, with the grids of the whole network's table and the layer's codes in `number`."""
    node, out = _kernel(program, layer)
    (source, *_) = activations(node)
    own = trace(model)
    ((name, new),) = weighted(own).items()
    ends = {own.edge_name(activations(new)[0]): program.edge_name(source), written(own)[-1]: program.names[out]}
    edges = {mine: table.edges[theirs] for mine, theirs in ends.items() if theirs in table.edges}
    weights = {own.weight_name(new): found.codes[number][program.weight_name(node)]}
    means = {name: table.means[layer]} if layer in table.means else {}
    made = QuantisationTable(edges, weights, means, activations=table.activations)
    return Model(model.network, model.source, model.outputs, table=made)


def _kernel(program: Program, layer: str) -> tuple[fx.Node, fx.Node]:
    """A layer's node, and the one whose value its kernel writes."""
    node = program.node(layer)
    return node, node if layer in written(program) else next(iter(node.users))


def _shapes(program: Program, layer: str) -> Hashable:
    """Equal for layers that take equally long."""
    node, out = _kernel(program, layer)
    tensors = [
        _shape(read) if not is_weight(read) else tuple(tensor_of(program.module, read).shape)
        for read in node.all_input_nodes
    ]
    numbers = [str(arg) for arg in node.args if not isinstance(arg, fx.Node)]
    return str(node.target), tuple(tensors), tuple(numbers), str(out.target)


def _sample_shape(node: fx.Node) -> tuple[int, ...]:
    """Shape with an axis of samples, which the tokens of a linear layer may lack."""
    shape = _shape(node)
    return shape if shape[0] == 1 else (1, *shape)


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)
