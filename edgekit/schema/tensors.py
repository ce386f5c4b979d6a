"""What goes into a network and what comes out: names, shapes, layouts, preprocessing."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from edgekit.schema.base import Record

Layout = Literal["NCHW", "NHWC", "NC", "NT", "NTC", "N"]
LAYOUT_BY_RANK: Mapping[int, Layout] = {1: "N", 2: "NC", 3: "NTC", 4: "NCHW"}  # the usual ones in PyTorch
DType = Literal["float32", "float16", "int8", "uint8", "int16", "int32", "int64"]


class Mfcc(Record):
    """Mel-frequency cepstral coefficients as TensorFlow computes them; `agent/mfcc.py` has the formulas."""

    rate_hz: int = Field(16_000, ge=1, description="samples a second of a recording")
    window: int = Field(ge=2, description="samples of one frame")
    hop: int = Field(ge=1, description="samples from one frame to the next")
    bands: int = Field(40, ge=1, description="triangles on the mel scale")
    low_hz: float = Field(20.0, ge=0, description="lower corner of the first triangle")
    high_hz: float = Field(4000.0, gt=0, description="upper corner of the last triangle")
    coefficients: int = Field(ge=1, description="kept of the cosine transform, from the first on")

    @model_validator(mode="after")
    def _corners(self) -> "Mfcc":
        if not self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError(f"low_hz < high_hz <= {self.rate_hz / 2:g}, half of rate_hz")
        return self


class Resize(Record):
    """Images of another size; `agent/preprocess.py` has the formulas. `[height, width]` alone stretches."""

    size: tuple[int, int] = Field(description="height, width in pixels")
    mode: Literal["stretch", "cover", "letterbox"] = Field(
        "stretch",
        description="cover and letterbox keep the shape of what is seen: cover fills both sides, so that one may be "
        "longer than asked for and a crop follows; letterbox fits inside, in the middle of a border",
    )
    pad: float = Field(0.0, description="raw value of letterbox's border")
    antialias: bool = Field(False, description="average over all pixels where an image becomes smaller, as PIL does")

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"size": value} if isinstance(value, list | tuple) else value

    @field_validator("size")
    @classmethod
    def _positive(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < 1:
            raise ValueError("1 pixel at least")
        return value


class Preprocess(Record):
    """How raw samples become the network's input; carried out by `agent/preprocess.py` everywhere.

    Steps, in this order: resize, centre crop, channel order, `(x - offset) * factor`, MFCC, `(x - mean) / std`, layout.
    """

    raw_dtype: DType = Field("uint8", description="dtype of a raw sample")
    raw_layout: Layout = Field("NHWC", description="layout of a raw batch; N alone: already what the network takes")
    raw_resize: Resize | None = Field(
        None, description="what made raw samples of images of several sizes; a loader did it, and it is not done again"
    )
    resize: Resize | None = Field(None, description="[height, width] in pixels, or more; bilinear, half-pixel centres")
    crop: tuple[int, int] | None = Field(None, description="height, width in pixels of the centre crop")
    reverse_channels: bool = Field(False, description="RGB becomes BGR, or the reverse")
    offset: float = Field(0.0, description="subtracted from every raw value")
    factor: float = Field(1.0, description="multiplies every raw value after the offset")
    mfcc: Mfcc | None = Field(None, description="recordings (NT) to coefficients (NTC); the factor made full scale 1")
    mean: tuple[float, ...] = Field((), description="per channel, subtracted after the factor; empty: none")
    std: tuple[float, ...] = Field((), description="per channel, divides after the mean; empty: none")
    layout: Layout = Field("NCHW", description="layout of the batch that the network takes")
    dtype: Literal["float32", "int32", "int64"] = Field(
        "float32", description="dtype of the batch that the network takes; integers, such as tokens, pass as they are"
    )

    @model_validator(mode="after")
    def _integers_pass(self) -> "Preprocess":
        changed = self.resize, self.crop, self.mfcc, self.mean, self.std, self.offset, self.factor != 1.0
        if self.dtype != "float32" and any(changed):
            raise ValueError(f"dtype {self.dtype} passes as it is: leave out resize, crop, offset, factor, mean, ...")
        return self

    @field_validator("std")
    @classmethod
    def _divides(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not abs(number) > 0 for number in value):
            raise ValueError("no zero: every channel is divided by it")
        return value


class InputSpec(Record):
    """One input of a network. `shape` has the batch first; 1 unless the recipe exports another batch."""

    name: str
    shape: tuple[int, ...]
    dtype: DType = "float32"
    layout: Layout = "NCHW"
    state: str | None = Field(
        None,
        description="the network is one step of a sequence: the output that goes into this input at the next step, "
        "zeros before the first; samples are then sequences (N, T, C) of the other inputs",
    )


class OutputSpec(Record):
    """One output of a network, batch first."""

    name: str
    shape: tuple[int, ...]
    dtype: DType = "float32"


class ArtifactTensor(Record):
    """One input or output of an artifact as its runtime sees it.

    `scale` and `zero_point` are set where the artifact itself takes or gives integer codes:
    real = scale * (code - zero_point).
    """

    name: str = Field(description="the runtime's own name of the tensor")
    network_name: str = Field(description="the network's name of the same tensor")
    shape: tuple[int, ...]
    dtype: DType
    layout: Layout
    scale: float | None = None
    zero_point: int | None = None
    preprocess: Preprocess | None = Field(None, description="inputs only: from raw sample to the network's float input")
