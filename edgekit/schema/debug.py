"""What `edgekit debug parity` finds, as it prints it under --json."""

from typing import Literal

from pydantic import Field

from edgekit.schema.base import Record

LayerState = Literal["ok", "coarse", "bad"]


class LayerRow(Record):
    """One layer of a comparison. A ratio in dB is 10 log10 of mean squares; none: no error at all, or not finite."""

    layer: str = Field(description="the reference's name of it")
    candidate_layer: str
    kind: str
    snr_db: float | None = Field(description="reference over the accumulated error")
    plain_snr_db: float | None = Field(description="the same, the candidate run operator by operator")
    cosine: float | None
    max_abs_error: float | None = Field(description="accumulated; none: not finite")
    max_code_error: float | None = Field(description="the same in steps of the candidate's grid; none: float")
    own_snr_db: float | None = Field(description="reference over the error of this layer fed with its inputs")
    plain_own_snr_db: float | None = Field(description="the same, operator by operator")
    own_max_code_error: float | None = Field(description="largest error of the layer alone, in steps of its grid")
    explained_snr_db: float | None = Field(description="reference over the noise that the layer's grids explain")
    clipped_ratio: float = Field(description="share of the reference's values outside the candidate's grid")
    exact: bool = Field(description="no accumulated error at all")
    state: LayerState = Field(description="bad: more than its grids explain; coarse: its grids explain too much")
    reason: str = ""


class Comparison(Record):
    """A candidate against a reference, layer by layer."""

    reference: str
    candidate: str
    runtimes: tuple[str, ...] = Field(description="of the candidate; the first is what it ships with")
    samples: int
    sample_source: str
    matched: str = Field(description="how layers were paired")
    layers: tuple[LayerRow, ...] = Field(description="in execution order")
    reference_only: tuple[str, ...] = ()
    candidate_only: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def first_bad(self) -> LayerRow | None:
        """The culprit: the first layer in execution order that is not within bounds."""
        return next((row for row in self.layers if row.state == "bad"), None) or next(
            (row for row in self.layers if row.state == "coarse"), None
        )

    @property
    def passed(self) -> bool:
        """Whether every layer is within bounds."""
        return self.first_bad is None


class DebugReport(Record):
    """Every comparison that was asked for."""

    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """Whether every layer of every comparison is within bounds."""
        return all(comparison.passed for comparison in self.comparisons)
