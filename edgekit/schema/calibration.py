"""Calibration sets: where samples come from, how many, how chosen, preprocessed, split."""

from typing import Any

from pydantic import Field

from edgekit.schema.base import Record
from edgekit.schema.tensors import Preprocess


class Split(Record):
    """Samples of one part of a data set, by index: `start` up to `start + count`, or `indices` every `step`."""

    part: str = Field("all", description="part of the data set, as its loader names it: train, test, all")
    start: int = Field(0, ge=0)
    count: int | None = Field(None, ge=1, description="none: to the end")
    step: int = Field(1, ge=1, description="every step-th sample from start")


class CalibrationSet(Record):
    """A data set with splits fixed by index. Calibration, selection and test never share a sample."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = ""
    loader: str = Field(description="name of a data set loader, or package.module:function")
    arguments: dict[str, Any] = Field(default_factory=dict, description="passed to the loader; paths may hold ${NAME}")
    classes: tuple[str, ...] = ()
    preprocess: Preprocess = Preprocess()
    train: Split | None = None
    calibration: Split
    selection: Split | None = None
    test: Split
    licence: str = ""
    citation: str = ""
