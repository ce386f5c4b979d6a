import pytest

from edgekit.errors import DataError, PassError, SchemaError
from edgekit.pipeline.request import BuildRequest, choose_recipe, find_device, plan_build
from edgekit.store.steps import StepStore

DIGITS = """
name: digits-test
model:
  factory: edgekit.nets.repvgg:repvgg_digits
  inputs: [{name: image, shape: [1, 1, 8, 8]}]
data: digits
"""
TEACHER = """
teacher:
  model:
    factory: edgekit.nets.repvgg:teacher_digits
    inputs: [{name: image, shape: [1, 1, 8, 8]}]
  steps: [train]
"""


@pytest.fixture
def planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = StepStore(tmp_path / "steps")

    def make(text: str, target: str = "jetson", explain: bool = False, **request: object):
        (tmp_path / "r.yaml").write_text(DIGITS + text)
        return plan_build(BuildRequest("r.yaml", target, **request), store, explain=explain)  # type: ignore[arg-type]

    make.store = store  # type: ignore[attr-defined]
    return make


def test_steps_stand_in_order_after_the_load_and_the_teacher_has_its_own(planned):
    plan = planned(TEACHER + "steps: [train, {prune: {budget: {macs_ratio: 0.5}}}, distill, reparam, quantize]")
    assert [step.name for step in plan.steps] == ["load", "train", "prune", "distill", "reparam", "quantize"]
    assert [step.name for step in plan.teachers[0]] == ["load", "train"]
    assert plan.steps[2].options.budget.macs_ratio == 0.5
    assert not any(step.cached for step in plan.steps)
    assert plan.name == "digits-test-jetson-orin-nano"


def test_the_float_reference_is_the_last_step_that_only_learned(planned):
    assert planned("steps: [train, train, {prune: {budget: {macs_ratio: 0.5}}}, train]").reference == 2
    assert planned("steps: [quantize]").reference == 0
    assert planned("steps: []").reference == 0
    assert planned("steps: [train, {train: {sparsity: {final: 0.5}}}, quantize]").reference == 1
    assert planned("steps: [{train: {sparsity: {final: 0.5}}}, quantize]").reference == 1  # nothing dense was trained


@pytest.mark.parametrize("late", ["train", "{prune: {budget: {macs_ratio: 0.5}}}", "reparam", "quantize"])
def test_nothing_comes_after_quantize(planned, late):
    with pytest.raises(PassError) as caught:
        planned(f"steps: [reparam, quantize, {late}]")
    assert caught.value.where == "r.yaml: steps.2"
    assert "before step 1" in caught.value.fix


def test_what_a_step_judges_by_must_be_there(planned, tmp_path):
    steps = "steps: [{quantize: {mode: auto}}]"
    assert planned(steps).steps[-1].options.mode == "auto"
    loader = "loader: digits\npreprocess: {raw_dtype: uint8, raw_layout: NHWC}\n"
    splits = "calibration: {part: train, count: 4}\ntest: {part: test}\n"
    (tmp_path / "small.yaml").write_text(f"name: small\n{loader}{splits}")
    with pytest.raises(DataError) as caught:
        planned(steps, settings=("data=./small.yaml",))
    assert "'small' has none" in caught.value.what
    assert caught.value.where == "r.yaml: steps.0"


def test_a_budget_of_time_needs_a_device_that_is_measured_on(planned):
    steps = "steps: [{quantize: {budget: {latency_ms: 2}}}]"
    assert planned(steps, "cpu-x86-64", device="local").steps[-1].options.budget.latency_ms == 2
    for request in ({}, {"device": "local", "measure": False}):
        with pytest.raises(PassError) as caught:
            planned(steps, "cpu-x86-64", **request)
        assert "--device" in caught.value.fix
    assert planned("steps: [{quantize: {budget: {size_bytes: 9}}}]").steps[-1].options.budget.size_bytes == 9


@pytest.mark.parametrize("budget", ["latency_ms: 2", "latency_ratio: 0.5"])
def test_so_does_one_of_pruning(budget, planned):
    steps = f"steps: [train, {{prune: {{budget: {{{budget}}}}}}}]"
    assert planned(steps, "cpu-x86-64", device="local").steps[-1].options.budget.measured
    with pytest.raises(PassError) as caught:
        planned(steps, "cpu-x86-64")
    assert budget.split(":")[0] in caught.value.what
    assert "macs_ratio" in caught.value.fix


def test_a_stored_search_is_of_the_device_that_it_asked(planned):
    steps = "steps: [train, {prune: {budget: {macs_ratio: 0.5}}}]"
    alone, there = (planned(steps, "cpu-x86-64", **given).steps[-1].key for given in ({}, {"device": "local"}))
    assert alone.key != there.key
    ranked = steps.replace("{budget", "{method: ranking, budget")
    alone, there = (planned(ranked, "cpu-x86-64", **given).steps[-1].key for given in ({}, {"device": "local"}))
    assert alone.key == there.key


def test_a_teacher_is_not_quantised(planned):
    with pytest.raises(PassError) as caught:
        planned(TEACHER.replace("[train]", "[train, quantize]") + "steps: [distill]")
    assert caught.value.where == "r.yaml: teacher.steps.1"


def test_distilling_from_nothing_is_refused_before_anything_runs(planned):
    with pytest.raises(PassError) as caught:
        planned("steps: [train, distill]")
    assert caught.value.where == "r.yaml: steps.1"
    assert "teacher" in caught.value.fix


AUTOBOT = "method: autobot, budget: {macs_ratio: 0.5}"


@pytest.mark.parametrize("step", ["train", "{prune: {" + AUTOBOT + "}}"])
def test_training_without_a_train_split_is_refused(step, planned, tmp_path):
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib" / "mine.yaml").write_text(
        "name: mine\nloader: digits\ncalibration: {part: train, count: 9}\ntest: {part: test}\n"
    )
    with pytest.raises(DataError) as caught:
        planned(f"steps: [{step}]", settings=["data=mine"])
    assert "'mine' has no train split" in caught.value.what
    planned(f"steps: [{{prune: {{{AUTOBOT}, autobot: {{split: calibration}}}}}}]", settings=["data=mine"])


def test_a_teacher_that_nothing_asks_for_is_not_planned(planned):
    assert planned(TEACHER + "steps: [train]").teachers == ()


def test_a_changed_option_changes_that_step_and_all_after_it(planned):
    first = planned("steps: [train, reparam, quantize]")
    second = planned("steps: [train, {reparam: {tolerance: 0.001}}, quantize]")
    same = [a.key.key == b.key.key for a, b in zip(first.steps, second.steps, strict=True)]
    assert same == [True, True, False, False]
    assert first.artifacts[0].export.key != second.artifacts[0].export.key


def test_a_teacher_that_learns_longer_changes_distill_but_not_what_is_before_it(planned):
    first = planned(TEACHER + "steps: [train, distill]")
    second = planned(TEACHER.replace("[train]", "[{train: {epochs: 3}}]") + "steps: [train, distill]")
    assert [a.key.key == b.key.key for a, b in zip(first.steps, second.steps, strict=True)] == [True, True, False]


def test_targets_share_steps_unless_one_reads_a_fact_of_theirs(planned):
    text = "steps: [train, {prune: {budget: {macs_ratio: 0.5}}}]"
    jetson, x86 = planned(text), planned(text, target="cpu-x86-64")  # channel multiples 16 and 8
    assert [a.key.key == b.key.key for a, b in zip(jetson.steps, x86.steps, strict=True)] == [True, True, False]


def test_a_stored_step_is_found_and_one_that_is_not_is_explained(planned):
    plan = planned("steps: [train]")
    step = plan.steps[1]
    assert planned("steps: [train]", explain=True).steps[1].why == ("nothing like it is stored",)
    planned.store.put(step.key.key, lambda folder: (folder / "x").write_text("y") and None, step.key.parts)
    again = planned("steps: [train]", explain=True)
    assert [s.cached for s in again.steps] == [False, True]
    changed = planned("steps: [{train: {epochs: 11}}]", explain=True)
    assert not changed.steps[1].cached
    assert changed.steps[1].why == ("options.epochs: 10 -> 11",)


def test_only_a_named_device_asks_for_float_versions(planned):
    text = "steps: [quantize]"
    assert all(one.variant.ships for one in planned(text).artifacts)
    assert not all(one.variant.ships for one in planned(text, device="local").artifacts)
    assert all(one.variant.ships for one in planned(text, device="local", measure=False).artifacts)


def test_a_recipe_may_not_loosen_a_gate_of_the_target_unless_it_is_allowed(planned):
    text = "steps: [quantize]\ngates: {parity_code_error: {at_most: 3}}"
    with pytest.raises(SchemaError):
        planned(text)
    allowed = planned(text, allow_override=True)
    assert allowed.parity_codes == 3
    assert planned("steps: [quantize]").parity_codes == 2


def test_what_is_built_when_nothing_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert choose_recipe(None) == "quickstart"
    assert choose_recipe("mine.yaml") == "mine.yaml"
    (tmp_path / "edgekit.yaml").write_text("name: x\n")
    assert choose_recipe(None) == "edgekit.yaml"


def test_a_bare_model_is_merged_and_quantised_with_what_is_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ["data=digits", "model.inputs=[{name: image, shape: [1, 1, 8, 8]}]"]
    request = BuildRequest("edgekit.nets.repvgg:repvgg_digits", "jetson", settings=settings)
    plan = plan_build(request, StepStore(tmp_path))
    assert [step.name for step in plan.steps] == ["load", "reparam", "quantize"]
    assert plan.recipe.recipe.name == "repvgg-digits"


def test_an_unknown_device_is_named_with_the_nearest(tmp_path, monkeypatch):
    from edgekit.errors import DeviceError

    monkeypatch.chdir(tmp_path)
    with pytest.raises(DeviceError) as caught:
        find_device("locl")
    assert "did you mean 'local'?" in caught.value.fix
    assert find_device("local").target == "cpu-x86-64"


def test_artifacts_are_called_by_the_numbers_of_the_step(planned):
    def precisions(options: str) -> list[str]:
        plan = planned(f"steps: [{{quantize: {{{options}}}}}]", "cpu-x86-64")
        return [artifact.variant.precision for artifact in plan.artifacts]

    assert precisions("weights: int4, activations: float") == ["int4-weights", "int4-weights"]
    assert precisions("activations: dynamic") == ["int8-dynamic", "int8-dynamic"]
    assert precisions("weights: int8") == ["int8", "int8"]


def test_what_is_only_simulated_makes_no_artifact(planned):
    with pytest.raises(PassError) as caught:
        planned("steps: [{quantize: {weights: e2m3, activations: e4m3}}]")
    assert "e4m3" in caught.value.what
    assert "activations: float" in caught.value.fix


RECOVER = "steps: [train, {prune: {budget: {macs_ratio: 0.5}, recover: {epochs: 2, method: kd}}}, quantize]"


def test_a_recover_block_is_a_step_that_learns_from_the_network_before_compression(planned):
    plan = planned(RECOVER)
    assert [step.name for step in plan.steps] == ["load", "train", "prune", "distill", "quantize"]
    assert (plan.steps[3].options.epochs, plan.steps[3].options.method) == (2, "kd")
    assert plan.steps[3].key.parts["teacher"] == plan.steps[1].key.key  # trained, and not pruned
    changed = planned(RECOVER, settings=("steps.1.prune.recover.epochs=1",))
    same = [a.key.key == b.key.key for a, b in zip(plan.steps, changed.steps, strict=True)]
    assert same == [True, True, True, False, False]


def test_a_recover_block_learns_from_the_teacher_where_there_is_one(planned):
    plan = planned(TEACHER + RECOVER)
    assert plan.steps[3].key.parts["teacher"] == plan.teachers[0][-1].key.key


def test_recovering_to_a_network_without_weights_names_the_block(planned):
    with pytest.raises(PassError) as caught:
        planned("steps: [{reparam: {recover: {}}}]")
    assert caught.value.where == "r.yaml: steps.0.reparam.recover"
    assert "let it `train`" in caught.value.fix


def test_a_student_that_learns_from_itself_needs_no_teacher(planned):
    plan = planned(TEACHER + "steps: [{distill: {method: uskd}}]")
    assert plan.teachers == ()
    assert plan.steps[1].key.parts["teacher"] is None


TWO = """
teachers:
  - model: &m {factory: "edgekit.nets.repvgg:teacher_digits", inputs: [{name: image, shape: [1, 1, 8, 8]}]}
    steps: [train]
  - {model: *m, steps: [{train: {epochs: 3}}]}
"""


def test_several_teachers_have_steps_of_their_own_and_are_for_methods_that_take_them(planned):
    plan = planned(TWO + "steps: [{distill: {method: meal}}]", settings=("teachers.1.steps.0.train.epochs=4",))
    assert [(step.who, step.name) for step in plan.every_step[:4]] == [
        ("teachers.0", "load"),
        ("teachers.0", "train"),
        ("teachers.1", "load"),
        ("teachers.1", "train"),
    ]
    assert plan.teachers[1][1].options.epochs == 4
    assert plan.steps[1].key.parts["teacher"] == [chain[-1].key.key for chain in plan.teachers]
    with pytest.raises(PassError) as caught:
        planned(TWO + "steps: [{distill: {method: nkd}}]")
    assert caught.value.where == "r.yaml: steps.0"
    assert "kd, meal" in caught.value.fix
    with pytest.raises(SchemaError) as wrong:
        planned(TWO.replace("epochs", "epoch") + "steps: [distill]")
    assert wrong.value.where == "r.yaml: teachers.1.steps.0.train"
    with pytest.raises(SchemaError) as both:
        planned(TWO + TEACHER + "steps: [distill]")
    assert "into the list" in both.value.fix


def test_a_teacher_learns_from_no_other(planned):
    with pytest.raises(PassError) as caught:
        planned(TEACHER.replace("[train]", "[distill]") + "steps: [distill]")
    assert caught.value.where == "r.yaml: teacher.steps.0"
