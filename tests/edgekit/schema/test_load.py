import re
from pathlib import Path

import pytest
import yaml

from edgekit.errors import SchemaError
from edgekit.schema.find import names, shipped_folder
from edgekit.schema.gates import Bound, Gates
from edgekit.schema.load import load_calibration, load_devices, load_recipe, load_target, loosened_gates

ENVIRONMENT = {"KWS_DATA": "/data/one"}


def load(folder, *overrides, environment=ENVIRONMENT, name="kws.yaml"):
    return load_recipe(name, overrides, cwd=folder, environment=environment)


def rewrite(folder, old, new, name="kws.yaml"):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def test_a_recipe_is_read_with_its_variables_expanded(folder):
    loaded = load(folder)
    assert loaded.recipe.model.checkpoint.path == "/data/one/w.npz"
    assert [step.name for step in loaded.recipe.steps] == ["train", "reparam", "prune"]
    assert loaded.recipe.steps[0].options == {"epochs": 2}
    assert loaded.files == (folder / "kws.yaml",)


def test_the_digest_depends_on_what_is_said_not_on_where_it_lies(folder, tmp_path_factory):
    loaded = load(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kws.yaml").write_text("# a comment\n" + (folder / "kws.yaml").read_text())
    moved = load(elsewhere, environment={"KWS_DATA": "/home/somebody"})
    assert moved.digest == loaded.digest
    assert moved.text == loaded.text
    assert "/data/one" not in loaded.text
    assert load(folder, "seed=1").digest != loaded.digest


def test_a_variable_that_decides_what_is_built_counts_in_the_digest(folder):
    rewrite(folder, "importance: magnitude", "importance: '${RANK:-taylor}'")
    default = load(folder)
    assert default.recipe.steps[2].options == {"budget": {"macs_ratio": 0.5}, "importance": "taylor"}
    assert load(folder, environment={**ENVIRONMENT, "RANK": "taylor"}).digest == default.digest
    assert load(folder, environment={**ENVIRONMENT, "RANK": "magnitude"}).digest != default.digest


def test_the_text_is_the_recipe_again(folder):
    loaded = load(folder, "steps.2.prune.importance=taylor")
    (folder / "again.yaml").write_text(loaded.text)
    again = load(folder, name="again.yaml")
    assert again.digest == loaded.digest
    assert again.recipe == loaded.recipe


def test_a_variable_that_is_not_set_is_named_with_its_key(folder):
    with pytest.raises(SchemaError) as caught:
        load(folder, environment={})
    assert "KWS_DATA" in caught.value.what
    assert caught.value.where == "kws.yaml: model.checkpoint.path"
    assert "KWS_DATA=" in caught.value.fix


@pytest.mark.parametrize(
    ("old", "new", "what", "where", "fix"),
    [
        ("data: digits", "dat: digits", "unknown key 'dat'", "kws.yaml", "did you mean 'data'?"),
        ("prune:", "prun:", "no pass is called 'prun'", "kws.yaml: steps.2", "did you mean 'prune'?"),
        (
            "importance:",
            "importanc:",
            "unknown key 'importanc'",
            "kws.yaml: steps.2.prune",
            "did you mean 'importance'?",
        ),
        (
            "magnitude}",
            "magnitud}",
            "'magnitud' is not one of",
            "kws.yaml: steps.2.prune.importance",
            "did you mean 'magnitude'?",
        ),
        ("epochs: 2", "epochs: 0", "0: input should be greater", "kws.yaml: steps.0.train.epochs", "passes over"),
        ("shape:", "shap:", "unknown key 'shap'", "kws.yaml: model.inputs.0", "did you mean 'shape'?"),
        ("path:", "pth:", "unknown key 'pth'", "kws.yaml: model.checkpoint", "did you mean 'path'?"),
        ("- reparam", "- {reparam: , prune: {}}", "names reparam, prune", "kws.yaml: steps.1", "one pass"),
        ("- reparam", "- [reparam]", "is ['reparam']", "kws.yaml: steps.1", "one pass"),
        ("data: digits", "", "key 'data' is missing", "kws.yaml", "add data: name of a calibration set"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_nearest_right_word(folder, old, new, what, where, fix):
    rewrite(folder, old, new)
    with pytest.raises(SchemaError) as caught:
        load(folder)
    assert what in caught.value.what
    assert caught.value.where == where
    assert fix in caught.value.fix


def test_set_changes_values_by_path(folder):
    recipe = load(
        folder,
        "seed=7",
        "steps.2.prune.importance=taylor",
        "steps.1.reparam.tolerance=1e-3",
        "model.arguments.width=16",
        "gates.latency_p50_ms.at_most=5",
        "export.formats=[onnx]",
    ).recipe
    assert recipe.seed == 7
    assert recipe.steps[2].options["importance"] == "taylor"
    assert recipe.steps[1].options["tolerance"] == 1e-3
    assert recipe.model.arguments == {"width": 16, "act": "relu"}
    assert recipe.gates.latency_p50_ms.at_most == 5
    assert recipe.export.formats == ("onnx",)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("sed=7", "unknown key 'sed'"),
        ("steps.2.prune.importanc=taylor", "unknown key 'importanc'"),
        ("steps.1.prune.keep=[a]", "step 1 is 'reparam'"),
        ("steps.9.prune.keep=[a]", "no step has the number 9"),
        ("name.x=1", "has no key 'x'"),
        ("seed", "not key=value"),
        ("model..width=1", "not key=value"),
        ("gates.size_bytes.at_mst=1", "unknown key 'at_mst'"),
        ("seed=[1", "not YAML"),
    ],
)
def test_set_refuses_what_is_not_there(folder, text, what):
    with pytest.raises(SchemaError, match=re.escape(what)) as caught:
        load(folder, text)
    assert caught.value.where.startswith("--set")


def test_a_preset_is_laid_under_the_recipe(folder):
    (folder / "small.yaml").write_text(
        "extends: kws.yaml\nname: small\nmodel: {arguments: {width: 4}}\nsteps: [quantize]\n"
    )
    loaded = load(folder, name="small.yaml")
    assert loaded.recipe.name == "small"
    assert loaded.recipe.model.arguments == {"width": 4, "act": "relu"}  # mappings are merged
    assert [step.name for step in loaded.recipe.steps] == ["quantize"]  # lists are replaced
    assert [file.name for file in loaded.files] == ["small.yaml", "kws.yaml"]
    assert "extends" not in loaded.text


def test_presets_in_a_circle_are_refused(folder):
    (folder / "a.yaml").write_text("extends: b.yaml")
    (folder / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(SchemaError, match="circle"):
        load(folder, name="a.yaml")
    (folder / "c.yaml").write_text("extends: nowhere.yaml")
    with pytest.raises(SchemaError) as caught:
        load(folder, name="c.yaml")
    assert caught.value.where.endswith("c.yaml: extends")


def test_every_shipped_target_and_alias_can_be_loaded(tmp_path):
    aliases = []
    for name in names("target", tmp_path):
        loaded = load_target(name, cwd=tmp_path)
        assert loaded.target.name == name
        assert loaded.override is None
        aliases += [*loaded.target.aliases, name]
    assert len(aliases) == len(set(aliases))
    assert {p.stem for p in (Path(__file__).parents[3] / "targets").glob("*.yaml")} == set(names("target", tmp_path))
    assert load_target("jetson", cwd=tmp_path).target.name == "jetson-orin-nano"


def test_every_shipped_fact_has_a_source_and_every_latency_gate_is_required(tmp_path):
    for name in names("target", tmp_path):
        target = load_target(name, cwd=tmp_path).target
        facts = [target.cores, target.channel_multiple, target.memory, target.bandwidth, target.power]
        for fact in (*facts, *target.peak.values()):
            assert fact is None or len(fact.source) > 15, name
        assert target.gates.latency_p50_ms.required, name
        assert target.gates.metric_drop.at_most == 0.01, name


def test_an_unknown_target_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(SchemaError) as caught:
        load_target("jetsn", cwd=tmp_path)
    assert caught.value.fix.startswith("did you mean 'jetson'?")


def own_target(folder, name="raspberry-pi-5", **gates):
    (folder / "targets").mkdir(exist_ok=True)
    content = yaml.safe_load((shipped_folder() / "targets" / f"{name}.yaml").read_text())
    content["gates"].update({gate: bound for gate, bound in gates.items() if bound})
    for gate in [gate for gate, bound in gates.items() if bound is None]:
        del content["gates"][gate]
    (folder / "targets" / f"{name}.yaml").write_text(yaml.safe_dump(content))


def test_a_target_of_the_users_wins_visibly(tmp_path):
    own_target(tmp_path, latency_p50_ms={"at_most": 10})
    loaded = load_target("pi5", cwd=tmp_path)
    assert loaded.target.gates.latency_p50_ms.at_most == 10
    assert loaded.override.path == "targets/raspberry-pi-5.yaml"
    assert loaded.override.digest == loaded.digest
    assert loaded.override.shipped_digest == load_target("pi5", cwd=tmp_path / "targets").digest != loaded.digest


@pytest.mark.parametrize("bound", [{"at_most": 50}, {"at_most": 10, "required": False}, {"at_least": 1}, None])
def test_a_target_of_the_users_may_not_loosen_a_shipped_gate(tmp_path, bound):
    own_target(tmp_path, latency_p50_ms=bound)
    for name in ("raspberry-pi-5", tmp_path / "targets" / "raspberry-pi-5.yaml"):
        with pytest.raises(SchemaError) as caught:
            load_target(name, cwd=tmp_path)
        assert caught.value.what == "loosens the shipped gate 'latency_p50_ms'"
        assert "at_most 33.3" in caught.value.fix
        assert load_target(name, allow_override=True, cwd=tmp_path).override is not None


def test_a_file_of_another_name_does_not_slip_past_by_the_name_inside(tmp_path):
    own_target(tmp_path, latency_p50_ms=None)
    renamed = (tmp_path / "targets" / "raspberry-pi-5.yaml").rename(tmp_path / "mine.yaml")
    with pytest.raises(SchemaError, match="loosens"):
        load_target(renamed, cwd=tmp_path)


def test_a_copy_that_says_the_same_is_no_override(tmp_path):
    own_target(tmp_path)
    assert load_target("pi5", cwd=tmp_path).override is None


def test_a_new_target_is_found_by_name_and_alias(tmp_path):
    own_target(tmp_path)
    text = (tmp_path / "targets" / "raspberry-pi-5.yaml").read_text()
    text = (
        text.replace("name: raspberry-pi-5", "name: a-board").replace("- rpi5", "- mine").replace("- pi5", "- jetson")
    )
    (tmp_path / "targets" / "raspberry-pi-5.yaml").unlink()
    (tmp_path / "targets" / "a-board.yaml").write_text(text)
    assert load_target("a-board", cwd=tmp_path).target.name == "a-board"
    assert load_target("mine", cwd=tmp_path).target.name == "a-board"
    assert load_target("jetson", cwd=tmp_path).target.name == "jetson-orin-nano"  # a shipped alias is not taken over
    (tmp_path / "targets" / "other.yaml").write_text(text)
    with pytest.raises(SchemaError, match="'a-board'"):
        load_target("other", cwd=tmp_path)


def test_gates_are_loosened_on_either_side():
    shipped = Gates(metric=Bound(at_least=0.9), size_bytes=Bound(at_most=1000, required=False))
    assert loosened_gates(shipped, Gates(metric=Bound(at_least=0.95), size_bytes=Bound(at_most=999))) == []
    assert [name for name, _ in loosened_gates(shipped, Gates(metric=Bound(at_least=0.89)))] == ["metric", "size_bytes"]


def test_the_checkout_is_no_override_of_itself():
    checkout = Path(__file__).parents[3]
    assert load_target("jetson", cwd=checkout).override is None
    assert load_devices(cwd=checkout).override is None


def test_devices_of_the_working_directory_win(tmp_path):
    assert load_devices(cwd=tmp_path).path == shipped_folder() / "devices.yaml"
    (tmp_path / "devices.yaml").write_text("devices:\n  - {name: bench, target: raspberry-pi-5}\n")
    loaded = load_devices(cwd=tmp_path)
    assert [device.name for device in loaded.devices.devices] == ["bench"]
    assert loaded.override.path == "devices.yaml"
    (tmp_path / "devices.yaml").write_text("devices: [{name: a, target: t}, {name: a, target: u}]")
    with pytest.raises(SchemaError, match="two devices are called 'a'"):
        load_devices(cwd=tmp_path)
    (tmp_path / "devices.yaml").write_text("devices:\n# none yet\n")
    assert load_devices(cwd=tmp_path).devices.devices == ()


def test_a_calibration_set_is_expanded_and_its_digest_is_not(tmp_path):
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib" / "words.yaml").write_text(
        "name: words\nloader: npz\narguments: {path: '${KWS_DATA}/words.npz'}\nclasses: [yes, no]\n"
        "calibration: {count: 10}\ntest: {start: 10}\n"
    )
    one = load_calibration("words", cwd=tmp_path, environment={"KWS_DATA": "/one"})
    two = load_calibration("words", cwd=tmp_path, environment={"KWS_DATA": "/two"})
    assert one.calibration.arguments == {"path": "/one/words.npz"}
    assert one.calibration.classes == ("yes", "no")
    assert one.digest == two.digest
    with pytest.raises(SchemaError) as caught:
        load_calibration("word", cwd=tmp_path)
    assert "did you mean 'words'?" in caught.value.fix


def test_every_shipped_calibration_set_can_be_loaded(tmp_path):
    for name in names("calibration set", tmp_path):
        assert load_calibration(name, cwd=tmp_path, environment={"EDGEKIT_DATA": "/data"}).calibration.name == name


def test_every_shipped_recipe_can_be_loaded(tmp_path):
    for name in names("recipe", tmp_path):
        assert load_recipe(name, cwd=tmp_path, environment={"EDGEKIT_DATA": "/data"}).recipe.name == name


def test_a_recipe_that_extends_the_shipped_one_of_its_name(tmp_path):
    shipped = names("recipe", tmp_path)
    if not shipped:
        pytest.skip("no recipe is shipped yet")
    name = "quickstart"
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / f"{name}.yaml").write_text(f"extends: {name}\nseed: 12345\n")
    loaded = load_recipe(name, cwd=tmp_path, environment={"EDGEKIT_DATA": "/data"})
    assert loaded.recipe.seed == 12345
    assert loaded.files == (tmp_path / "recipes" / f"{name}.yaml", shipped_folder() / "recipes" / f"{name}.yaml")
    assert [override.path for override in loaded.overrides] == [f"recipes/{name}.yaml"]
