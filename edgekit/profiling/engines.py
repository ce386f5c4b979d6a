"""TensorRT engines: built on the board that runs them, kept with their passport, built again where it does not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from edgekit.agent.engine_passport import explained
from edgekit.schema.manifest import ArtifactRow

TIMING_CACHE_FOLDER = "~/.cache/edgekit/tensorrt"  # on the board
_BUILD_TIMEOUT_S = 7200.0
_ASK_TIMEOUT_S = 120.0
_IN_PASSPORT = (  # options that make another engine
    "precision",
    "strongly_typed",
    "sparse_weights",
    "profiles",
    "workspace_bytes",
    "optimisation_level",
    "dla_core",
    "gpu_fallback",
)
_BEFORE = {"sparse_weights": False}  # what engines were built with whose passports do not know the option
_RESULTS = {
    "engine": "model.engine",
    "timing_cache": "timing.cache",
    "layers": "layers.json",
    "passport": "passport.json",
}


class Session(Protocol):
    """What is needed of `edgekit.devices.session.AgentSession`."""

    def run(
        self,
        job: Mapping[str, Any],
        files: Mapping[str, Path],
        results: Mapping[str, Path],
        *,
        timeout_s: float,
        on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Carry out a job on the board."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """How an engine is built; see `edgekit.agent.engine.build_engine`.

    Attributes:
        precision: 'int8' wants Q/DQ in the ONNX file, the others want none.
        strongly_typed: types of the network alone decide; TensorRT 11 knows nothing else.
        sparse_weights: the builder tries kernels for weights in the 2:4 pattern, and takes them where they are faster.
        profiles: one per optimisation profile: input -> {min, opt, max} shapes; only inputs of dynamic shape.
        workspace_bytes: most scratch memory of a layer; none: all that the GPU has.
        optimisation_level: 0 to 5, how long the builder searches; none: TensorRT's default.
        dla_core: the deep learning accelerator to build for; none: the GPU.
        gpu_fallback: layers that the DLA cannot take run on the GPU.
        device: number of the GPU.
        layer_runs: runs that the layers' times are the mean of; 0: they are not timed.
    """

    precision: Literal["fp32", "fp16", "int8"] = "fp16"
    strongly_typed: bool = False
    sparse_weights: bool = False
    profiles: tuple[Mapping[str, Mapping[str, tuple[int, ...]]], ...] = ()
    workspace_bytes: int | None = None
    optimisation_level: int | None = None
    dla_core: int | None = None
    gpu_fallback: bool = False
    device: int = 0
    layer_runs: int = 20


@dataclass(frozen=True)
class EngineBuilt:
    """An engine and what is known of it.

    Attributes:
        path: the engine; `timing.cache`, `layers.json` and `passport.json` lie beside it.
        passport: what it was made from, how and where.
        layers: [{name, operator, mean_ms, runs, precision}] in order of execution.
        layers_unavailable: why `layers` is empty; '' where it is not.
        seconds: that building took on the board; 0: it was there already.
        built_because: why it was built: 'no engine yet', or what did not fit; '': it was there and fits.
        timing_cache_reused: whether the board knew timings from an earlier build.
        progress: whether TensorRT reported phases or only time could be told.
        not_on_dla: layers that the DLA cannot take.
    """

    path: Path
    passport: Mapping[str, Any]
    layers: tuple[Mapping[str, Any], ...]
    layers_unavailable: str
    seconds: float
    built_because: str
    timing_cache_reused: bool = False
    progress: str = ""
    not_on_dla: tuple[str, ...] = field(default=())

    @property
    def sha256(self) -> str:
        """Digest of the engine's file."""
        return str(self.passport["engine_sha256"])

    def row(self, row: ArtifactRow) -> ArtifactRow:
        """The row of the ONNX file as that of the engine: what `profile` and `infer` check the engine's file by."""
        size_bytes = self.path.stat().st_size
        return row.model_copy(update={"path": self.path.name, "sha256": self.sha256, "size_bytes": size_bytes})

    @property
    def runtime_options(self) -> dict[str, Any]:
        """The options that a case with the runtime `tensorrt` needs to load this engine."""
        options: dict[str, Any] = {"passport": dict(self.passport)}
        if self.passport.get("dla_core") is not None:
            options["dla_core"] = self.passport["dla_core"]
        return options


def engine_folder(home: Path, device: str, row: ArtifactRow) -> Path:
    """Where the store keeps the engine of a file for a board."""
    return home / "engines" / device / row.sha256[:16]


def build_engine(
    session: Session,
    onnx: Path,
    row: ArtifactRow,
    options: EngineOptions,
    folder: Path,
    *,
    timing_cache_folder: str | None = TIMING_CACHE_FOLDER,
    lease: Mapping[str, Any] | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
    timeout_s: float = _BUILD_TIMEOUT_S,
    because: str = "no engine yet",
) -> EngineBuilt:
    """Build an engine on the session's board and bring it back with its passport, timing cache and layers.

    Args:
        session: of the board.
        onnx: the file; its digest must be the one in `row`.
        row: what the manifest says of it.
        options: how.
        folder: where to put the four files here.
        timing_cache_folder: where the board keeps timings for the next build; none: nowhere.
        lease: of `edgekit.devices.session.lease_request`; TensorRT chooses kernels by timing them, so a build wants
            the board to itself.
        on_progress: gets {stage, done, total, left_s, elapsed_s} as the board tells it.
        timeout_s: of the build.
        because: goes into the result.

    Raises:
        DeviceError: the board or TensorRT refused, and why.
    """
    job: dict[str, Any] = {
        "kind": "build_engine",
        "runtime": "tensorrt",  # which of the board's Pythons
        "artifact": {"path": onnx.name, "sha256": row.sha256},
        "results": _RESULTS,
        "timing_cache_folder": timing_cache_folder,
        **_wishes(options),
    }
    if lease is not None:
        job["lease"] = dict(lease)
    folder.mkdir(parents=True, exist_ok=True)
    brought = {name: folder / name for name in _RESULTS.values()}
    answer = session.run(job, {onnx.name: onnx}, brought, timeout_s=timeout_s, on_progress=on_progress)
    return EngineBuilt(
        path=folder / _RESULTS["engine"],
        passport=answer["passport"],
        layers=tuple(answer["layers"]),
        layers_unavailable=answer["layers_unavailable"] or "",
        seconds=float(answer["seconds"]),
        built_because=because,
        timing_cache_reused=bool(answer["timing_cache"]["reused"]),
        progress=str(answer["progress"]),
        not_on_dla=tuple(answer["not_on_dla"]),
    )


def engine_for(
    session: Session,
    onnx: Path,
    row: ArtifactRow,
    options: EngineOptions,
    folder: Path,
    **building: Any,
) -> EngineBuilt:
    """The engine in `folder`, if it is of this file, made by these options, whole, and at home on this board; else a
    new one, and `built_because` names everything that did not fit.

    Where types of the network alone decide (TensorRT 11, strong types) and fp16 is asked of a float32 file, the engine
    is built from a float16 copy of it, `folder/model.float16.onnx`; inputs and outputs stay float32.

    Args:
        session: of the board.
        onnx: as in `build_engine`, and so are `row`, `options` and `building`.
        row: as there.
        options: as there.
        folder: where an earlier engine may be, and where a new one is put.
        **building: further arguments of `build_engine`.

    Raises:
        DeviceError: the board or TensorRT refused.
        FormatError: the network cannot be turned to float16.
    """
    kept = _passport(folder)
    job = {"kind": "compare_passport", "runtime": "tensorrt", "passport": kept or {}, "device": options.device}
    board = session.run(job, {}, {}, timeout_s=_ASK_TIMEOUT_S)
    version = str(board["here"]["tensorrt"])
    if options.precision == "fp16" and (options.strongly_typed or _only_strong(version)):
        onnx, row = float16_copy(onnx, row, folder)
    reasons = (explained(board["differences"]) if kept else "", _unfit(folder, kept, row, options, version))
    if kept is None or any(reasons):
        because = "; ".join(reason for reason in reasons if reason)
        return build_engine(session, onnx, row, options, folder, because=because, **building)
    layers = json.loads((folder / _RESULTS["layers"]).read_text(encoding="utf-8"))
    unavailable = "" if layers else "not timed when the engine was built"
    return EngineBuilt(folder / _RESULTS["engine"], kept, tuple(layers), unavailable, 0.0, "")


def _only_strong(version: str) -> bool:
    return int(version.partition(".")[0]) >= 11


def float16_copy(onnx: Path, row: ArtifactRow, folder: Path) -> tuple[Path, ArtifactRow]:
    """The file itself where it computes in float16 already, else a copy in `folder` that does; and its row.

    Raises:
        FormatError: the network cannot be turned to float16.
    """
    import onnx as library  # here: whoever only lists devices needs no onnx

    from edgekit.formats.tensorrt.half import to_float16

    proto = library.load(onnx)
    if any(tensor.data_type == library.TensorProto.FLOAT16 for tensor in proto.graph.initializer):
        return onnx, row
    content = to_float16(proto, onnx.name).SerializeToString(deterministic=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.float16.onnx"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return path, row.model_copy(update={"path": path.name, "sha256": digest, "size_bytes": len(content)})


def _wishes(options: EngineOptions) -> dict[str, Any]:
    """The options as the job and the passport have them: lists, not tuples."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(options)))
    return found


def _passport(folder: Path) -> dict[str, Any] | None:
    """What is kept here; {} where it cannot be read, None where there is none."""
    try:
        read = json.loads((folder / _RESULTS["passport"]).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _unfit(
    folder: Path, passport: Mapping[str, Any] | None, row: ArtifactRow, options: EngineOptions, version: str
) -> str:
    """Why the engine kept here is none for this file and these options; '' where it is one."""
    try:
        engine = hashlib.sha256((folder / _RESULTS["engine"]).read_bytes()).hexdigest()
        json.loads((folder / _RESULTS["layers"]).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "no engine yet"
    except (OSError, ValueError) as err:
        return f"the engine kept here cannot be read: {err}"
    if not passport:
        return "the engine kept here has no passport that can be read"
    if engine != passport.get("engine_sha256"):
        return "the engine kept here is not the one of its passport"
    if passport.get("onnx_sha256") != row.sha256:
        return "the engine kept here was built from another ONNX file"
    wishes = _wishes(options)
    wishes["strongly_typed"] |= _only_strong(version)
    had = {name: passport.get(name, _BEFORE.get(name)) for name in _IN_PASSPORT}
    return "; ".join(f"{name} was {had[name]}, is {wishes[name]}" for name in had if had[name] != wishes[name])
