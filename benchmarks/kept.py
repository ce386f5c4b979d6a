"""Files that were made and what they scored, kept by the content of what they depend on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from make import EDGEKIT_SYSTEMS, FLOAT, Job, Made, read_made
from numpy.typing import NDArray
from rows import describe_versions
from surroundings import TARGET
from trained import WEIGHTS, as_trained, training

from edgekit.data.samples import Samples
from edgekit.data.splits import find_data
from edgekit.errors import DataError
from edgekit.pipeline.keys import path_digest
from edgekit.pipeline.sources import follow_modules, module_of
from edgekit.profiling.inference import infer
from edgekit.schema.device import Device
from edgekit.schema.load import load_recipe
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.yaml_file import dump_yaml
from edgekit.store.digests import file_sha256
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
_TRAINING = ("edgekit.passes.train",)
_RECIPE = "recipe.yaml"


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
        return read_made(self._made(self._parts(job, reference), lambda into: _run(job, into)))

    def trained(self, name: str) -> str:
        """The recipe of a network whose training is done: the one of that name, or a file where it trains the network.

        Raises:
            DataError: the training failed.
        """
        loaded = load_recipe(name)
        steps = training(loaded.recipe)
        if not steps:
            return name
        recipe = loaded.recipe
        parts: Mapping[str, object] = {
            "trained": recipe.model.model_dump(mode="json"),
            "steps": [step.model_dump(mode="json") for step in steps],
            "seed": recipe.seed,
            "data": find_data(recipe.data).digest,
            "versions": self._versions,
            "code": follow_modules([*_TRAINING, module_of(recipe.model.factory)]).digest,
        }

        def train(into: Path) -> None:
            _process("trained.py", name, str(self._store.checkpoints(step_key(parts))), str(into))

        weights = self._made(parts, train) / WEIGHTS
        made = as_trained(recipe, weights, file_sha256(weights))
        text = dump_yaml(made)
        return str(self._made({"recipe": made}, lambda into: (into / _RECIPE).write_text(text, "utf-8")) / _RECIPE)

    def correct(self, file: Path, row: ArtifactRow, recipe: str, test: Samples, digest: str) -> NDArray[np.float64]:
        """(N,): 1 where the largest output of an artifact is the label, for every test sample at batch 1."""
        parts = {"score": row.sha256, "data": digest, "samples": len(test), "versions": self._versions}
        folder = self._store.find(step_key(parts))
        if folder is None:
            spec = load_recipe(recipe).recipe.model.inputs[0]
            runtime = {".onnx": "onnxruntime", ".tflite": "litert"}[file.suffix]
            inputs = {spec.name: test.inputs[0].numpy()}
            given = infer(Device(name="local", target=TARGET), file, row, runtime, inputs, {spec.name: spec.layout})
            right = given.outputs[row.outputs[0].network_name].argmax(1) == test.labels.numpy()
            folder = self._store.put(step_key(parts), lambda into: np.save(into / "right.npy", right), parts)
        found: NDArray[np.float64] = np.load(folder / "right.npy").astype(np.float64)
        return found

    def _made(self, parts: Mapping[str, object], write: Callable[[Path], object]) -> Path:
        """The folder of an entry: found, or written."""

        def into(folder: Path) -> None:
            write(folder)

        return self._store.find(step_key(parts)) or self._store.put(step_key(parts), into, parts)

    def _parts(self, job: Job, reference: Made | None) -> Mapping[str, object]:
        code = ["make", "peers"]
        if job.system in EDGEKIT_SYSTEMS:
            code = ["make", *_PASSES, f"edgekit.formats.{job.format}.export"]
        elif job.system == FLOAT:
            code = ["make", f"edgekit.formats.{job.format}.export"]
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
    _process("make.py", str(path))


def _process(script: str, *arguments: str) -> None:
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        what = said[-1] if said else f"exit code {done.returncode}"
        raise DataError(what, f"{script} {' '.join(arguments)}", "see its message")
