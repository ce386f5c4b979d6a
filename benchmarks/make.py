"""Makes one file with one system, in a process of its own: `python make.py JOB`. Prints nothing; writes `made.json`.

A process a file: so that peak memory is that system's, and that no system warms another one's caches.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # torch.export imports it at its first call, and no loading of libraries is to be measured
from cases import EDGEKIT, NEAREST, Steps
from machine import local_convention
from memory import Memory
from peers import PEERS, Quantised
from surroundings import context_of
from torch import nn

from edgekit.data.samples import Samples
from edgekit.data.splits import find_data
from edgekit.formats.table import export
from edgekit.nets.load import build
from edgekit.passes.table import run_pass
from edgekit.schema.load import load_recipe
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.pass_options import parse_options
from edgekit.schema.recipe import Export, Step

FLOAT = "float"
EDGEKIT_SYSTEMS = (EDGEKIT, NEAREST)


@dataclass(frozen=True)
class Job:
    """What is to be made.

    Attributes:
        system: `float`, edgekit, or a peer.
        steps: edgekit's steps by name with their options; the recipe's where empty.
        draw: .npz of calibration `inputs` and `labels`.
        reference: folder of the float artifact, which a peer starts from.
        folder: where the file and made.json go.
    """

    system: str
    recipe: str
    format: str
    steps: Steps
    draw: str
    reference: str | None
    folder: str


@dataclass(frozen=True)
class Made:
    """A file, and what making it took.

    Attributes:
        quantise_s: calibration and rounding. A peer's includes writing the file, which is part of its one call.
        export_s: from the float network to the file that is quantised, or from the quantised network to the file.
        peak_rss_mb: what the process grew by while it quantised.
    """

    path: Path
    row: ArtifactRow
    quantise_s: float
    export_s: float
    peak_rss_mb: float


def read_made(folder: Path) -> Made:
    """What `make` left in a folder."""
    told = json.loads((folder / "made.json").read_text(encoding="utf-8"))
    row = ArtifactRow.model_validate(told.pop("row"))
    return Made(path=folder / row.path, row=row, **told)


def main(job_path: str) -> None:
    asked = json.loads(Path(job_path).read_text(encoding="utf-8"))
    job = Job(**{**asked, "steps": tuple(asked["steps"])})
    torch.set_num_threads(1)
    torch.export.export(nn.Linear(1, 1), (torch.ones(1, 1),))  # its modules load on first use: 1.5 s of any system's
    folder = Path(job.folder)
    made, export_s = _make(job, folder)
    told = {
        "row": made.row.model_dump(mode="json"),
        "quantise_s": made.seconds,
        "export_s": export_s,
        "peak_rss_mb": made.peak_rss_mb,
    }
    (folder / "made.json").write_text(json.dumps(told), encoding="utf-8")


def _make(job: Job, folder: Path) -> tuple[Quantised, float]:
    with np.load(job.draw) as stored:
        inputs, labels = stored["inputs"], stored["labels"]
    if job.system in PEERS:
        assert job.reference is not None
        reference = read_made(Path(job.reference))
        return PEERS[job.system](reference.path, reference.row, job.recipe, inputs, folder), reference.export_s
    recipe = load_recipe(job.recipe).recipe
    model = build(recipe.model, recipe.seed)
    draw = Samples((torch.from_numpy(inputs),), torch.from_numpy(labels))
    splits = replace(find_data(recipe.data).splits, calibration=draw)
    context = context_of(splits, job.format, recipe.seed, folder / "unfinished")
    started, memory = time.perf_counter(), Memory()
    if job.system != FLOAT:
        assert job.system in EDGEKIT_SYSTEMS
        for step in _steps(job, recipe.steps):
            model = run_pass(step.name, model, parse_options(step, f"recipe {recipe.name}"), context)
    quantised, grown_mb = time.perf_counter(), memory.grown_mb()
    artifact = export(model, job.format, local_convention(job.format), folder, "model", Export())
    return Quantised(artifact.row, quantised - started, grown_mb), time.perf_counter() - quantised


def _steps(job: Job, own: tuple[Step, ...]) -> list[Step]:
    if not job.steps:
        return list(own)
    return [Step(name=name, options=dict(options)) for step in job.steps for name, options in step.items()]


if __name__ == "__main__":
    main(sys.argv[1])
