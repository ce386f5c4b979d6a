import subprocess
import sys

from edgekit.pipeline import sources
from edgekit.pipeline.sources import follow_loader, follow_modules, module_of


def digest(*modules: str) -> str:
    return follow_modules(modules).digest


def test_comments_docstrings_and_layout_do_not_count(workplace):
    before = digest("own_code")
    code = (workplace / "own_code.py").read_text()
    (workplace / "own_code.py").write_text("# why\n\n" + code.replace("Share of rows that are right.", "Accuracy."))
    assert digest("own_code") == before


def test_a_changed_constant_counts(workplace):
    before = digest("own_code")
    code = (workplace / "own_code.py").read_text()
    (workplace / "own_code.py").write_text(code.replace("width * 16", "width * 17"))
    assert digest("own_code") != before


def test_a_module_beside_it_that_it_imports_counts(workplace):
    before = digest("own_code")
    (workplace / "own_scale.py").write_text("SCALE = 2.0\n")
    assert digest("own_code") != before


def test_a_module_that_it_does_not_import_does_not_count(workplace):
    before = digest("own_code")
    (workplace / "other.py").write_text("X = 1\n")
    assert digest("own_code") == before


def test_libraries_are_named_with_their_versions(workplace):
    import numpy
    import torch

    found = follow_modules(["own_code"]).libraries
    assert found == {"numpy": numpy.__version__, "torch": torch.__version__}


def test_what_a_pass_imports_is_followed_but_no_other_pass():
    from edgekit.passes.table import PASSES

    quantize = follow_loader(PASSES["quantize"].load).libraries
    reparam = follow_loader(PASSES["reparam"].load).libraries
    assert "scipy" in quantize
    assert "scipy" not in reparam


def test_relative_imports_and_packages_are_followed(workplace):
    package = workplace / "own_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "__init__.py").write_text("from ..base import A\n")
    (package / "base.py").write_text("A = 1\n")
    (package / "top.py").write_text("from own_package import inner\n")
    before = digest("own_package.top")
    (package / "base.py").write_text("A = 2\n")
    assert digest("own_package.top") != before


def test_a_file_that_is_no_python_counts_by_its_bytes(workplace):
    (workplace / "broken.py").write_text("def (:\n")
    before = digest("broken")
    (workplace / "broken.py").write_text("def (((:\n")
    assert digest("broken") != before


def test_nothing_of_the_users_is_run(workplace):
    (workplace / "own_code.py").write_text("raise SystemExit(9)\n")
    code = (
        "import sys; from edgekit.pipeline.sources import follow_modules; follow_modules(['own_code', "
        "'edgekit.passes.prune.prune']); print(sorted({'torch', 'own_code', 'torch_pruning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_module_of():
    assert module_of("a.b:c") == "a.b"


def test_code_that_cannot_change_a_result_does_not_count(monkeypatch):
    seen = []
    read = sources._read
    monkeypatch.setattr(sources, "_read", lambda path, name: seen.append(name) or read(path, name))
    follow_modules(["edgekit.agent.main", "edgekit.passes.reparam"])
    assert {"edgekit.agent.timing", "edgekit.numerics.merge"} <= set(seen)
    assert not [name for name in seen if name.startswith(("edgekit.cli", "edgekit.pipeline", "edgekit.schema"))]
