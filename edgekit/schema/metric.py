"""What a recipe says of its metric, and what a drop of it is."""

from typing import Any

from pydantic import Field, model_validator

from edgekit.schema.base import Record


class MetricSpec(Record):
    """One number that says how good a network is, written as a name or as `{name: ..., arguments: {...}}`."""

    name: str = Field(description="of a metric, or package.module:function of (outputs, labels)")
    arguments: dict[str, Any] = Field(default_factory=dict, description="passed to the metric by name")
    output: str | None = Field(
        None, description="the output that it is of, where several are left after postprocessing; none: the only one"
    )
    larger_is_better: bool | None = Field(None, description="of a function of yours; none: true")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


def metric_drop(before: float, after: float, *, larger_is_better: bool, is_share: bool) -> float:
    """How much worse `after` is than `before`; negative where it is better.

    The difference of two shares; of any other number, such as a perplexity, in parts of `before`.
    """
    worse = before - after if larger_is_better else after - before
    if is_share or worse == 0:
        return worse
    return worse / abs(before) if before else float("inf") if worse > 0 else float("-inf")
