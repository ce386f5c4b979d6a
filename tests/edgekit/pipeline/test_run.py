"""Steps: order, cache, resume and what is told of them, with passes of our own."""

from typing import Any

import numpy as np
import pytest
import torch

from edgekit.data.splits import find_data
from edgekit.errors import PassError
from edgekit.nets.model import Model
from edgekit.passes.context import Context
from edgekit.passes.table import Pass
from edgekit.pipeline.plan import make_plan
from edgekit.pipeline.progress import Silent
from edgekit.pipeline.run import Workshop, run_steps
from edgekit.schema.calibration import CalibrationRow
from edgekit.schema.distill import DistillOptions
from edgekit.schema.load import load_recipe, load_target
from edgekit.schema.prune import PruneOptions
from edgekit.schema.train import TrainOptions
from edgekit.store.steps import StepStore

calls: list[str] = []
broken: set[str] = set()
taught: list[list[float]] = []  # by each step that learns: its teachers, each as the sum of its first weights


def shift(model: Model, options: Any, context: Context) -> Model:
    """Adds the options' epochs to every weight; asks the teacher where there is a temperature."""
    name = type(options).__name__
    calls.append(name)
    (context.folder / "checkpoint").write_text("half way")
    if name in broken:
        raise PassError("stopped", name, "go on")
    if isinstance(options, DistillOptions):
        taught.append([float(next(teacher.network.parameters()).detach().sum()) for teacher in context.teachers()])
    if isinstance(options, PruneOptions):
        context.record(CalibrationRow(source="samples", count=3, indices=(2, 0, 1), digest="d"))
    import copy

    network = copy.deepcopy(model.network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += getattr(options, "epochs", 1)
    return model.with_(network, name)


def _load():
    return shift


TABLE = {
    "train": Pass(TrainOptions, _load, needs="trainable"),
    "distill": Pass(DistillOptions, _load, needs="trainable"),
    "prune": Pass(PruneOptions, _load, needs="trainable"),
}
RECIPE = """
name: own
model: {factory: "own_code:network", inputs: [{name: image, shape: [1, 1, 4, 4]}]}
data: own_code:samples
metric: own_code:share_right
"""
TEACHER = """
teacher:
  model: {factory: "own_code:network", arguments: {width: 8}, inputs: [{name: image, shape: [1, 1, 4, 4]}]}
  steps: [{train: {epochs: 2}}]
"""


@pytest.fixture
def run(workplace):
    calls.clear()
    broken.clear()
    store = StepStore(workplace / "steps")

    def go(text: str, load_data=find_data):
        (workplace / "r.yaml").write_text(RECIPE + text)
        plan = make_plan(load_recipe("r.yaml"), load_target("cpu-x86-64"), None, store, table=TABLE)
        return run_steps(Workshop(plan, store, Silent(), TABLE, load_data)), plan

    go.store = store  # type: ignore[attr-defined]
    return go


def test_steps_run_in_order_and_rows_say_what_was_before_and_after(run):
    stages, _ = run("steps: [{train: {epochs: 3}}, {prune: {budget: {macs_ratio: 0.5}}}]")
    assert calls == ["TrainOptions", "PruneOptions"]
    load, train, prune = stages.rows
    assert (load.name, load.before, load.options) == ("load", None, {"factory": "own_code:network"})
    # conv 4*9 + 4, linear 2*64 + 2; MACs 4*9*16 + 2*64
    assert (load.after.params, load.after.macs, load.after.size_bytes) == (170, 704, 680)
    assert train.before == load.after
    assert train.options["epochs"] == 3
    assert prune.before == train.after
    first, last = (next(stage.model.network.parameters()) for stage in (stages.model[0], stages.model[2]))
    torch.testing.assert_close(last, first + 4)


def test_the_selection_metric_is_that_of_the_users_own_function(run):
    stages, _ = run("steps: []")
    data = find_data("own_code:samples")
    outputs = stages.model[0].model.network(data.splits.selection.inputs[0]).detach().numpy()
    labels = data.splits.selection.labels.numpy()
    assert stages.rows[0].after.metric == np.mean(outputs.argmax(1) == labels)


def test_a_second_run_runs_nothing_and_reads_no_data(run):
    first, _ = run("steps: [train, {prune: {budget: {macs_ratio: 0.5}}}]")
    calls.clear()

    def refuse(name: str):
        raise AssertionError("data were read")

    second, plan = run("steps: [train, {prune: {budget: {macs_ratio: 0.5}}}]", load_data=refuse)
    assert calls == []
    assert all(step.cached for step in plan.steps)
    assert [row.cached for row in first.rows] == [False] * 3
    assert [row.cached for row in second.rows] == [True] * 3
    assert [row.after for row in first.rows] == [row.after for row in second.rows]
    state, again = (stages.model[-1].model.network.state_dict() for stages in (first, second))
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_a_build_that_failed_goes_on_after_its_last_finished_step_with_its_checkpoints(run):
    broken.add("PruneOptions")
    with pytest.raises(PassError):
        run("steps: [train, {prune: {budget: {macs_ratio: 0.5}}}]")
    _, plan = None, None
    broken.clear()
    calls.clear()
    stages, plan = run("steps: [train, {prune: {budget: {macs_ratio: 0.5}}}]")
    assert calls == ["PruneOptions"]
    assert [row.cached for row in stages.rows] == [True, True, False]
    assert not (run.store.root / "unfinished" / plan.steps[2].key.key).exists()


def test_checkpoints_of_an_unfinished_step_stay(run):
    broken.add("TrainOptions")
    with pytest.raises(PassError):
        run("steps: [train]")
    (kept,) = (run.store.root / "unfinished").glob("*/checkpoint")
    assert kept.read_text() == "half way"


def test_a_teacher_is_made_when_it_is_asked_for_and_its_rows_come_first(run):
    stages, _ = run(TEACHER + "steps: [train, distill]")
    assert calls == ["TrainOptions", "DistillOptions", "TrainOptions"]  # distill asked in the middle
    assert [(row.model, row.name) for row in stages.rows] == [
        ("teacher", "load"),
        ("teacher", "train"),
        ("model", "load"),
        ("model", "train"),
        ("model", "distill"),
    ]


def test_a_stored_teacher_is_told_of_and_a_lost_one_that_nobody_needs_is_skipped_with_a_reason(run):
    text = TEACHER + "steps: [train, distill]"
    _, plan = run(text)
    calls.clear()
    stages, _ = run(text)
    assert calls == []
    assert [row.cached for row in stages.rows] == [True] * 5
    import shutil

    lost = plan.teachers[0][1].key.key
    shutil.rmtree(run.store.root / lost[:2] / lost)
    stages, _ = run(text)
    assert calls == []
    assert stages.teachers == ()
    assert stages.skipped[0].what == "teacher"


def test_what_a_pass_records_is_in_its_row_stored_or_not(run):
    text = "steps: [{train: {epochs: 1}}, {prune: {channel_ratio: 0.5}}]"
    for _ in range(2):
        loaded, trained, pruned = run(text)[0].rows
        assert pruned.calibration == CalibrationRow(source="samples", count=3, indices=(2, 0, 1), digest="d")
        assert loaded.calibration is None
        assert trained.calibration is None
    assert pruned.cached


def first_weights(stage):
    return float(next(stage.model.network.parameters()).detach().sum())


def test_a_recover_block_is_run_stored_and_told_of_as_a_step(run):
    text = "steps: [{train: {epochs: 3}}, {prune: {budget: {macs_ratio: 0.5}, recover: {epochs: 5}}}]"
    stages, plan = run(text)
    assert calls == ["TrainOptions", "PruneOptions", "DistillOptions"]
    assert [row.name for row in stages.rows] == ["load", "train", "prune", "distill"]
    assert stages.rows[-1].options["epochs"] == 5
    assert plan.original(3) == 1
    assert taught[-1] == [first_weights(stages.model[1])]  # trained, and not pruned
    calls.clear()
    run(text.replace("epochs: 5", "epochs: 6"))
    assert calls == ["DistillOptions"]


def test_several_teachers_are_given_in_their_order(run):
    second = TEACHER.split("teacher:")[1].replace("epochs: 2", "epochs: 9").replace("\n  model", "\n  - model")
    first = TEACHER.split("teacher:")[1].replace("\n  model", "\n  - model")
    nested = (first + second).replace("\n  steps", "\n    steps")
    stages, plan = run(f"teachers:{nested}steps: [{{distill: {{method: meal}}}}]")
    assert [row.model for row in stages.rows] == ["teachers.0"] * 2 + ["teachers.1"] * 2 + ["model"] * 2
    assert taught[-1] == [first_weights(stages.teachers[1]), first_weights(stages.teachers[3])]
    assert taught[-1][0] != taught[-1][1]
    assert len(plan.teachers) == 2
