"""The job `infer`: every sample through an artifact, floats in the network's terms in and out."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

import numpy as np

from edgekit.agent.artifacts import checked_path, library_versions
from edgekit.agent.errors import AgentError
from edgekit.agent.preprocess import from_artifact, preprocess, to_artifact
from edgekit.agent.progress import tell
from edgekit.agent.runtimes.protocol import Runtime
from edgekit.agent.runtimes.table import RUNTIMES, RuntimeTable, runtime_class

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

_TELL_S = 1.0  # between two lines of progress


def infer(job: Mapping[str, Any], folder: Path, runtimes: RuntimeTable = RUNTIMES) -> dict[str, Any]:
    """Run all samples in batches of the artifact's own size; the last one is filled up and cut again.

    Job keys: runtime, threads, options (of the runtime; may be absent), artifact {path, sha256}, feeds (.npz, one
    array (N, ...) per network input, by network name), inputs [{tensor, network_layout, raw}], outputs [{tensor,
    network_layout}], feedback {output: input}, results (.npz to write). `tensor` is an ArtifactTensor as a dict;
    `raw` says that the samples still need its preprocessing. Where there is feedback the artifact is one step of a
    recurrent network: samples are sequences with an axis T, what an output gives goes into its input at the next step
    as it is, zeros at the first, and the outputs of the last step count.

    The results hold `output:<network name>` (float32) and, where the artifact itself gives integer codes,
    `codes:<network name>`.

    Raises:
        AgentError: the artifact, the feeds or the runtime are not what the job says.
    """
    path = checked_path(job, folder)
    states = set(job["feedback"].values())
    own = [row["tensor"]["network_name"] for row in job["inputs"]]
    feeds = _load(folder / str(job["feeds"]), [name for name in own if name not in states])
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
    told_at = time.monotonic()
    with runtime_class(job["runtime"], runtimes)(path, int(job["threads"]), job.get("options", {})) as runtime:
        for start in range(0, samples, batch):
            given = _run(runtime, job, feeds, start, batch)
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
            done = min(start + batch, samples)
            if time.monotonic() - told_at >= _TELL_S or done == samples:
                told_at = time.monotonic()
                tell(done=done, total=samples)
        version = runtime.version
    results: Any = {key: np.concatenate(arrays) for key, arrays in parts.items()}
    np.savez(folder / str(job["results"]), **results)
    return {"samples": samples, "runtime_version": version, "libraries": library_versions()}


def _run(runtime: Runtime, job: Mapping[str, Any], feeds: Arrays, start: int, batch: int) -> Arrays:
    """Outputs of one batch, by the artifact's names."""
    if not job["feedback"]:
        return runtime.infer(
            {
                row["tensor"]["name"]: _filled(to_artifact(row["tensor"], part, row["network_layout"]), batch)
                for row, part in _batch(job["inputs"], feeds, start, batch)
            }
        )
    inputs = {row["tensor"]["network_name"]: row["tensor"] for row in job["inputs"]}
    outputs = {row["tensor"]["network_name"]: row["tensor"] for row in job["outputs"]}
    pairs = [(outputs[made], inputs[taken]) for made, taken in job["feedback"].items()]
    for made, taken in pairs:
        if any(made.get(key) != taken.get(key) for key in ("dtype", "shape", "scale", "zero_point")):
            raise AgentError(
                "output {!r} cannot become input {!r}: their codes differ".format(made["name"], taken["name"]),
                str(job["artifact"]["path"]),
                "export the step again",
            )
    given: Arrays = {}
    states = {taken["name"]: to_artifact(taken, np.zeros(taken["shape"]), taken["layout"]) for _, taken in pairs}
    sequences = _batch([row for row in job["inputs"] if row["tensor"]["name"] not in states], feeds, start, batch)
    for step in range(_length(sequences)):
        frames = {
            row["tensor"]["name"]: _filled(
                to_artifact(row["tensor"], part[:, step], row["network_layout"].replace("T", "")), batch
            )
            for row, part in sequences
        }
        given = runtime.infer({**frames, **states})
        states = {taken["name"]: given[made["name"]] for made, taken in pairs}
    return given


def _batch(
    inputs: list[dict[str, Any]], feeds: Arrays, start: int, batch: int
) -> list[tuple[dict[str, Any], NDArray[Any]]]:
    """Each input with at most one batch of its samples, as the network takes them."""
    made = []
    for row in inputs:
        part = feeds[row["tensor"]["network_name"]][start : start + batch]
        made.append((row, preprocess(row["tensor"]["preprocess"], part) if row.get("raw") else part))
    return made


def _filled(part: NDArray[Any], batch: int) -> NDArray[Any]:
    """A whole batch: the last sample is repeated."""
    if len(part) == batch:
        return part
    return np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])


def _length(sequences: list[tuple[dict[str, Any], NDArray[Any]]]) -> int:
    """Steps of every sequence."""
    lengths = {part.shape[1] if row["network_layout"][1:2] == "T" else 0 for row, part in sequences}
    if len(lengths) != 1 or 0 in lengths:
        raise AgentError(
            "inputs of layouts {}".format(", ".join(row["network_layout"] for row, _ in sequences)),
            "job infer, feedback",
            "give sequences of one length with T as their second axis",
        )
    return lengths.pop()


def _load(path: Path, names: list[str]) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except (OSError, ValueError, zipfile.BadZipFile) as err:
        raise AgentError(f"the samples cannot be read: {err}", path.name, "send them again") from err
