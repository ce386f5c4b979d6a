"""Stand-ins for GPU and TensorRT; see `fake_gpu`."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.edgekit.agent.runtimes.fake_gpu import NETWORK, FakeCudart, fake_tensorrt


@pytest.fixture
def cudart(monkeypatch: pytest.MonkeyPatch) -> FakeCudart:
    library = FakeCudart()
    monkeypatch.setattr("edgekit.agent.runtimes.cuda.load_library", lambda: library)
    return library


@pytest.fixture
def use_tensorrt(monkeypatch: pytest.MonkeyPatch, cudart: FakeCudart) -> Callable[..., Any]:
    def use(version: str, **changes: Any) -> Any:
        trt = fake_tensorrt(version, **changes)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        return trt

    return use


@pytest.fixture
def build_job(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A job `build_engine` for a fake network, and its file in tmp_path."""

    def make(network: dict[str, Any] = NETWORK, **changes: Any) -> dict[str, Any]:
        content = json.dumps(network).encode()
        (tmp_path / "model.onnx").write_bytes(content)
        names = {"engine": "e.engine", "timing_cache": "t.cache", "layers": "l.json", "passport": "p.json"}
        return {
            "kind": "build_engine",
            "artifact": {"path": "model.onnx", "sha256": hashlib.sha256(content).hexdigest()},
            "precision": "fp16",
            "results": names,
            "layer_runs": 2,
            **changes,
        }

    return make
