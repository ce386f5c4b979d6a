import subprocess
import sys

from edgekit.cli.plan import _traced

RECIPE = """
name: mine
model:
  factory: edgekit.nets.repvgg:repvgg_digits
  inputs: [{name: image, shape: [1, 1, 8, 8]}]
data: digits
steps: [{train: {epochs: 3}}, {prune: {budget: {macs_ratio: 0.5}}}, reparam, quantize]
"""


def test_every_step_and_artifact_is_shown_in_order(edgekit, tmp_path):
    (tmp_path / "edgekit.yaml").write_text(RECIPE)
    result = edgekit("plan", "--target", "jetson")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mine -> jetson-orin-nano")
    shown = [line.split()[0] for line in lines if line.startswith(" ") and "─" not in line]
    steps = ["step", "load", "train", "prune", "reparam", "quantize"]
    assert shown == [*steps, "format", "tensorrt", "onnx", "tflite"]
    assert "epochs=3" in result.stdout
    assert "to do" in result.stdout


def test_json_holds_keys_and_what_they_are_made_of(edgekit_json, tmp_path):
    (tmp_path / "edgekit.yaml").write_text(RECIPE)
    code, document = edgekit_json("plan", "--target", "cpu-x86-64", "--device", "local")
    assert code == 0
    train = document["steps"][1]
    assert (train["name"], train["model"], train["options"]["epochs"], train["cached"]) == ("train", "model", 3, False)
    assert train["parts"]["input"] == document["steps"][0]["key"]
    assert [(a["format"], a["precision"], a["ships"]) for a in document["artifacts"]] == [
        ("onnx", "int8", True),
        ("tflite", "int8", True),
        ("onnx", "fp32", False),
        ("tflite", "fp32", False),
        ("onnx", "fp32", False),  # the network before it was pruned
        ("tflite", "fp32", False),
    ]


def test_explain_says_why_a_step_is_not_stored(edgekit, tmp_path):
    (tmp_path / "edgekit.yaml").write_text(RECIPE)
    result = edgekit("plan", "--target", "jetson", "--explain")
    assert "train is not stored:\n  nothing like it is stored" in result.stdout


def test_a_step_whose_input_changes_names_the_step_that_changes_it():
    makers = {"ab" * 32: "prune"}
    cut = f'input: "{"cd" * 28}... -> "{("ab" * 32)[:56]}...'
    assert _traced(cut, makers) == "input: prune is to do"
    assert _traced(cut.replace("ab", "ef"), makers) == cut.replace("ab", "ef")
    assert _traced("options.epochs: 1 -> 2", makers) == "options.epochs: 1 -> 2"


def test_what_a_build_would_refuse_is_refused_now(edgekit_json, tmp_path):
    (tmp_path / "edgekit.yaml").write_text(RECIPE)
    code, document = edgekit_json("plan", "--target", "cpu", "--device", "locl")
    assert (code, document["error"]["fix"]) == (4, "did you mean 'local'? devices: local")
    _, document = edgekit_json("plan", "--target", "cpu", "--set", "metric=top2")
    assert document["error"]["what"] == "no metric is called 'top2'"
    _, document = edgekit_json("plan", "--target", "cpu", "--set", "model.factory=mynet:build")
    assert document["error"]["what"] == "no module is called 'mynet'"
    (tmp_path / "mynet.py").write_text("raise RuntimeError('a plan runs nothing of the user')")
    assert edgekit_json("plan", "--target", "cpu", "--set", "model.factory=mynet:build")[0] == 0


def test_a_bare_model_without_data_and_inputs_is_told_how_to_name_them(edgekit_json):
    _, document = edgekit_json("plan", "edgekit.nets.repvgg:repvgg_digits", "--target", "cpu")
    assert "--calib NAME" in document["error"]["fix"]


def test_a_setting_is_laid_over_the_recipe(edgekit_json, tmp_path):
    (tmp_path / "edgekit.yaml").write_text(RECIPE)
    _, document = edgekit_json("plan", "--target", "jetson", "--set", "steps.1.prune.budget.macs_ratio=0.7")
    assert document["steps"][2]["options"]["budget"]["macs_ratio"] == 0.7


def test_a_recipe_that_cannot_be_is_an_error_with_its_place(edgekit_json, tmp_path):
    (tmp_path / "edgekit.yaml").write_text(RECIPE.replace("reparam, quantize", "quantize, reparam"))
    code, document = edgekit_json("plan", "--target", "jetson")
    assert code == 1
    assert document["error"]["where"] == "edgekit.yaml: steps.3"


def test_a_missing_target_is_a_usage_error(edgekit):
    assert edgekit("plan").exit_code == 2


def test_without_a_recipe_of_your_own_it_is_the_quickstart_and_no_torch_is_imported(tmp_path):
    code = (
        "import sys; from click.testing import CliRunner; from edgekit.cli.main import cli; "
        "r = CliRunner().invoke(cli, ['plan', '--target', 'jetson']); "
        "print(r.exit_code, r.stdout.split()[0], sorted({'torch', 'onnx', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "0 quickstart []"
