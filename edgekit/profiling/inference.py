"""Samples through an artifact on a device: at once here, in pieces on a board, where room is short and links break."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.devices.detached import Progress
from edgekit.devices.session import AgentSession, lease_request
from edgekit.errors import DataError
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow

PIECE_BYTES = 16 * 1024 * 1024  # of samples at a time on a board: its disk, and what a lost link may cost
_TIMEOUT_S = 3600.0

Arrays = dict[str, Any]  # of NDArray[Any]; numpy's savez takes nothing stricter


@dataclass(frozen=True)
class Inference:
    """What an artifact gave for N samples.

    Attributes:
        outputs: float32 (N, ...) by the network's names, in the network's layout.
        codes: the integer codes of the same, only where the artifact itself gives them.
        runtime: what executed it.
        runtime_version: of that library.
    """

    outputs: dict[str, NDArray[np.float32]]
    codes: dict[str, NDArray[np.integer[Any]]]
    runtime: str
    runtime_version: str


def infer(
    device: Device,
    path: Path,
    row: ArtifactRow,
    runtime: str,
    inputs: Mapping[str, NDArray[Any]],
    input_layouts: Mapping[str, str],
    *,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
    raw: bool = False,
    session: AgentSession | None = None,
    piece_bytes: int | None = None,
    on_progress: Progress | None = None,
) -> Inference:
    """Run N samples through an artifact on a device, in batches of the artifact's own size.

    Args:
        device: where.
        path: the artifact's file; its digest must be the one in `row`.
        row: what the manifest says of it.
        runtime: name of the runtime.
        inputs: (N, ...) by the network's names, as the network takes them: sequences for one step of a recurrent
            network, which is run over them; its states are no inputs here.
        input_layouts: layout of each, by the same names.
        threads: of the runtime.
        options: of the runtime, such as an engine's passport or a delegate.
        raw: `inputs` are as stored: the device preprocesses them.
        session: on `device`; none: one of its own.
        piece_bytes: samples that are sent at a time, each piece a job of its own; none: all at once.
        on_progress: gets {done, total} in samples, and what the agent tells.

    Raises:
        DataError: an input of the artifact is not among `inputs`.
        DeviceError: the device or the runtime failed.
    """
    names = row.sample_inputs
    missing = [name for name in names if name not in inputs or name not in input_layouts]
    if missing:
        raise DataError(
            f"no samples or no layout for input {missing[0]!r}",
            f"artifact {path.name}",
            f"give all of {', '.join(names)}",
        )
    job: dict[str, Any] = {
        "kind": "infer",
        "runtime": runtime,
        "threads": threads,
        "options": dict(options or {}),
        "artifact": {"path": path.name, "sha256": row.sha256},
        "feeds": "feeds.npz",
        "inputs": [
            {
                "tensor": tensor.model_dump(),
                "network_layout": input_layouts.get(tensor.network_name, tensor.layout),
                "raw": raw and tensor.network_name in names,
            }
            for tensor in row.inputs
        ],
        "outputs": [
            {"tensor": tensor.model_dump(), "network_layout": tensor.layout.replace("NHWC", "NCHW")}
            for tensor in row.outputs
        ],
        "feedback": row.feedback,
        "results": "results.npz",
    }
    if device.transport != "local":  # a job of ours must not disturb what somebody measures there
        job["lease"] = lease_request()
    if session is None:
        with AgentSession(device) as own:
            return _infer(own, path, job, {name: inputs[name] for name in names}, piece_bytes, on_progress)
    return _infer(session, path, job, {name: inputs[name] for name in names}, piece_bytes, on_progress)


def _infer(
    session: AgentSession,
    path: Path,
    job: Mapping[str, Any],
    inputs: Arrays,
    piece_bytes: int | None,
    on_progress: Progress | None,
) -> Inference:
    session.keep(path.name, path)
    outputs: dict[str, list[NDArray[np.float32]]] = {}
    codes: dict[str, list[NDArray[np.integer[Any]]]] = {}
    total, version = len(next(iter(inputs.values()))), ""
    for first, piece in _pieces(inputs, piece_bytes):

        def tell(told: Mapping[str, Any], first: int = first) -> None:
            if on_progress is not None:
                on_progress({**told, "done": first + told["done"], "total": total} if "done" in told else told)

        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            feeds, results = Path(folder) / "feeds.npz", Path(folder) / "results.npz"
            np.savez(feeds, **piece)
            files, made = {"feeds.npz": feeds}, {"results.npz": results}
            result = session.run(job, files, made, timeout_s=_TIMEOUT_S, on_progress=tell)
            version = result["runtime_version"]
            with np.load(results, allow_pickle=False) as stored:
                for key in stored.files:
                    kind, _, name = key.partition(":")
                    (outputs if kind == "output" else codes).setdefault(name, []).append(stored[key])
    return Inference(
        {name: np.concatenate(parts) for name, parts in outputs.items()},
        {name: np.concatenate(parts) for name, parts in codes.items()},
        job["runtime"],
        version,
    )


def _pieces(inputs: Arrays, piece_bytes: int | None) -> Iterator[tuple[int, Arrays]]:
    """The samples in pieces of at most so many bytes, at least one sample each; with the index of the first."""
    count = len(next(iter(inputs.values())))
    sample_bytes = sum(array[:1].nbytes for array in inputs.values())
    step = count if piece_bytes is None else max(1, piece_bytes // max(1, sample_bytes))
    for first in range(0, max(count, 1), max(step, 1)):
        yield first, {name: array[first : first + step] for name, array in inputs.items()}
