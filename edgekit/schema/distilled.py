"""What was found while a student was taught: part of a step's row in the manifest."""

from pydantic import Field

from edgekit.schema.base import Record


class ChainStudent(Record):
    """One student of a chain."""

    weight: float = Field(description="of what it says, by line search")
    macs: int
    top1: float = Field(description="share of right answers of the chain up to it")


class ChainExit(Record):
    """What leaving early does, where samples of one batch may leave apart: in PyTorch, not in an artifact."""

    threshold: float = Field(description="a sample leaves where its largest softmax value is above it")
    top1: float
    macs_ratio: float = Field(description="mean share of the whole chain's multiply-accumulates")


class ChainRow(Record):
    """A chain of students on held-out samples."""

    samples: int
    split: str = Field(description="selection, or calibration where there is none")
    students: tuple[ChainStudent, ...]
    exits: tuple[ChainExit, ...]


class TapPair(Record):
    """Modules whose features were compared, named or found."""

    student: str
    teacher: str | None = Field(description="none: the student's alone is looked at")


class DistillRow(Record):
    """What distillation found out by itself."""

    taps: tuple[TapPair, ...] = ()
    chain: ChainRow | None = Field(None, description="method chain")
