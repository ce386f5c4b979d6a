"""LiteRT's delegates, and what it cannot tell. Its kernels are tested where artifacts are measured."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.agent.errors import AgentError
from edgekit.agent.runtimes.litert import LiteRT

pytest.importorskip("ai_edge_litert")


def test_a_delegate_that_cannot_be_loaded_is_named(tmp_path: Path):
    library = str(tmp_path / "libedgetpu.so.1")
    with pytest.raises(AgentError) as caught:
        LiteRT(tmp_path / "m.tflite", 1, {"delegate": library}).__enter__()
    assert caught.value.what.startswith("the delegate cannot be loaded")
    assert caught.value.where == library


class FakeInterpreter:
    given: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, **given: Any) -> None:
        type(self).given = given

    def allocate_tensors(self) -> None: ...

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"name": "x", "index": 0}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"name": "y", "index": 1}]

    def get_signature_list(self) -> dict[str, Any]:
        return {}


def test_a_delegate_and_its_options_reach_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: None)
    asked = []

    def load_delegate(library: str, options: dict[str, Any]) -> str:
        asked.append((library, options))
        return "the delegate"

    runtime = LiteRT(tmp_path / "m.tflite", 3, {"delegate": "/lib/x.so", "delegate_options": {"cache": "/tmp/c"}})
    runtime._library = SimpleNamespace(Interpreter=FakeInterpreter, load_delegate=load_delegate)
    with runtime:
        pass
    assert asked == [("/lib/x.so", {"cache": "/tmp/c"})]
    assert FakeInterpreter.given["experimental_delegates"] == ["the delegate"]
    assert FakeInterpreter.given["num_threads"] == 3


def test_options_without_a_delegate_are_refused(tmp_path: Path):
    with pytest.raises(AgentError) as caught:
        LiteRT(tmp_path / "m.tflite", 1, {"delegate_options": {"a": 1}})
    assert caught.value.what == "delegate_options without a delegate"


def test_layers_are_not_available_where_and_why(tmp_path: Path):
    runtime = LiteRT(tmp_path / "m.tflite", 1, {})
    assert runtime.layers_unavailable == ""
    runtime.version = "3.0.1"
    assert "known here for 2.3.x, not for 3.0.1" in runtime.layers_unavailable
    runtime._c_library = tmp_path / "libLiteRt.so"  # as tflite_runtime, which has none
    assert "no times of operators" in runtime.layers_unavailable
    assert "delegate" in LiteRT(tmp_path / "m.tflite", 1, {"delegate": "/lib/x.so"}).layers_unavailable
