"""Options of re-parameterisation, equalisation and quantisation: what a step in a recipe may set. No torch here."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from edgekit.schema.base import Options, refusal
from edgekit.schema.calibration import Choose
from edgekit.schema.precision import BudgetName
from edgekit.schema.recover import Recover
from edgekit.schema.scheme import ACTIVATIONS, WEIGHTS, check_scheme, is_minifloat


class ReparamOptions(Options):
    """Structural re-parameterisation: conv+BN and RepVGG blocks, Ding et al., arXiv:2101.03697."""

    tolerance: float = Field(
        1e-4, gt=0, description="largest output difference, relative to the largest output, that is accepted"
    )
    recover: Recover = None


class EqualiseOptions(Options):
    """Exact rewrites before rounding: scales are moved between layers, channels mixed; the float function stays."""

    methods: tuple[Literal["cross_layer", "smooth", "awq", "hadamard", "absorb_bias"], ...] = Field(
        ("cross_layer", "smooth"), min_length=1, description="carried out in this order"
    )
    alpha: float = Field(
        0.75, ge=0, le=1, description="smooth: how much of an activation's range goes into the weights that read it"
    )
    weights: Annotated[str, StringConstraints(pattern=r"^int[2-8]$")] = Field(
        "int4", description="awq: number format that the weights will be rounded to"
    )
    group_size: int | None = Field(128, ge=1, description="awq: inputs that will share a scale; none: one per channel")
    samples: int = Field(128, ge=1, description="calibration samples used by smooth, awq and absorb_bias")
    tolerance: float = Field(
        1e-4, gt=0, description="largest output difference, relative to the largest output, that is accepted"
    )
    recover: Recover = None


class PrecisionBudget(Options):
    """What a network with a number format for every layer may cost; one of the three."""

    size_bytes: int | None = Field(None, ge=1, description="bytes of all weights, as the table of steps shows them")
    bit_operations_ratio: float | None = Field(
        None, gt=0, description="products of bits, weight x activation x MACs, against those of int8 by int8"
    )
    latency_ms: float | None = Field(None, gt=0, description="of the whole network on the device that --device names")
    choices: tuple[Annotated[str, StringConstraints(pattern=r"^(float|int[2-8])$")], ...] | None = Field(
        None, min_length=2, description="formats that a layer may have; none: int8 and int4, for latency float and int8"
    )

    @model_validator(mode="after")
    def _one_quantity(self) -> "PrecisionBudget":
        if len(self._given) != 1:
            raise ValueError("set exactly one of size_bytes, bit_operations_ratio, latency_ms")
        return self

    @property
    def _given(self) -> dict[BudgetName, float]:
        named: dict[BudgetName, float | None] = {
            "size_bytes": self.size_bytes,
            "bit_operations_ratio": self.bit_operations_ratio,
            "latency_ms": self.latency_ms,
        }
        return {name: value for name, value in named.items() if value is not None}

    @property
    def name(self) -> BudgetName:
        """The quantity that is bounded."""
        return next(iter(self._given))

    @property
    def limit(self) -> float:
        """Its bound."""
        return self._given[self.name]

    @property
    def numbers(self) -> tuple[str, ...]:
        """Formats to choose from."""
        return self.choices or (("float", "int8") if self.name == "latency_ms" else ("int8", "int4"))


class QuantizeOptions(Options):
    """Post-training quantisation to integer codes, kept in the model's quantisation table."""

    weights: Annotated[str, StringConstraints(pattern=WEIGHTS)] = Field(
        "int8", description="number format of weights: int8, int4, ..., fp16, bf16, fp8_e4m3fn, e2m3, ..."
    )
    activations: Annotated[str, StringConstraints(pattern=ACTIVATIONS)] = Field(
        "int8", description="of activations: int8, int16, int4; float, dynamic, fp16; e4m3, ... (simulated only)"
    )
    group_size: int | None = Field(
        None, description="inputs of a weight that share a scale, without integer activations; none: one per channel"
    )
    observer: Literal["mse", "min-max", "percentile", "entropy"] = Field(
        "mse",
        description="range of an activation: the part of what was seen that loses least, all of it, the middle "
        "`percentile`, or the part that tells most of the distribution",
    )
    percentile: float = Field(
        0.99999, gt=0.5, le=1, description="share of an activation's values that observer percentile keeps"
    )
    weight_observer: Literal["min-max", "mse"] = Field(
        "min-max", description="scale of a weight's channel: from its largest magnitude, or the one that loses least"
    )
    rounding: Literal["nearest", "gptq", "adaround", "block"] = Field(
        "nearest",
        description="how weights are rounded to their grid: to the nearest point, by GPTQ, or as learned for each "
        "layer (adaround) or each block",
    )
    rounding_iterations: int = Field(
        500, ge=1, description="rounding adaround and block: steps for each layer or block"
    )
    rounding_batch: int = Field(16, ge=1, description="rounding block: samples a step")
    keep_quantised_ratio: float = Field(
        0.5, ge=0, le=1, description="rounding block: share of an activation's values that are rounded while it learns"
    )
    keep_float: tuple[str, ...] = Field(
        (),
        description="modules that stay in float, with all that they hold, in every format: module paths, `*` matches; "
        "with a slash in it, names of single activations",
    )
    bias_correction: Literal["none", "analytic", "empirical"] = Field(
        "analytic",
        description="biases take back what the rounding of weights shifts: as the means of the inputs say, or as the "
        "outputs of each layer show",
    )
    calibration: Literal["samples", "data-free"] = Field(
        "samples", description="data-free: inputs are made from the batch norms' statistics, and no sample is read"
    )
    samples: int | None = Field(
        None, ge=1, description="calibration samples used; none: the whole split, or 64 made ones"
    )
    choose: Choose | None = Field(
        None,
        description="which calibration samples, of which `samples` are the first; none: as the calibration set says",
    )
    mode: Literal["fixed", "auto"] = Field(
        "fixed", description="auto: raise the precision of single layers until `max_drop` holds on the selection split"
    )
    max_drop: float | None = Field(
        None, ge=0, description="mode auto: largest drop of the metric against the float network; none: 0.005"
    )
    budget: PrecisionBudget | None = Field(
        None, description="choose the number format of every layer's weights, at the least error under this budget"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "QuantizeOptions":
        if self.choose is not None and self.calibration == "data-free":
            raise ValueError("calibration: data-free makes its samples, and chooses none")
        return self

    @model_validator(mode="after")
    def _one_who_decides(self) -> "QuantizeOptions":
        if self.max_drop is not None and self.mode != "auto":
            raise ValueError("max_drop needs mode: auto")
        if self.budget is not None and self.mode == "auto":
            raise ValueError("mode auto raises precision and a budget forbids it: set one of the two")
        return self

    @model_validator(mode="after")
    def _a_scheme(self) -> "QuantizeOptions":
        check_scheme(self.weights, self.activations, self.group_size)
        if self.keep_float and self.activations == "fp16":
            raise refusal(
                "keep_float with activations fp16, which computes the whole network in halves",
                "remove keep_float, or choose other activations",
            )
        if self.rounding != "nearest" and not (self.weights.startswith("int") or is_minifloat(self.weights)):
            raise ValueError(
                f"rounding {self.rounding} is for integers and minifloats; {self.weights} is rounded to nearest"
            )
        if self.observer == "entropy" and is_minifloat(self.activations):
            raise ValueError("observer entropy is for integers: its levels are evenly spaced")
        return self
