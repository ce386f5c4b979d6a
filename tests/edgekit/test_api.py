import inspect
import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import edgekit as ek
from edgekit.errors import DataError, SchemaError
from edgekit.pipeline.request import BuildRequest
from edgekit.store.profiles import Origin, ProfileStore
from tests.edgekit.pipeline.conftest import MODULE, RECIPE
from tests.edgekit.store.made import profile_of, timed

QUICK = {"warmup_ms": 1, "duration_s": 0.05, "min_runs": 30, "percentile": 50}


def test_build_takes_every_field_of_a_request_with_its_default():
    offered = inspect.signature(ek.build).parameters
    wanted = {field.name: field.default for field in fields(BuildRequest)}
    assert set(offered) == {*wanted, "reporter", "calib"}
    for name in set(wanted) - {"recipe", "target", "out", "home"}:
        assert offered[name].default == wanted[name], name
    assert Path(offered["out"].default) == wanted["out"]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A working directory with a network, data, a metric and a recipe of the user's own."""
    (tmp_path / "own_code.py").write_text(MODULE)
    (tmp_path / "own_scale.py").write_text("SCALE = 1.0\n")
    (tmp_path / "own.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_HOME", "home")
    monkeypatch.delenv("EDGEKIT_DB", raising=False)
    yield
    for name in ("own_code", "own_scale"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("own")
def test_build_profile_compare_and_verify_print_nothing(capfd):
    pytest.importorskip("onnxruntime", reason="builds, measures and runs an ONNX artifact")
    built = ek.build("own.yaml", "cpu-x86-64", out="there", settings=["steps.0.train.epochs=1"])
    assert built.exit_code == 0
    assert built.bundle == Path("there/own-cpu-x86-64")
    assert built.manifest == ek.read_manifest(built.bundle)
    assert (Path("home") / "steps").is_dir()

    report = ek.profile(built.bundle, settings=ek.MeasureSettings(**QUICK))
    (profile,) = report.profiles
    assert (profile.artifact, profile.device, report.failed) == ("model.onnx", "local", False)
    assert len(profile.samples_ms) >= 30

    compared = ek.compare(built.bundle, 1)
    assert [pair.comparison.verdict for pair in compared.latency] == ["no significant change"]
    assert (compared.reference.label, compared.candidate.label) != ("", "")
    assert ek.verify(built.bundle, parity=True).ok
    assert capfd.readouterr() == ("", "")


def test_two_profiles_are_compared_by_number_in_a_named_database(tmp_path):
    with ProfileStore(tmp_path / "p.sqlite") as store:
        for number, level_ms in ((1, 1.0), (2, 1.2)):
            store.add(profile_of(timed(level_ms, number)), Origin("kws", "pi", ships=True))
    (pair,) = ek.compare(1, "2", database=tmp_path / "p.sqlite").latency
    assert pair.comparison.verdict == "slower"
    assert 0.15 < pair.comparison.change < 0.25
    with pytest.raises(DataError):
        ek.compare(1, 3, database=tmp_path / "p.sqlite")


def test_a_plan_knows_what_is_stored_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = ek.plan("quickstart", "jetson", settings=["seed=5"], home=tmp_path / "elsewhere", explain=True)
    assert made.recipe.recipe.seed == 5
    assert {step.why for step in made.steps} == {("nothing like it is stored",)}


def test_data_are_named_beside_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_DATA", "/data")
    assert ek.plan("quickstart", "jetson", calib="mnist").recipe.recipe.data == "mnist"


def test_several_devices_are_told_when_they_end(monkeypatch):
    def on_boards(request, devices, done):
        for name in devices:
            done(name)
        return devices

    monkeypatch.setattr("edgekit.pipeline.profile.profile_on_boards", on_boards)
    heard = []
    assert ek.profile("m.onnx", ["a", "b", "a"], told=lambda title, fields: heard.append(title)) == ["a", "b"]
    assert heard == ["a has ended", "b has ended"]


@pytest.mark.parametrize("content", [None, b"", b"no model"])
@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.pth"])
def test_what_is_no_model_is_refused_in_three_fields(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(ek.EdgekitError) as caught:
        ek.profile(name)
    error = caught.value
    assert name in error.where
    assert error.what
    assert error.fix
    assert not Path(".edgekit").exists()


def test_an_input_without_a_batch_is_fed_and_measured(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="measures an ONNX artifact")
    monkeypatch.chdir(tmp_path)
    helper = pytest.importorskip("onnx").helper
    tensors = [helper.make_tensor_value_info(name, 1, []) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    Path("m.onnx").write_bytes(model.SerializeToString())
    (profile,) = ek.profile("m.onnx", settings=ek.MeasureSettings(**QUICK)).profiles
    assert profile.settings.batch == 1


def test_an_unknown_recipe_is_the_error_that_the_command_prints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SchemaError) as caught:
        ek.build("quikstart", "jetson")
    assert "did you mean 'quickstart'?" in caught.value.fix
    assert json.dumps(caught.value.args)
