"""TensorRT engines of a build: made on the board that runs them, kept by device and file, brought into the bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgekit.devices.session import AgentSession, lease_request
from edgekit.errors import EdgekitError
from edgekit.pipeline.artifacts import Exported
from edgekit.pipeline.board import shown
from edgekit.pipeline.choose import Variant
from edgekit.pipeline.progress import Reporter
from edgekit.profiling.engines import EngineBuilt, EngineOptions, engine_folder, engine_for
from edgekit.schema.manifest import Skipped
from edgekit.schema.target import Target

EngineFunction = Callable[..., EngineBuilt]
_STAND_IN = "its engine is built on the target's own hardware: engine.json holds the command"


@dataclass(frozen=True)
class Engines:
    """What came of building on a board.

    Attributes:
        by_path: the engine of an artifact, by the artifact's path in the bundle.
        failed: whether one that should have been built was not.
    """

    by_path: dict[str, EngineBuilt] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()
    failed: bool = False

    def files(self, device: str) -> dict[str, Path]:
        """Everything that belongs to the engines, by path in the bundle. Evidence: no two builds give the same."""
        return {
            f"evidence/engines/{device}/{Path(path).stem}/{file.name}": file
            for path, engine in self.by_path.items()
            for file in sorted(engine.path.parent.iterdir())
            if file.is_file() and file.suffix != ".onnx"
        }


def build_engines(
    session: AgentSession,
    instead_of: str | None,
    target: Target,
    exported: Sequence[Exported],
    home: Path,
    reporter: Reporter,
    *,
    engine_for: EngineFunction = engine_for,
) -> Engines:
    """An engine for every shipped TensorRT artifact, where the board is of the target.

    One that was built before is used again if its passport fits the board as it is now; else what differs is said.

    Args:
        session: on the device.
        instead_of: target that the device only stands in for: no engine is built then.
        exported: every file of the build.
        home: folder of the store, which keeps engines.
    """
    built: dict[str, EngineBuilt] = {}
    skipped, failed = [], False
    for one in exported:
        variant = one.planned.variant
        if variant.format != "tensorrt" or not variant.ships:
            continue
        where = f"{one.row.path} on {session.device.name}"
        if instead_of is not None:
            skipped.append(Skipped(what="latency", where=where, reason=_STAND_IN))
            continue
        if variant.runtime == "trtexec":  # it builds and measures in one go: `measure_on`
            continue
        options = EngineOptions(engine_precision(variant, target), sparse_weights=one.row.two_of_four > 0)
        folder = engine_folder(home, session.device.name, one.row)
        building: dict[str, Any] = {"lease": lease_request()}
        try:
            with reporter.task(f"building the engine of {one.row.path} on {session.device.name}") as update:
                engine = engine_for(session, one.path, one.row, options, folder, on_progress=shown(update), **building)
        except EdgekitError as err:
            skipped.append(Skipped(what="engine", where=where, reason=f"{err.what}; {err.fix}"))
            failed = True
            continue
        built[one.row.path] = engine
        why = engine.built_because
        took = f"built in {engine.seconds:.0f} s ({why})" if why else "built before, and its passport fits"
        reporter.note(f"engine of {where}: {took}")
    return Engines(built, tuple(skipped), failed)


def engine_precision(variant: Variant, target: Target) -> Literal["fp32", "fp16", "int8"]:
    """What the engine computes in: int8 where the file says so, else the fastest float of the target."""
    if variant.precision == "int8":
        return "int8"
    return "fp16" if "fp16" in target.precisions else "fp32"
