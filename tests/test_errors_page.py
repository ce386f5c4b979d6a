from pathlib import Path

import pytest

from tests.errors_page import CASES, render_errors

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"


def test_the_page_is_what_the_command_answers(monkeypatch):
    for library in ("torch", "onnx"):
        pytest.importorskip(library, reason="some of the inputs are networks")
    monkeypatch.delenv("EDGEKIT_HOME", raising=False)
    monkeypatch.delenv("EDGEKIT_DB", raising=False)
    assert len(CASES) >= 10
    assert PAGE.read_text(encoding="utf-8") == render_errors(), "run `make docs`"
