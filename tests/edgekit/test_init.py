import ast
import importlib
import subprocess
import sys
from pathlib import Path

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


def test_type_checkers_see_the_same_names_as_the_table():
    tree = ast.parse(Path(edgekit.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    assert typed == edgekit._LAZY
    assert (Path(edgekit.__file__).parent / "py.typed").is_file()


def test_a_name_that_is_not_offered_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'bild'"):
        _ = edgekit.bild
