"""What is wrong with the command line, the YAML or the machine: three fields, and nothing half-written."""

import pytest

from tests.edgekit.bad_input.conftest import half_written


def test_the_recipe_of_these_tests_builds(build, folder):
    pytest.importorskip("onnxruntime", reason="builds and runs an ONNX artifact")
    assert build().exit_code == 0
    assert (folder / "dist" / "own-cpu-x86-64" / "manifest.json").is_file()


def test_an_unknown_pass_names_the_nearest(refused):
    error = refused(over={"steps": [{"quantise": {}}]})
    assert error.what == "no pass is called 'quantise'"
    assert error.where == "own.yaml: steps.0"
    assert "did you mean 'quantize'?" in error.fix


def test_what_is_left_half_written_is_seen(folder):
    assert half_written(folder) == []
    whole, part = (folder / "home" / "steps" / "ab" / name for name in ("ab" * 32, ".ab.1234"))
    for path in (whole, part, folder / "dist", folder.parent / "temporary" / "x"):
        path.mkdir(parents=True)
    assert sorted(half_written(folder)) == sorted(
        ["work/dist", "temporary/x", f"work/home/steps/ab/{whole.name}", f"work/home/steps/ab/{part.name}"]
    )
