"""Structure changes from a closed list, as data: what a pass did to a network can be replayed without its code."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from edgekit.schema.base import Record


class Keep(Record):
    """Keep these channels of a layer's output or input side and drop the others."""

    kind: Literal["keep"] = "keep"
    layer: str
    side: Literal["out", "in"]
    indices: tuple[int, ...]


class Replace(Record):
    """Put a new layer, built from a closed list of kinds, in the place of one."""

    kind: Literal["replace"] = "replace"
    layer: str
    by: Literal["conv2d", "linear", "identity"]
    arguments: dict[str, Any] = Field(default_factory=dict)


Edit = Annotated[Keep | Replace, Field(discriminator="kind")]
