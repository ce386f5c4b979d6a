"""What was found and decided about the precision of single layers: part of a step's row in the manifest."""

from typing import Literal

from pydantic import Field

from edgekit.schema.base import Record

BudgetName = Literal["size_bytes", "bit_operations_ratio", "latency_ms"]


class KeptHigh(Record):
    """A layer that has a higher precision than the rest of a quantised network."""

    layer: str
    number: str = Field(description="its number format, or float")
    reason: str


class GuardRow(Record):
    """`mode: auto`: does the quantised network lose no more than it may? On the selection split."""

    max_drop: float
    holds: bool
    float_metric: float
    asked_metric: float = Field(description="with the precision that the recipe asks for everywhere")
    metric: float = Field(description="with the precision that was raised")
    drop: float
    drop_low: float = Field(description="lower end of the 95 % bootstrap interval over the samples, in pairs")
    drop_high: float
    samples: int
    evaluations: int = Field(description="quantised networks that were tried")


class LayerPrecision(Record):
    """One layer and what each number format would do to the network's outputs."""

    layer: str
    number: str = Field(description="that was chosen")
    macs: int
    params: int
    noise: dict[str, float] = Field(
        description="number format -> power of the output error / power of the outputs, with this layer alone in it"
    )
    latency_ms: dict[str, float] = Field(
        default_factory=dict, description="number format -> p50 of the layer alone on the device"
    )


class FrontPoint(Record):
    """One answer that no other beats in both cost and noise."""

    cost: float
    noise: float = Field(description="sum over layers and activations")
    numbers: dict[str, int] = Field(description="number format -> layers that have it")


class MixedRow(Record):
    """`budget`: number formats chosen layer by layer."""

    budget_name: BudgetName
    budget: float
    cost: float = Field(description="as the choice was made by; for latency a sum over single layers")
    measured: float | None = Field(None, description="latency of the whole network as chosen, in ms")
    noise: float
    layers: tuple[LayerPrecision, ...]
    front: tuple[FrontPoint, ...] = Field(description="over all budgets, by rising cost")
