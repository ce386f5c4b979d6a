"""The job `infer`: every sample through an artifact, floats in the network's terms in and out."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit.agent.artifacts import checked_path, library_versions
from edgekit.agent.errors import AgentError
from edgekit.agent.preprocess import from_artifact, preprocess, to_artifact
from edgekit.agent.runtimes.table import RUNTIMES, RuntimeTable, runtime_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]


def infer(job: Mapping[str, Any], folder: Path, runtimes: RuntimeTable = RUNTIMES) -> dict[str, Any]:
    """Run all samples in batches of the artifact's own size; the last one is filled up and cut again.

    Job keys: runtime, threads, artifact {path, sha256}, feeds (.npz, one array (N, ...) per network input, by network
    name), inputs [{tensor, network_layout, raw}], outputs [{tensor, network_layout}], results (.npz to write). `tensor`
    is an ArtifactTensor as a dict; `raw` says that the samples still need its preprocessing.

    The results hold `output:<network name>` (float32) and, where the artifact itself gives integer codes,
    `codes:<network name>`.

    Raises:
        AgentError: the artifact, the feeds or the runtime are not what the job says.
    """
    path = checked_path(job, folder)
    feeds = _load(folder / str(job["feeds"]), [row["tensor"]["network_name"] for row in job["inputs"]])
    counts = {len(array) for array in feeds.values()}
    if len(counts) != 1 or 0 in counts:
        raise AgentError(
            "inputs of {} samples".format(", ".join(map(str, sorted(counts)))),
            str(job["feeds"]),
            "give every input the same number of samples, at least one",
        )
    samples = counts.pop()
    batch = int(job["inputs"][0]["tensor"]["shape"][0])
    parts: dict[str, list[NDArray[Any]]] = {}
    with runtime_class(job["runtime"], runtimes)(path, int(job["threads"])) as runtime:
        for start in range(0, samples, batch):
            given = runtime.infer(_batch(job["inputs"], feeds, start, batch))
            for row in job["outputs"]:
                tensor, name = row["tensor"], row["tensor"]["network_name"]
                if tensor["name"] not in given:
                    raise AgentError(
                        "the artifact has no output {!r}".format(tensor["name"]),
                        path.name,
                        "outputs: {}".format(", ".join(sorted(given))),
                    )
                array = given[tensor["name"]][: samples - start]
                parts.setdefault("output:" + name, []).append(from_artifact(tensor, array, row["network_layout"]))
                if tensor.get("scale") is not None:
                    codes = from_artifact(dict(tensor, scale=None), array, row["network_layout"])
                    parts.setdefault("codes:" + name, []).append(codes.astype(tensor["dtype"]))
        version = runtime.version
    results: Any = {key: np.concatenate(arrays) for key, arrays in parts.items()}
    np.savez(folder / str(job["results"]), **results)
    return {"samples": samples, "runtime_version": version, "libraries": library_versions()}


def _batch(inputs: list[dict[str, Any]], feeds: Arrays, start: int, batch: int) -> Arrays:
    """One batch by the artifact's names, filled up to its size with copies of the last sample."""
    made: Arrays = {}
    for row in inputs:
        tensor = row["tensor"]
        part = feeds[tensor["network_name"]][start : start + batch]
        if row.get("raw"):
            part = preprocess(tensor["preprocess"], part)
        part = to_artifact(tensor, part, row["network_layout"])
        if len(part) < batch:
            part = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        made[tensor["name"]] = part
    return made


def _load(path: Path, names: list[str]) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, zipfile.BadZipFile) as err:
        raise AgentError(f"the samples cannot be read: {err}", path.name, "send them again") from err
