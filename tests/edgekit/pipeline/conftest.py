"""A working directory with a network, data and a recipe of the user's own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MODULE = '''
import numpy as np
import torch
from torch import nn

from own_scale import SCALE


def network(width=4):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * 16, 2))


def samples():
    generator = np.random.default_rng(7)
    parts = {}
    for name, count in (("train", 64), ("calibration", 24), ("selection", 20), ("test", 30)):
        inputs = generator.normal(size=(count, 1, 4, 4)).astype(np.float32) * SCALE
        parts[name] = (inputs, (inputs.mean((1, 2, 3)) > 0).astype(np.int64))
    return parts


def share_right(outputs, labels):
    """Share of rows that are right."""
    return float((outputs.argmax(1) == labels).mean())
'''

RECIPE = """
name: own
model:
  factory: own_code:network
  inputs: [{name: image, shape: [1, 1, 4, 4]}]
data: own_code:samples
metric: own_code:share_right
steps:
  - train: {epochs: 6, batch_size: 16, learning_rate: 0.1}
  - quantize
export: {formats: [onnx]}
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """own_code.py and own.yaml, in a working directory of their own."""
    (tmp_path / "own_code.py").write_text(MODULE)
    (tmp_path / "own_scale.py").write_text("SCALE = 1.0\n")
    (tmp_path / "own.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKIT_HOME", raising=False)
    yield tmp_path
    for name in ("own_code", "own_scale"):
        sys.modules.pop(name, None)
