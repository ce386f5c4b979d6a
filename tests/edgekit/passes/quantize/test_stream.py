"""A program run piece by piece gives what it gives at once, and keeps only what is still read."""

import torch
from torch import fx

from edgekit.nets.program import trace
from edgekit.passes.quantize.pieces import cut
from edgekit.passes.quantize.simulate import Simulation
from edgekit.passes.quantize.stream import MOST_SAMPLES, Prefix, Stream, operators, traced_batches
from tests import nets
from tests.edgekit.passes.quantize.simulated import surroundings, task_of


class _Counting(fx.Interpreter):
    """Remembers which nodes were run."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.ran: list[fx.Node] = []

    def run_node(self, n: fx.Node) -> object:
        self.ran.append(n)
        return super().run_node(n)


def test_values_are_those_of_the_whole_network_wherever_the_stream_stands() -> None:
    program = trace(nets.model(nets.TINY_RESIDUAL), 4)
    batches = [torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    last = operators(program)[-1]
    wanted = [program.module(batch) for batch in batches]
    stream = Stream(program, [(batch,) for batch in batches])
    for piece in cut(program)[:-1]:
        interpreter = fx.Interpreter(program.module)
        found = [values[last] for values in stream.values([last], interpreter)]
        for made, expected in zip(found, wanted, strict=True):
            torch.testing.assert_close(made, expected[0] if isinstance(expected, tuple) else expected)
        stream.run(piece.nodes, interpreter)


def test_what_was_run_is_not_run_again_and_only_what_is_read_later_is_kept() -> None:
    program = trace(nets.model(nets.TINY_RESIDUAL), 4)
    stream = Stream(program, [(torch.randn(4, 1, 6, 6),)])
    pieces = cut(program)
    interpreter = _Counting(program.module)
    index = next(i for i, piece in enumerate(pieces) if "conv2/conv2d" in piece.layers)
    for piece in pieces[: index + 1]:
        stream.run(piece.nodes, interpreter)
    assert list(stream._kept[0]) == [pieces[index].nodes[-1]]
    interpreter.ran.clear()
    list(stream.values([operators(program)[-1]], interpreter))
    assert set(interpreter.ran).isdisjoint(node for piece in pieces[: index + 1] for node in piece.nodes)


def test_samples_lie_in_equal_batches() -> None:
    model = nets.model(nets.TINY_CONV)
    for count, batches, size in ((40, 1, 40), (7, 1, 7), (65, 3, 21)):
        context, _ = surroundings(model)
        (inputs,) = model.example(count)
        task, _ = task_of(model, context)
        samples = type(task.samples)((inputs,), torch.zeros(count, dtype=torch.int64))
        _, found = traced_batches(type(task)(model, samples, task.options, context))
        assert [len(batch) for (batch,) in found] == [size] * batches
        torch.testing.assert_close(torch.cat([batch for (batch,) in found]), inputs[: size * batches])
    assert MOST_SAMPLES == 1024


def test_the_two_streams_of_a_prefix_are_the_float_and_the_rounded_network() -> None:
    model = nets.model(nets.TINY_RESIDUAL)
    context, _ = surroundings(model)
    task, table = task_of(model, context, weights="int4")
    prefix = Prefix.of(task)
    prefix.run(cut(prefix.program)[0].nodes, table)
    last = operators(prefix.program)[-1]
    inputs = task.samples.inputs[0]
    size = len(inputs) // len(prefix.exact)
    for index, values in enumerate(prefix.exact.values([last], prefix.floating(table))):
        torch.testing.assert_close(values[last], model.network(inputs[index * size : (index + 1) * size]))
    simulation = Simulation(prefix.program, table)
    for index, values in enumerate(prefix.rounded.values([last], simulation)):
        whole = Simulation(prefix.program, table).run(inputs[index * size : (index + 1) * size])
        torch.testing.assert_close(values[last], whole[0] if isinstance(whole, tuple) else whole)
