"""What pruning took out of a network: part of a step's row in the manifest."""

from pydantic import Field

from edgekit.schema.base import Record
from edgekit.schema.prune import PruneMethod, PruneQuantity


class PrunedGroup(Record):
    """Channels, heads or units that several layers have in common."""

    name: str = Field(description="of the first layer that makes them")
    before: int
    after: int


class PruneRow(Record):
    """What went, and what could not."""

    method: PruneMethod
    budget_name: PruneQuantity | None = Field(None, description="none: each group by channel_ratio")
    budget: float | None = None
    groups: tuple[PrunedGroup, ...]
    blocks: tuple[str, ...] = Field(description="modules that now give what they are given")
    whole: dict[str, str] = Field(description="groups that could lose nothing, with the reason")
