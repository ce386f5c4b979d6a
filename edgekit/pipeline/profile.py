"""Measure what is already built: a bundle's artifacts, or one .onnx or .tflite file, on a device. No torch."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from edgekit.devices.session import AgentSession, lease_request
from edgekit.errors import BundleError, DeviceError, SchemaError
from edgekit.pipeline.choose import LOCAL_RUNTIMES, stand_in_for
from edgekit.pipeline.request import find_device
from edgekit.profiling.bare import describe_file
from edgekit.profiling.engines import EngineBuilt, EngineOptions, engine_folder, engine_for
from edgekit.profiling.jobs import profile
from edgekit.release.bundle import read_manifest
from edgekit.schema.device import Device
from edgekit.schema.load import load_target
from edgekit.schema.manifest import ArtifactRow, Manifest, Skipped
from edgekit.schema.profile import MeasureSettings, Profile
from edgekit.store.builds import build_of, record_build
from edgekit.store.place import default_home, profile_database
from edgekit.store.profiles import Origin, ProfileStore

ProfileFunction = Callable[..., Profile]
EngineFunction = Callable[..., EngineBuilt]
Told = Callable[[str, Mapping[str, Any]], None]
_MODELS = (".onnx", ".tflite")
_DESCRIBE_S = 120.0
_ENGINES: Mapping[str, Literal["fp16", "int8"]] = {"fp16": "fp16", "int8": "int8"}  # others are built as they are


@dataclass(frozen=True)
class ProfileRequest:
    """What to measure, where and how.

    Attributes:
        path: a bundle's folder, or a file.
        device: name in devices.yaml.
        runtime: None: what the device's target runs that format with.
        threads: None: as many as the device's target is measured with.
        batch: None: what the artifact was exported with; a file that leaves its batch open: 1.
        settings: the rest; its own threads and batch do not count.
        shapes: of inputs that a bare file leaves open.
        database: that gets the profiles; None: the default one.
    """

    path: Path
    device: str
    runtime: str | None = None
    threads: int | None = None
    batch: int | None = None
    settings: MeasureSettings = field(default_factory=MeasureSettings)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    database: str | Path | None = None


@dataclass(frozen=True)
class ProfileReport:
    """What came of it; `failed` where something that was asked could not be measured."""

    profiles: tuple[Profile, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: bool = False


def profile_artifacts(
    request: ProfileRequest,
    told: Told = lambda title, fields: None,
    *,
    profile: ProfileFunction = profile,
    engine_for: EngineFunction = engine_for,
    session_on: Callable[[Device], AbstractContextManager[AgentSession]] = AgentSession,
) -> ProfileReport:
    """Measure every artifact that the request names, one after the other, and keep the profiles in the database.

    An artifact that fails leaves its reason and does not stop the others; where there is only one, its error is raised.
    What runs in TensorRT is built into an engine on the board first, which is kept in the store's folder for next time.

    Args:
        told: gets the title of what is being done, and what the agent tells of it, field by field.

    Raises:
        EdgekitError: the request names nothing that can be measured.
        DeviceError: the one artifact could not be measured.
    """
    device = find_device(request.device)
    artifacts, instead_of, manifest = _find(request, device)
    done: list[Profile] = []
    skipped: list[Skipped] = []
    failed = False
    with ProfileStore(request.database or profile_database()) as store, session_on(device) as session:
        if device.transport == "ssh" and instead_of is None:
            own = load_target(device.target, allow_override=True).target
            here = session.run({"kind": "describe"}, {}, {}, timeout_s=_DESCRIBE_S)
            instead_of = stand_in_for(device, own, here["machine"], here["emulated"])
        if manifest is not None:
            record_build(store.database, build_of(manifest))
        for path, row in artifacts:
            runtime = request.runtime or runtime_of(device, row)
            if row.format == "tensorrt" and runtime != "tensorrt" and request.runtime is None:
                reason = f"{device.name} has no TensorRT; --runtime names what should stand in for it"
                skipped.append(Skipped(what="latency", where=f"{row.path} on {device.name}", reason=reason))
                continue
            title = f"measuring {row.path} on {device.name}"
            settings = request.settings.model_copy(
                update={"threads": request.threads or _threads(device), "batch": request.batch or _batch(row)}
            )
            try:
                file, described, options = path, row, {}
                if runtime == "tensorrt":
                    building = f"building the engine of {row.path} on {device.name}"
                    told(building, {})
                    built = engine_for(
                        session,
                        path,
                        row,
                        EngineOptions(_ENGINES.get(row.precision, "fp32"), sparse_weights=row.two_of_four > 0),
                        engine_folder(default_home(), device.name, row),
                        lease=lease_request(),
                        on_progress=partial(told, building),
                    )
                    file, described, options = built.path, built.row(row), built.runtime_options
                told(title, {})
                found = profile(
                    device,
                    file,
                    described,
                    runtime,
                    settings,
                    stand_in_for=instead_of,
                    options=options,
                    session=session,
                    on_progress=partial(told, title),
                )
            except DeviceError as err:
                if len(artifacts) == 1:
                    raise
                skipped.append(
                    Skipped(what="latency", where=f"{row.path} on {device.name}", reason=f"{err.what}; {err.fix}")
                )
                failed = True
                continue
            store.add(found, _origin(manifest, row))
            done.append(found)
    return ProfileReport(tuple(done), tuple(skipped), failed)


def profile_on_boards(
    request: ProfileRequest, devices: Sequence[str], done: Callable[[str], None] = lambda name: None
) -> ProfileReport:
    """The same on several boards at once, each by a process of its own; a board that fails does not stop the others.

    Args:
        devices: names in devices.yaml; the request's own does not count.
        done: gets the name of every board that has ended.

    Raises:
        EdgekitError: the request names nothing that can be measured, or a device that there is not.
    """
    for name in devices:
        _find(request, find_device(name))  # what is wrong with the request is wrong for all of them
    reports = {}
    # spawned: a fork would take over locks of threads that it has not; Ctrl-C reaches every process
    with ProcessPoolExecutor(len(devices), mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_on_one, replace(request, device=name)): name for name in devices}
        for future in as_completed(running):
            reports[running[future]] = future.result()
            done(running[future])
    found = [reports[name] for name in devices]
    return ProfileReport(
        tuple(profile for report in found for profile in report.profiles),
        tuple(row for report in found for row in report.skipped),
        any(report.failed for report in found),
    )


def _on_one(request: ProfileRequest) -> ProfileReport:
    try:
        return profile_artifacts(request)
    except DeviceError as err:
        return ProfileReport((), (Skipped(what="latency", where=err.where, reason=f"{err.what}; {err.fix}"),), True)


def runtime_of(device: Device, row: ArtifactRow) -> str:
    """What the device's own target runs that format with, whatever target the artifact is for."""
    for offered in load_target(device.target, allow_override=True).target.formats:
        if offered.format == row.format:
            return offered.runtime
    return LOCAL_RUNTIMES[row.format]


def _find(
    request: ProfileRequest, device: Device
) -> tuple[list[tuple[Path, ArtifactRow]], str | None, Manifest | None]:
    """Artifacts with their files, the target that the device only stands in for, and their bundle's manifest."""
    if not request.path.is_dir():
        row = describe_file(request.path, batch=request.batch, shapes=request.shapes)
        return [(request.path, row)], device.stand_in_for, None
    if request.shapes:
        raise SchemaError("a bundle says its own shapes", str(request.path), "leave --input-shape out")
    manifest = read_manifest(request.path)
    artifacts = [(request.path / row.path, row) for row in manifest.artifacts if Path(row.path).suffix in _MODELS]
    if not artifacts:
        raise BundleError("it holds no .onnx and no .tflite file", str(request.path), "name another bundle")
    target = load_target(manifest.target.name, allow_override=True).target
    return artifacts, stand_in_for(device, target), manifest


def _origin(manifest: Manifest | None, row: ArtifactRow) -> Origin:
    """Of an artifact: what the history should know of it."""
    if manifest is None:
        return Origin()
    recipe, target = manifest.recipe.name, manifest.target.name
    return Origin(recipe, target, manifest.content_digest, precision=row.precision, ships=True)


def _threads(device: Device) -> int:
    return load_target(device.target, allow_override=True).target.threads


def _batch(row: ArtifactRow) -> int:
    return next((tensor.shape[0] for tensor in row.inputs if tensor.shape), 1)
