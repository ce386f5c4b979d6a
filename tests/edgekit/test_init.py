import importlib
import subprocess
import sys

import pytest

import edgekit


def test_importing_and_planning_import_no_torch(tmp_path):
    code = (
        "import sys, edgekit as ek; light = len(sys.modules); ek.plan('quickstart', 'jetson'); "
        "print(light < 200, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["True", "False", "False"]


def test_every_name_that_is_offered_is_there():
    for name in edgekit.__all__:
        assert getattr(edgekit, name) is not None
    assert edgekit.load_recipe is importlib.import_module("edgekit.schema.load").load_recipe
    assert dir(edgekit) == sorted(edgekit.__all__)


def test_a_name_that_is_not_offered_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        _ = edgekit.bild


def test_fields_of_the_request_are_keyword_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = edgekit.plan("quickstart", "jetson", settings=["seed=5"], home=tmp_path / "elsewhere")
    assert plan.recipe.recipe.seed == 5
