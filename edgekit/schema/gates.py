"""Gates: bounds that a build must meet."""

from pydantic import Field, field_validator, model_validator

from edgekit.schema.base import Record

# A runtime scales its 32-bit sums in float32, so now and then an inner value falls on the code beside the exact one; a
# deep network makes two codes of it at the output (docs/measuring.md has the measured shares). More is a fault.
TOLERATED_CODES = 2
# Why `latency_regression` cannot be judged before there was a release: nothing is missing, so it is not required then.
NO_RELEASE = "no release yet"


class Bound(Record):
    """One side of a number line. `required` decides whether 'not evaluated' leaves the build incomplete."""

    at_most: float | None = None
    at_least: float | None = None
    required: bool = True

    @model_validator(mode="after")
    def _one_side(self) -> "Bound":
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("set exactly one of at_most, at_least")
        return self

    def as_tight_as(self, other: "Bound") -> bool:
        """Whether whatever meets this bound meets `other`, and it is required where the other is."""
        if other.required and not self.required:
            return False
        if other.at_most is not None:
            return self.at_most is not None and self.at_most <= other.at_most
        return other.at_least is not None and self.at_least is not None and self.at_least >= other.at_least


class Gates(Record):
    """Each quantity is judged for every artifact; what only a device can tell, on that device."""

    float_metric: Bound | None = Field(None, description="the float network's metric on the test split, in PyTorch")
    metric: Bound | None = Field(None, description="an artifact's metric on the test split, in its own runtime")
    metric_drop: Bound | None = Field(None, description="float metric minus the artifact's, as a share")
    size_bytes: Bound | None = Field(None, description="the artifact's file")
    parity_code_error: Bound | None = Field(
        None, description="largest difference in integer codes from the Q/DQ program in PyTorch"
    )
    latency_p50_ms: Bound | None = None
    latency_p99_ms: Bound | None = None
    latency_regression: Bound | None = Field(
        None,
        description="p50 / that of the last release on the same device - 1, a share; fails where its whole 95 % "
        "interval lies above",
    )
    peak_rss_bytes: Bound | None = None
    energy_per_inference_mj: Bound | None = Field(None, description="above idle, by the board's meter or your own")

    @field_validator("latency_regression")
    @classmethod
    def _above_only(cls, bound: Bound | None) -> Bound | None:
        if bound is not None and bound.at_most is None:
            raise ValueError("a regression can be bounded above only: set at_most")
        return bound
