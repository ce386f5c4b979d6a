"""Which variants of a model are exported for a target, under which names, and what runs them here. No torch."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgekit.errors import SchemaError
from edgekit.schema.device import Device
from edgekit.schema.recipe import Export, FormatName
from edgekit.schema.scheme import ArtifactPrecision
from edgekit.schema.target import Target, TargetFormat

LocalRuntime = Literal["onnxruntime", "onnxruntime-unfused", "litert"]

# What executes an artifact of each format on the machine that builds; for TensorRT only a stand-in can.
LOCAL_RUNTIMES: Mapping[FormatName, LocalRuntime] = {
    "onnx": "onnxruntime",
    "tflite": "litert",
    "tensorrt": "onnxruntime-unfused",
}
_SUFFIXES: Mapping[FormatName, str] = {"onnx": ".onnx", "tflite": ".tflite", "tensorrt": ".onnx"}


@dataclass(frozen=True)
class Variant:
    """One file to export.

    Attributes:
        stem: of its file name in the bundle.
        precision: every one but `fp32` needs a quantisation table.
        ships: False for a float version of a quantised artifact, made to compare its speed with; it may take its place.
        of: the network that is exported: the last step's, or the one that compression is compared with.
        not_int8: why a quantised model, of whatever numbers, is exported in float32 here; empty where it is not.
    """

    format: FormatName
    convention: str
    runtime: str
    stem: str
    precision: ArtifactPrecision
    ships: bool = True
    of: Literal["last", "reference"] = "last"
    not_int8: str = ""

    @property
    def local_runtime(self) -> LocalRuntime:
        """What executes it on this machine."""
        return LOCAL_RUNTIMES[self.format]

    @property
    def stand_in(self) -> bool:
        """Whether `local_runtime` is not what the target runs it with."""
        return self.format == "tensorrt"

    @property
    def title(self) -> str:
        """For people: `onnx (onnxruntime-arm), int8`."""
        return f"{self.format} ({self.convention}), {self.precision}"


def choose_variants(
    target: Target,
    export: Export,
    *,
    quantised: bool,
    precision: ArtifactPrecision = "int8",
    compare: bool = False,
    restructured: bool = False,
) -> tuple[Variant, ...]:
    """Every file to export, in the target's order of preference; float versions to compare with come last.

    The first artifact of a suffix is `model`, a second `model.<convention>`; TensorRT's is always the latter, because
    `model.onnx` is what a reader hands to ONNX Runtime. Where a format's runtime has no int8 on the target, it gets the
    float network: a Q/DQ program would not build there, or run slower. The same holds for other numbers.

    Args:
        quantised: whether the model has a quantisation table.
        precision: what an artifact with that table is called.
        compare: export the float32 versions of integer artifacts too, and float16 where the target computes in it.
        restructured: export the reference network in float as well: the last one has another structure.

    Raises:
        SchemaError: the recipe names a format that the target does not run.
    """
    offered = [row.format for row in target.formats]
    for name in export.formats or ():
        if name not in offered:
            raise SchemaError(
                f"target {target.name} does not run {name}",
                "recipe: export.formats",
                f"formats of {target.name}: {', '.join(dict.fromkeys(offered))}",
            )
    taken: set[str] = set()
    variants = []
    rows = [row for row in target.formats if export.formats is None or row.format in export.formats]
    for row in rows:
        suffix = _SUFFIXES[row.format]
        plain = row.format != "tensorrt" and suffix not in taken
        taken |= {suffix} if plain else set()
        stem = "model" if plain else f"model.{row.convention}"
        not_int8 = _why_float(row, target, precision) if quantised else ""
        own: ArtifactPrecision = precision if quantised and not not_int8 else "fp32"
        variants.append(Variant(row.format, row.convention, row.runtime, stem, own, not_int8=not_int8))
    fixed = next((v.format for v in variants if v.format != "onnx"), None)
    if export.batch == "dynamic" and fixed is not None:
        raise SchemaError(
            f"a {fixed} file takes one number of samples, and the batch is dynamic",
            "recipe: export.batch",
            "set export.formats: [onnx], or export.batch to a number",
        )
    if quantised and compare:
        variants += [
            Variant(v.format, v.convention, v.runtime, f"{v.stem}.float", "fp32", ships=False)
            for v in variants
            if v.precision != "fp32" and not v.stand_in
        ]
        variants += [
            Variant(v.format, v.convention, v.runtime, f"{v.stem}.half", "fp16", ships=False)
            for row, v in zip(rows, variants, strict=False)
            if v.precision == "int8" and not v.stand_in and not _why_float(row, target, "fp16")
        ]
    if compare and restructured:
        variants += [
            Variant(v.format, v.convention, v.runtime, f"{v.stem}.reference", "fp32", ships=False, of="reference")
            for v in variants
            if v.ships and not v.stand_in
        ]
    return tuple(variants)


def _why_float(row: TargetFormat, target: Target, precision: ArtifactPrecision) -> str:
    """Why a format of a target gets no artifact of this precision; empty where it gets one."""
    if row.format == "tensorrt" and precision == "fp16":
        return "TensorRT builds an engine with fp16 from float32: exported in fp32"
    if row.format == "tensorrt" and precision != "int8":
        return f"TensorRT files with {precision} are not written: exported in fp32"
    if row.format == "tflite" and precision in ("bf16-weights", "fp8-weights", "minifloat-weights"):
        return f"TFLite has no {precision.replace('-', ' ')}: exported in fp32"
    runs = row.precisions or target.precisions
    computed = {"int8": "int8", "int8-dynamic": "int8", "int4-dynamic": "int8", "fp16": "fp16"}.get(precision, "fp32")
    return "" if computed in runs else f"{row.runtime} on {target.name} runs {', '.join(runs)}: exported in fp32"


def stand_in_for(device: Device, target: Target, machine: str | None = None, emulated: str = "") -> str | None:
    """The target that a device only stands in for: it is of another one, says so itself, or cannot be of this one.

    Args:
        machine: architecture, as the device tells it; None: it was not asked, and this machine's counts if it is local.
        emulated: what on the device says that it is an emulator; empty: nothing.
    """
    other = device.stand_in_for is not None or device.target not in (target.name, *target.aliases)
    machine = platform.machine() if machine is None and device.transport == "local" else machine
    foreign = machine is not None and not _is_architecture(machine, target.architecture)
    return target.name if other or foreign or emulated else None


def _is_architecture(machine: str, architecture: str) -> bool:
    """Whether a machine can be of a target, whatever devices.yaml says. Systems spell the names differently."""
    spelled = {"amd64": "x86_64", "arm64": "aarch64"}
    return spelled.get(machine.lower(), machine.lower()) == architecture
