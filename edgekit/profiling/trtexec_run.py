"""Measuring a TensorRT engine with trtexec over a transport: no Python on the board takes part."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from edgekit.devices.transport import Completed, Transport
from edgekit.errors import DeviceError
from edgekit.profiling import trtexec
from edgekit.profiling.engines import EngineOptions, float16_copy
from edgekit.profiling.statistics import percentile, summarise, verdict
from edgekit.schema.device import Device
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import Conditions, LayerRow, MeasureSettings, Profile

_SHORT_S = 60.0
_BUILD_S = 7200.0
_LONGEST_S = 900.0  # beyond the duration asked for: loading, and runs that take longer than expected
_PLACES = "command -v trtexec || ls /usr/src/tensorrt/bin/trtexec"  # the second is where JetPack puts it
_CLOCK = (
    "trtexec's: CUDA events of copying in, computing and copying out, runs enqueued ahead; no host time is in it, so "
    "it is not compared with what the agent measures"
)


def profile_by_trtexec(
    device: Device,
    transport: Transport,
    onnx: Path,
    row: ArtifactRow,
    options: EngineOptions,
    settings: MeasureSettings,
    *,
    stand_in_for: str | None = None,
) -> Profile:
    """Build an engine on the board and measure it there, with trtexec for both.

    The profile's runtime is `trtexec`. Its samples are trtexec's latency: both copies and the computation. The timing
    cache stays on the board, in ~/.cache/edgekit/tensorrt.

    Args:
        device: what the transport reaches.
        transport: open.
        onnx: the file; its digest must be the one in `row`.
        row: what the manifest says of it.
        options: how the engine is built.
        settings: warm-up, duration and runs; trtexec keeps no frame rate.
        stand_in_for: as in `edgekit.profiling.jobs.profile`.

    Raises:
        DeviceError: the board has no trtexec, trtexec failed, or the settings ask for what it cannot do.
        FormatError: fp16 needs a float16 copy there, and the network cannot be turned to float16.
    """
    where = f"device {device.name}, trtexec"
    if settings.fps is not None or settings.sustained_s is not None:
        raise DeviceError("trtexec can neither keep a frame rate nor tell minutes", where, "measure back to back")
    program = _program(transport, where)
    folder = _folder(transport, where)
    try:
        return _measured(device, transport, program, folder, onnx, row, options, settings, stand_in_for, where)
    finally:
        transport.run(["rm", "-rf", str(folder)], timeout_s=_SHORT_S)


def _measured(
    device: Device,
    transport: Transport,
    program: str,
    folder: PurePosixPath,
    onnx: Path,
    row: ArtifactRow,
    options: EngineOptions,
    settings: MeasureSettings,
    stand_in_for: str | None,
    where: str,
) -> Profile:
    help_text = _said(transport.run([program, "--help"], timeout_s=_SHORT_S))
    network, engine = folder / "model.onnx", folder / "model.engine"
    if options.precision == "fp16" and (options.strongly_typed or not trtexec.has_flag(help_text, "--fp16")):
        options = replace(options, strongly_typed=True)
        with tempfile.TemporaryDirectory(prefix="edgekit-") as here:
            transport.push(float16_copy(onnx, row, Path(here))[0], network)
    else:
        transport.push(onnx, network)
    cache = _cache_folder(transport, where) / "trtexec.cache"
    _run(transport, trtexec.build_command(program, help_text, network, engine, cache, options), _BUILD_S, where)
    files = {name: folder / f"{name}.json" for name in ("times", "profile", "layers")}
    command = trtexec.measure_command(program, help_text, engine, files, settings, options)
    text = _run(transport, command, settings.duration_s + _LONGEST_S, where)
    summary = trtexec.read_summary(text, where)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as here:
        brought = {name: Path(here) / name for name in files}
        for name, path in brought.items():
            transport.pull(files[name], path)
        read = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in brought.items()}
    samples = trtexec.read_times(read["times"], summary, where)
    layers, unavailable = trtexec.read_layers(read["profile"], read["layers"])
    conditions = _conditions(transport, summary, samples)
    stand_in_for = stand_in_for or device.stand_in_for
    valid, reasons = verdict(samples.latency_ms, conditions, settings, stand_in=stand_in_for is not None)
    whole_ms = sum(float(layer["mean_ms"]) for layer in layers)
    return Profile(
        artifact=onnx.name,
        artifact_sha256=row.sha256,
        device=device.name,
        stand_in=stand_in_for is not None,
        stand_in_for=stand_in_for,
        runtime="trtexec",
        runtime_version=summary.version,
        agent_version="none: trtexec",
        settings=settings,
        samples_ms=samples.latency_ms,
        summary=summarise(samples.latency_ms),
        conditions=conditions,
        gpu_memory_unavailable="trtexec does not tell it",
        layers=tuple(LayerRow(ratio=layer["mean_ms"] / whole_ms if whole_ms else 0.0, **layer) for layer in layers),
        layers_unavailable=unavailable,
        valid=valid,
        reasons=reasons,
        measured_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        libraries={"tensorrt": summary.version},
    )


def _conditions(transport: Transport, summary: trtexec.Summary, samples: trtexec.Samples) -> Conditions:
    """What can be read without an agent. Clocks, temperature and throttling are not, so they are left out."""
    release = _read(transport, ["cat", "/etc/nv_tegra_release"]).partition("\n")[0]
    return Conditions(
        cpu=_read(transport, ["cat", "/proc/device-tree/model"]).rstrip("\0"),
        architecture=_read(transport, ["uname", "-m"]),
        extra={
            "clock": _CLOCK,
            "compute_p50_ms": percentile(samples.compute_ms, 50.0),
            "throughput_qps": summary.throughput_qps,
            "l4t": release or None,
        },
    )


def _program(transport: Transport, where: str) -> str:
    found = transport.run(["sh", "-c", _PLACES], timeout_s=_SHORT_S).stdout.strip()
    if not found:
        raise DeviceError(
            "the board has no trtexec", where, "install it (on a Jetson: sudo apt install libnvinfer-bin)"
        )
    return found.splitlines()[0]


def _folder(transport: Transport, where: str) -> PurePosixPath:
    made = transport.run(["mktemp", "-d", "-t", "edgekit-XXXXXXXX"], timeout_s=_SHORT_S)
    folder = PurePosixPath(made.stdout.strip())
    if made.returncode != 0 or not folder.is_absolute():
        raise DeviceError(f"cannot make a folder: {made.stderr.strip()}", where, "check that its /tmp has room")
    return folder


def _cache_folder(transport: Transport, where: str) -> PurePosixPath:
    script = 'folder="$HOME/.cache/edgekit/tensorrt" && mkdir -p "$folder" && echo "$folder"'
    made = transport.run(["sh", "-c", script], timeout_s=_SHORT_S)
    if made.returncode != 0:
        raise DeviceError(f"cannot keep a timing cache: {made.stderr.strip()}", where, "make ~/.cache writable")
    return PurePosixPath(made.stdout.strip())


def _run(transport: Transport, argv: Sequence[str], timeout_s: float, where: str) -> str:
    done = transport.run(argv, timeout_s=timeout_s)
    if done.returncode != 0:
        raise trtexec.failed(_said(done), where)
    return _said(done)


def _said(done: Completed) -> str:
    return f"{done.stdout}\n{done.stderr}"


def _read(transport: Transport, argv: Sequence[str]) -> str:
    done = transport.run(argv, timeout_s=_SHORT_S)
    return done.stdout.strip() if done.returncode == 0 else ""
