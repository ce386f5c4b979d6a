"""examples/notebook/digits.py is run as it stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook" / "digits.py"


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path):
    for library in ("torch", "onnxruntime", "sklearn"):
        pytest.importorskip(library, reason="the notebook trains, exports and runs")
    environment = {**os.environ, "PYTHONPATH": str(NOTEBOOK.parents[2]), "EDGEKIT_HOME": "home", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(NOTEBOOK)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "shipped/model.onnx" in said
    assert "off by 0 codes" in said or "off by 1 codes" in said
    assert "verified: True" in said
    assert "in latency\nno gate may be held" in said
    assert "['load', 'train', 'prune', 'distill', 'reparam', 'quantize']" in said
    assert (tmp_path / "dist" / "quickstart-cpu-x86-64" / "manifest.json").is_file()
