"""A recurrent network as one step and as a whole sequence: the same codes, in every format, and in PyTorch."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekit.formats.artifact import Artifact
from edgekit.formats.conventions.convention import CONVENTIONS
from edgekit.formats.conventions.grids import Grid
from edgekit.formats.conventions.lowering import lower
from edgekit.formats.conventions.witness import Witness
from edgekit.formats.recurrent import over_time
from edgekit.formats.table import export
from edgekit.nets.load import find_outputs
from edgekit.nets.model import Model
from edgekit.nets.recurrent import Recurrent, State, step_model
from edgekit.nets.steps import declared_states
from edgekit.passes.quantize.quantize import quantize
from edgekit.profiling.inference import infer
from edgekit.schema.device import Device
from edgekit.schema.passes import QuantizeOptions
from edgekit.schema.recipe import Export, ModelSource
from edgekit.schema.tensors import InputSpec
from tests import nets
from tests.edgekit.formats.quantised import context

FORMATS = [
    ("onnx", "onnxruntime-x86-vnni", "onnxruntime"),
    ("onnx", "onnxruntime-arm", "onnxruntime"),
    ("tflite", "litert", "litert"),
]


def _quantised(cell: str, steps: int) -> Model:
    """The table is made on sequences of six steps, whatever `steps` is."""
    model = nets.recurrent(cell, steps=6)
    table = quantize(model, QuantizeOptions(), context(model)).table
    return Model(**{**vars(nets.recurrent(cell, steps)), "table": table})


def _both(model: Model, name: str, convention: str, folder: Path) -> tuple[Artifact, Artifact]:
    """The whole sequence, and one step."""
    whole = export(model, name, convention, folder, "whole", Export())
    return whole, export(model, name, convention, folder, "step", Export(recurrent="step"))


def _answers(artifact: Artifact, runtime: str, x: Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    found = infer(Device(name="local", target=""), artifact.path, artifact.row, runtime, {"x": x.numpy()}, {"x": "NTC"})
    return found.outputs["output"], found.codes.get("output")


def _sequences(steps: int) -> Tensor:
    return torch.randn(12, steps, 3, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("name", "convention", "runtime"), FORMATS)
def test_both_forms_give_the_same_codes_after_every_step(cell, name, convention, runtime, tmp_path: Path):
    x = _sequences(6)
    for steps in (1, 3):
        model = _quantised(cell, steps)
        whole, step = _both(model, name, convention, tmp_path)
        one, codes = _answers(whole, runtime, x[:, :steps])
        other, same_codes = _answers(step, runtime, x[:, :steps])
        np.testing.assert_array_equal(one, other)
        if name == "tflite":
            np.testing.assert_array_equal(codes, same_codes)
        assert len(np.unique(one[:, 0])) > 3
        with torch.no_grad():
            witness = torch.cat([whole.program(row)[0] for row in x[:, :steps].split(1)]).numpy()
        scale = next(row.scale[0] for row in whole.row.quantisation if row.tensor == "fc/linear")
        assert np.abs(one - witness).max() <= 2.5 * scale


def _codes(grid: Grid) -> tuple[float, int, int, int, str]:
    return grid.scale, grid.zero_point, grid.qmin, grid.qmax, grid.dtype


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=lambda row: row.name)
def test_the_program_of_all_steps_is_that_of_one_step_in_a_loop(cell, convention):
    model = _quantised(cell, 4)
    step = step_model(model)
    lowered = lower(step, convention, 12)
    x = _sequences(4)
    places = {f"next_{name}": index + 1 for index, name in enumerate(spec.name for spec in step.inputs[1:])}
    states = [torch.zeros(12, spec.shape[1]) for spec in step.inputs[1:]]
    program = Witness(lowered.module, convention)
    for t in range(4):
        made = program(x[:, t], *states)
        states = [made[index] for index in places.values()]
    (whole,) = Witness(lower(model, convention, 12).module, convention)(x)
    assert torch.equal(whole, made[0])
    # what a state leaves as is what it enters as
    grids = [
        (lowered.inputs[index], lowered.outputs[index])
        for index in places.values()
        if lowered.inputs[index] is not None
    ]
    assert all(left is None or _codes(entered) == _codes(left) for entered, left in grids)
    assert grids or convention.name == "tensorrt"


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_a_float_network_is_unrolled_too(name, tmp_path: Path):
    model = nets.recurrent("lstm", steps=5)
    runtime = "litert" if name == "tflite" else "onnxruntime"
    artifact = export(model, name, "litert" if name == "tflite" else "onnxruntime-arm", tmp_path, "m", Export())
    x = _sequences(5)
    found, _ = _answers(artifact, runtime, x)
    with torch.no_grad():
        np.testing.assert_allclose(found, model.network(x).numpy(), rtol=1e-4, atol=1e-5)
    assert artifact.row.precision == "fp32"
    assert artifact.row.in_float == ()


def test_operators_are_counted_for_both_forms_and_weights_stored_once(tmp_path: Path):
    model = _quantised("gru", 6)
    whole, step = _both(model, "tflite", "litert", tmp_path)
    assert step.row.fused["FULLY_CONNECTED"] == 5
    assert whole.row.fused["FULLY_CONNECTED"] == 6 * 4 + 1  # the last layer once
    assert whole.row.fused["TANH"] == 6
    assert step.row.fused["DELEGATE"] == whole.row.fused["DELEGATE"] == 1
    nodes = [sum(number for op, number in row.fused.items() if op != "DELEGATE") for row in (step.row, whole.row)]
    assert step.row.nodes == whole.row.nodes == {"step": nodes[0], "unrolled": nodes[1]}
    assert nodes[1] == 1 + 6 + 6 * (nodes[0] - 1) + 1  # a reshape and slices, the cells, the last layer
    wide = export(_quantised("gru", 12), "onnx", "onnxruntime-arm", tmp_path, "wide", Export())
    narrow = export(model, "onnx", "onnxruntime-arm", tmp_path, "narrow", Export())
    graphs = [onnx.load(artifact.path).graph for artifact in (wide, narrow)]
    stored = [Counter(tensor.name for tensor in graph.initializer) for graph in graphs]
    assert stored[0] == stored[1]
    assert [len(graph.node) for graph in graphs] == [artifact.row.nodes["unrolled"] for artifact in (wide, narrow)]
    assert narrow.row.nodes["step"] == wide.row.nodes["step"] < narrow.row.nodes["unrolled"]


def test_the_rows_of_a_sequence_are_those_of_its_step(tmp_path: Path):
    model = _quantised("lstm", 3)
    whole, step = _both(model, "tflite", "litert", tmp_path)
    assert [(t.name, t.shape, t.layout) for t in whole.row.inputs] == [("x", (1, 3, 3), "NTC")]
    assert [t.name for t in whole.row.outputs] == ["output"]
    assert whole.row.feedback == {}
    assert step.row.feedback == declared_states(step_model(model).inputs) == {"next_h": "h", "next_c": "c"}
    assert whole.row.quantisation == step.row.quantisation
    names = Counter((row.tensor, row.role) for row in whole.row.quantisation)
    assert set(names.values()) == {1}
    kept = {row.node for row in whole.row.in_float}
    assert {"lstm/mul", "lstm/mul_1", "lstm/add_1", "lstm/tanh_1"} <= kept
    assert whole.row.in_float == step.row.in_float
    state = {t.name: (t.dtype, t.scale, t.zero_point) for t in (*step.row.inputs, *step.row.outputs)}
    assert state["h"] == state["next_h"]
    assert state["h"][0] == "int8"
    assert state["c"] == state["next_c"] == ("float32", None, None)


def test_an_engine_is_planned_for_the_whole_sequence(tmp_path: Path):
    artifact = export(_quantised("gru", 3), "tensorrt", "tensorrt", tmp_path, "model.tensorrt", Export())
    plan = (tmp_path / "engine.json").read_text()
    assert artifact.row.sha256 in plan
    assert '"shape": [\n        1,\n        3,\n        3\n      ]' in plan
    assert artifact.row.fused == {}


class Rotating(Recurrent):
    """Its state is moved, not computed, last: LiteRT's movement keeps the grid of what it moves."""

    def __init__(self) -> None:
        super().__init__()
        self.input, self.state, self.fc = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(3, 2)

    @property
    def states(self) -> tuple[State, ...]:
        return (State("h", 3),)

    def step(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        return ((self.input(x) + self.state(state[0]).tanh())[:, 3:],)

    def head(self, *state: Tensor) -> Tensor:
        return self.fc(state[0])


def rotating() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Rotating().eval()


def test_a_state_has_one_grid_however_the_step_makes_it(tmp_path: Path):
    source = ModelSource(
        factory="tests.edgekit.formats.test_recurrent:rotating",
        inputs=(InputSpec(name="x", shape=(1, 4, 3), layout="NTC"),),
    )
    network = rotating()
    model = Model(network, source, find_outputs(network, source))
    model = quantize(model, QuantizeOptions(), context(model))
    lowered = lower(step_model(model), CONVENTIONS["litert"])
    assert lowered.inputs[1] is not None
    assert lowered.outputs[1] is not None
    entered, left = ((grid.scale, grid.zero_point) for grid in (lowered.inputs[1], lowered.outputs[1]))
    assert entered == left
    whole, step = _both(model, "tflite", "litert", tmp_path)
    x = _sequences(4)
    np.testing.assert_array_equal(_answers(whole, "litert", x)[0], _answers(step, "litert", x)[0])


def test_a_witness_of_a_step_runs_over_the_sequence(tmp_path: Path):
    model = nets.recurrent("lstm", steps=4)
    step = export(model, "onnx", "onnxruntime-arm", tmp_path, "step", Export(recurrent="step"))
    x = _sequences(4)[:1]
    with torch.no_grad():
        answer, h, c = over_time(step.program, step.row)(x)
        torch.testing.assert_close(answer, model.network(x), rtol=1e-5, atol=1e-5)
    assert h.shape == c.shape == (1, 5)
    assert not torch.equal(h, c)
