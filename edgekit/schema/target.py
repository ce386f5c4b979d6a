"""Targets: a class of hardware as data. Every fact carries its source."""

from typing import Literal

from pydantic import Field

from edgekit.schema.base import Record
from edgekit.schema.gates import Gates
from edgekit.schema.recipe import FormatName

ConventionName = Literal["onnxruntime-x86", "onnxruntime-x86-vnni", "onnxruntime-arm", "litert", "tensorrt"]
RuntimeName = Literal["onnxruntime", "litert", "tflite-runtime", "tensorrt", "trtexec"]


class Fact(Record):
    """A number that someone published, and where."""

    value: float
    unit: str
    source: str


Precision = Literal["fp32", "fp16", "bf16", "int8"]


class SparseKernels(Record):
    """Which zeros among the weights a runtime skips there, and where that was published."""

    pattern: Literal["none", "2:4"] = Field(description="none: it multiplies by every zero of edgekit's files")
    reason: str
    source: str


class TargetFormat(Record):
    """One format that the target runs, the convention its integers follow, and what runs it there."""

    format: FormatName
    convention: ConventionName
    runtime: RuntimeName
    precisions: tuple[Precision, ...] | None = Field(
        None, min_length=1, description="that this runtime has there; none: all of the target's"
    )
    note: str = ""
    sparse: SparseKernels | None = Field(None, description="none: not known")


class Target(Record):
    """A class of hardware: formats in order of preference, conventions, limits, ceilings, default gates."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    aliases: tuple[str, ...] = ()
    description: str
    architecture: Literal["x86_64", "aarch64"]
    formats: tuple[TargetFormat, ...] = Field(min_length=1, description="in order of preference")
    precisions: tuple[Precision, ...] = Field(min_length=1)
    int8_dot: bool = Field(description="the CPU has an 8-bit dot product with 32-bit sums: VNNI or Arm dotprod")
    channel_multiple: Fact = Field(description="widths are rounded to this by `prune`")
    threads: int = Field(1, ge=1, description="threads used when measuring, unless asked otherwise")
    cores: Fact
    memory: Fact | None = None
    bandwidth: Fact | None = None
    peak: dict[str, Fact] = Field(default_factory=dict, description="peak rates by precision")
    power: Fact | None = None
    gates: Gates = Gates()
    notes: tuple[str, ...] = ()
