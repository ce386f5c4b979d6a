import pytest

from edgekit.errors import ModelError
from edgekit.init.ask import ask
from edgekit.init.facts import Question


def test_a_process_that_dies_is_told_with_what_it_said(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="looks at a network")
    (tmp_path / "ends_here.py").write_text(
        "import os, sys\n\nprint('ran out', file=sys.stderr, flush=True)\nos._exit(9)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        ask(Question(data="ends_here:samples", factory="ends_here:make"))
    assert "ran out" in caught.value.what
    assert caught.value.where == "ends_here:make"
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".json") == []
