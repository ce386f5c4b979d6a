"""What was seen of data and of a network. It crosses from the process that looks to the one that writes."""

from typing import Any, Literal

from pydantic import Field

from edgekit.schema.base import Record
from edgekit.schema.recipe import Checkpoint
from edgekit.schema.tensors import InputSpec, Layout


class ArrayFacts(Record):
    """One input of a part of a data set."""

    shape: tuple[int, ...] = Field(description="of one sample")
    dtype: str
    low: float = Field(description="of the values that were looked at")
    high: float


class LabelFacts(Record):
    """Labels of a part: whole numbers, or real ones."""

    kind: Literal["classes", "numbers"]
    shape: tuple[int, ...] = Field(description="of one sample's; empty: one number")
    low: float
    high: float
    in_order: bool = Field(description="they never fall, so neighbours are of one class")


class PartFacts(Record):
    """One part of a data set as its loader gives it."""

    name: str
    count: int
    inputs: tuple[ArrayFacts, ...]
    labels: LabelFacts


class Way(Record):
    """A way from raw samples to what a network takes."""

    raw_layout: Layout
    layout: Layout
    shape: tuple[int, ...] = Field(description="of a batch of one")
    resize: tuple[int, int] | None = None


class NetworkFacts(Record):
    """A network that was run on samples."""

    inputs: tuple[InputSpec, ...]
    way: Way = Field(description="of the first input")
    outputs: dict[str, tuple[int, ...]] = Field(description="name -> shape at a batch of one")
    parameters: int
    checkpoint: Checkpoint | None = None


class Question(Record):
    """What the process that looks is asked."""

    data: str | None = Field(None, description="package.module:function; none: `loader`")
    loader: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    factory: str | None = None
    factory_arguments: dict[str, Any] = Field(default_factory=dict)
    file: str | None = Field(None, description="an .onnx or .pt2 file that holds the network")
    checkpoint: str | None = None
    shapes: tuple[tuple[int, ...], ...] = Field((), description="of the network's inputs, where the user says them")


FILE_KEYS = {".onnx": "onnx", ".pt2": "pt2"}  # suffix -> the key of `model:`


class Answer(Record):
    """What it found."""

    parts: tuple[PartFacts, ...]
    network: NetworkFacts


class Trouble(Record):
    """Or why it could not: an error's three fields."""

    what: str
    where: str
    fix: str
