from pathlib import Path

import pytest

RECIPE = """
name: kws
model:
  factory: nets:build
  arguments: {width: 8, act: relu}
  checkpoint: {path: "${KWS_DATA}/w.npz"}
  inputs: [{name: x, shape: [1, 1, 49, 10]}]
data: digits
steps:
  - train: {epochs: 2}
  - reparam
  - prune: {budget: {macs_ratio: 0.5}, importance: magnitude}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with one recipe file, kws.yaml."""
    (tmp_path / "kws.yaml").write_text(RECIPE)
    return tmp_path
