"""Simulated boards: time, conditions and faults that follow a script, around the real agent and real artifacts."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from edgekit.schema.base import Record


class SimulatedLatency(Record):
    """How long one run takes on the scripted clock; nothing waits for it.

    base_ms + per_mb_ms * size of the artifact, or `of` where the artifact is named there; times the slowdown of the
    phase, the drift and the warm-up; times exp(jitter_ratio * standard normal).
    """

    base_ms: float = Field(1.0, gt=0)
    per_mb_ms: float = Field(0.0, ge=0, description="for each 1,000,000 bytes of the artifact")
    of: dict[str, float] = Field(default_factory=dict, description="file name of an artifact: ms, instead of the above")
    jitter_ratio: float = Field(0.01, ge=0, lt=1, description="standard deviation of a run, about")
    drift_ratio_per_s: float = Field(0.0, ge=-0.1, le=0.1, description="slower by this share of the first run a second")
    warm_up_runs: int = Field(0, ge=0, description="runs after loading that are slower")
    warm_up_ratio: float = Field(1.0, ge=1, description="how many times slower the first of them is")
    seed: int = 0


class Phase(Record):
    """What the board is like from a moment of the scripted clock on: a changed clock, heat, throttling."""

    from_s: float = Field(0.0, ge=0, description="seconds on the scripted clock since the board was switched on")
    slowdown: float = Field(1.0, gt=0)
    clock_mhz: float = Field(1500.0, gt=0)
    temp_c: float = Field(45.0, gt=-40, lt=150)
    throttled: bool = False


class Lost(Record):
    """The link is lost: every command, push and pull fails from a moment on, until it comes back."""

    at_command: int | None = Field(None, ge=1, description="the n-th command, push or pull is the first that fails")
    at_s: float | None = Field(None, ge=0, description="seconds after the board was reached, of real time")
    for_commands: int = Field(1, ge=1, description="after at_command: so many fail, unless for_s is given")
    for_s: float | None = Field(None, gt=0, description="seconds until it comes back, of real time")
    answer_only: bool = Field(False, description="the first of them is carried out, and only its answer is lost")

    @model_validator(mode="after")
    def _one_moment(self) -> "Lost":
        if (self.at_command is None) == (self.at_s is None):
            raise ValueError("a lost link begins at_command or at_s")
        if self.at_s is not None and self.for_s is None:
            raise ValueError("a link that is lost at_s comes back after for_s")
        return self


class SlowLink(Record):
    """Real waiting, for what is pushed and pulled."""

    bytes_per_s: float = Field(gt=0)
    round_trip_s: float = Field(0.0, ge=0)


class Simulation(Record):
    """The script of one simulated board. What it does not name goes well."""

    latency: SimulatedLatency = SimulatedLatency()
    phases: tuple[Phase, ...] = Field((Phase(),), min_length=1)
    lost: tuple[Lost, ...] = ()
    link: SlowLink | None = None
    disk_bytes: int | None = Field(None, gt=0, description="a push that would make the board hold more fails")
    memory_bytes: int | None = Field(
        None, gt=0, description="a process that has more when it loads an artifact is killed, as by the kernel"
    )
    answers: Literal["right", "altered", "cut"] = Field(
        "right", description="altered: outputs are off by a tenth of their range; cut: results arrive half"
    )
    folder: Path | None = Field(
        None,
        description="the board's disk, kept with its clock and count of commands; none: a new board each time",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "Simulation":
        starts = [phase.from_s for phase in self.phases]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("phases begin at from_s 0 and follow each other")
        return self
