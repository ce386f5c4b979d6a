"""Calibration sets: where samples come from, how many, how chosen, preprocessed, split."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from edgekit.schema.base import Record
from edgekit.schema.tensors import Preprocess

Order = Literal["stored", "shuffled", "stratified"]


class Split(Record):
    """Samples of one part of a data set, by place in its order: `count` of them from `start` on, or a `share`."""

    part: str = Field("all", description="part of the data set, as its loader names it: train, test, all")
    start: int = Field(0, ge=0)
    count: int | None = Field(None, ge=1, description="none: to the end")
    step: int = Field(1, ge=1, description="every step-th sample from start")
    share: tuple[float, float] | None = Field(
        None, description="instead of start and count, from and up to a share of the part: [0.8, 1.0] is the last fifth"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "Split":
        if self.share is not None:
            if self.start or self.count is not None:
                raise ValueError("share takes the place of start and count: leave them out")
            if not 0 <= self.share[0] < self.share[1] <= 1:
                raise ValueError("share goes from a smaller to a larger number, both in [0, 1]")
        return self


class Choose(Record):
    """How calibration samples are chosen from the split `calibration`.

    The choice is made by the step that calibrates: two of the methods look at the network's own features.
    """

    method: Literal["random", "class-balanced", "k-centre", "dataset-quantization"] = Field(
        "random",
        description="class-balanced needs labels; k-centre takes what lies farthest from what it has; "
        "dataset-quantization draws evenly from bins that go from typical to rare",
    )
    count: int = Field(ge=1, description="samples that are chosen")
    seed: int = Field(0, ge=0)
    bins: int = Field(10, ge=1, description="dataset-quantization only")
    range_guard: bool = Field(
        False,
        description="up to 5 % of the samples are those that reach the 99.9th percentile of an activation's largest "
        "values; with observer percentile they are better left out",
    )


class CalibrationRow(Record):
    """What the ranges of a quantised network were decided on: part of the step's row in the manifest."""

    source: Literal["samples", "synthetic"] = Field(description="synthetic: made from batch-norm statistics, no data")
    count: int
    chosen: Choose | None = Field(None, description="none: the first `count` samples of the split")
    indices: tuple[int, ...] = Field((), description="in the calibration split, in the order of use; where chosen")
    seed: int | None = Field(None, description="of synthetic samples")
    digest: str = Field(description="sha256 of the samples as the network took them, float32")


class CalibrationSet(Record):
    """A data set with splits fixed by index. Calibration, selection and test never share a sample."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = ""
    loader: str = Field(description="name of a data set loader, or package.module:function")
    arguments: dict[str, Any] = Field(default_factory=dict, description="passed to the loader; paths may hold ${NAME}")
    classes: tuple[str, ...] = Field((), description="names, in the order in which the network answers")
    preprocess: Preprocess = Field(Preprocess(), description="of the network's first input")
    preprocess_others: tuple[Preprocess, ...] = Field((), description="of each further input, in order")
    order: Order = Field(
        "stored",
        description="what every part is put into before splits are cut: files sorted by class need shuffled, or "
        "stratified, where every run of samples has all classes in proportion",
    )
    order_seed: int = Field(0, ge=0, description="of shuffled and stratified")
    train: Split | None = None
    calibration: Split
    choose: Choose | None = Field(None, description="which of the split `calibration`; none: all of it, in its order")
    selection: Split | None = None
    test: Split
    licence: str = ""
    citation: str = ""

    @field_validator("classes")
    @classmethod
    def _different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice")
        return value

    @property
    def preprocesses(self) -> tuple[Preprocess, ...]:
        """Of every input, in order."""
        return (self.preprocess, *self.preprocess_others)
