"""Files that were made and what they scored, kept by the content of what they depend on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from make import EDGEKIT_SYSTEMS, FLOAT, TARGET, Job, Made, read_made
from numpy.typing import NDArray
from rows import describe_versions

from edgekit.data.samples import Samples
from edgekit.errors import DataError
from edgekit.pipeline.keys import path_digest
from edgekit.pipeline.sources import follow_modules
from edgekit.profiling.jobs import infer
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe
from edgekit.schema.manifest import ArtifactRow
from edgekit.store.steps import StepStore, step_key

LIBRARIES = (
    "torch",
    "torchao",
    "onnx",
    "onnxruntime",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "numpy",
)
_PASSES = ("edgekit.passes.quantize.quantize", "edgekit.passes.table")


class Kept:
    """The store of a benchmark."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._store = StepStore(root / "steps")
        self._versions = describe_versions(LIBRARIES)

    def make(self, job: Job, reference: Made | None) -> Made:
        """The file of a job: taken from the store, or made in a process of its own.

        Raises:
            DataError: the process failed; the last line that it said is passed on.
        """
        parts = self._parts(job, reference)
        folder = self._store.find(step_key(parts))
        if folder is None:
            folder = self._store.put(step_key(parts), lambda into: _run(job, into), parts)
        return read_made(folder)

    def correct(self, file: Path, row: ArtifactRow, recipe: str, test: Samples, digest: str) -> NDArray[np.float64]:
        """(N,): 1 where the largest output of an artifact is the label, for every test sample at batch 1."""
        parts = {"score": row.sha256, "data": digest, "samples": len(test), "versions": self._versions}
        folder = self._store.find(step_key(parts))
        if folder is None:
            spec = load_recipe(recipe).recipe.model.inputs[0]
            runtime = {".onnx": "onnxruntime", ".tflite": "litert"}[file.suffix]
            inputs = {spec.name: test.inputs.numpy()}
            given = infer(Device(name="local", target=TARGET), file, row, runtime, inputs, {spec.name: spec.layout})
            right = given.outputs[row.outputs[0].network_name].argmax(1) == test.labels.numpy()
            folder = self._store.put(step_key(parts), lambda into: np.save(into / "right.npy", right), parts)
        found: NDArray[np.float64] = np.load(folder / "right.npy").astype(np.float64)
        return found

    def _parts(self, job: Job, reference: Made | None) -> Mapping[str, object]:
        code = ["make", "peers"]
        if job.system in EDGEKIT_SYSTEMS:
            code = [*_PASSES, f"edgekit.formats.{job.format}.export"]
        elif job.system == FLOAT:
            code = [f"edgekit.formats.{job.format}.export"]
        return {
            "system": job.system,
            "recipe": load_recipe(job.recipe).digest,
            "steps": list(job.steps),
            "format": job.format,
            "draw": path_digest(Path(job.draw)),
            "reference": reference.row.sha256 if reference else None,
            "versions": self._versions,
            "code": follow_modules(code).digest,
        }


def _run(job: Job, folder: Path) -> None:
    path = folder / "job.json"
    path.write_text(json.dumps({**asdict(job), "folder": str(folder)}), encoding="utf-8")
    command = [sys.executable, str(Path(__file__).with_name("make.py")), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise DataError(said[-1] if said else f"exit code {done.returncode}", f"system {job.system}", "see its message")
