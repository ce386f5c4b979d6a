"""The part of a build that a device has: engines built, artifacts timed and tested there, and what ships for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.devices.session import AgentSession
from edgekit.errors import DeviceError
from edgekit.nets.steps import sample_specs
from edgekit.pipeline.artifacts import Exported
from edgekit.pipeline.board import OnBoard, evaluate_on
from edgekit.pipeline.choose import stand_in_for
from edgekit.pipeline.engines import build_engines
from edgekit.pipeline.measure import Measured, measure_on
from edgekit.pipeline.request import BuildRequest
from edgekit.pipeline.run import Stages, Workshop
from edgekit.pipeline.speed import keep_faster
from edgekit.pipeline.stored import Stored, nothing_stored, stored_profiles
from edgekit.schema.manifest import Skipped
from edgekit.schema.target import Target
from edgekit.store.profiles import ProfileStore

_DESCRIBE_S = 120.0


@dataclass(frozen=True)
class OnDevice:
    """What ships, and what a device told of it.

    Attributes:
        exported: what ships, and float versions that do not.
        files: of engines that were built there, by path in the bundle.
        skipped: what was left out, and why.
        failed: whether something that should have been done there was not.
    """

    exported: tuple[Exported, ...]
    measured: Measured = field(default_factory=Measured)
    board: OnBoard = field(default_factory=OnBoard)
    files: tuple[tuple[str, Path], ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: bool = False


def use_device(
    request: BuildRequest,
    stages: Stages,
    exported: tuple[Exported, ...],
    workshop: Workshop,
    history: ProfileStore,
) -> OnDevice:
    """Build engines, measure latency and test accuracy on the device of a build, if it has one.

    Without one everything ships as it was exported. A device that fails raises nothing: what it did not tell is in
    `skipped`. Accuracy comes last, when slower integer artifacts have made way.
    """
    device, plan = workshop.device, workshop.plan
    target, reporter = plan.target.target, workshop.reporter
    if device is None:
        reason = "no device" if request.device is None else "--no-measure"
        return OnDevice(exported, skipped=(Skipped(what="latency", where=f"target {target.name}", reason=reason),))
    macs_ratio = stages.model[-1].row.after.macs / stages.model[plan.reference].row.after.macs
    recipe = plan.recipe.recipe.export
    with ExitStack() as stack:
        try:
            with reporter.task(f"reaching {device.name}"):
                session = stack.enter_context(AgentSession(device))
                told = _ask(session, target)
        except DeviceError as err:
            reason = f"{err.what}; {err.fix}"
            return OnDevice(exported, skipped=(Skipped(what="latency", where=err.where, reason=reason),), failed=True)
        instead_of = stand_in_for(device, target, told.machine, told.emulated)
        engines = build_engines(session, instead_of, target, exported, request.home, reporter)
        stored: Stored = nothing_stored
        if not request.remeasure and plan.gates.latency_regression is None:  # a release is judged on fresh figures
            stored = stored_profiles(history, device, instead_of, told.identity, told.libraries)
        measured = measure_on(
            session, instead_of, target, exported, macs_ratio, recipe.samples, reporter, engines.by_path, stored
        )
        shipped, measured = keep_faster(exported, measured, recipe.ship, plan.gates.size_bytes, reporter)
        board = OnBoard()
        if device.transport != "local":  # on this machine every artifact is tested anyway
            ships = [one for one in shipped if one.planned.variant.ships]
            specs = sample_specs(stages.model[-1].model.inputs)
            board = evaluate_on(session, instead_of, ships, workshop, specs, request.device_samples, engines.by_path)
    return OnDevice(
        shipped,
        measured,
        board,
        tuple(engines.files(device.name).items()),
        (*engines.skipped, *measured.skipped, *board.skipped),
        engines.failed or measured.failed or board.failed,
    )


@dataclass(frozen=True)
class _Told:
    """What a device says of itself; `emulated`: what there says that it is an emulator."""

    machine: str
    emulated: str = ""
    identity: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)


def _ask(session: AgentSession, target: Target) -> _Told:
    if any(row.runtime == "trtexec" for row in target.formats):  # such a board may be too old for the agent
        done = session.transport.run(["uname", "-m"], timeout_s=_DESCRIBE_S)
        return _Told(done.stdout.strip())
    told = session.run({"kind": "describe"}, {}, {}, timeout_s=_DESCRIBE_S)
    return _Told(told["machine"], told["emulated"], told["conditions"]["extra"]["identity"], told["libraries"])
