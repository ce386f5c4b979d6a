"""The base of every record that crosses a file boundary."""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Record(BaseModel):
    """Frozen, and unknown keys are refused: a typing error in a recipe must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Options(Record):
    """Base of every pass's options: what a step in a recipe may set."""


def refusal(what: str, fix: str) -> PydanticCustomError:
    """What a record's own check raises where it can say what to do."""
    return PydanticCustomError("refusal", "{what}", {"what": what, "fix": fix})
