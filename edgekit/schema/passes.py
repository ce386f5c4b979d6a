"""Options of every pass: what a step in a recipe may set. No torch here."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from edgekit.schema.base import Options
from edgekit.schema.calibration import Choose
from edgekit.schema.scheme import ACTIVATIONS, WEIGHTS, check_scheme, is_minifloat


class TrainOptions(Options):
    """Supervised training with a cosine schedule, label smoothing and an exponential moving average."""

    epochs: int = Field(10, ge=1, description="passes over the training split")
    batch_size: int = Field(64, ge=1, description="samples a step, over all processes together")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(0.1, gt=0, description="peak, reached after the warm-up")
    weight_decay: float = Field(5e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="share of the steps with a rising rate")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema_decay: float = Field(0.0, ge=0, lt=1, description="0 keeps no moving average")
    augment: tuple[Literal["flip", "shift"], ...] = Field(
        (), description="random mirror; random shift by `shift_pixels`"
    )
    shift_pixels: int = Field(4, ge=0, description="largest shift in pixels each way; the border is zero padded")


class DistillOptions(TrainOptions):
    """Logit distillation, Hinton, Vinyals and Dean, arXiv:1503.02531."""

    learning_rate: float = Field(0.01, gt=0, description="peak, reached after the warm-up")
    temperature: float = Field(4.0, gt=0, description="tau: softens both distributions")
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the teacher's term; 1 - alpha weighs the labels")


class PruneOptions(Options):
    """Structured channel pruning by dependency graph, Fang et al., arXiv:2301.12900."""

    macs_ratio: float | None = Field(
        None, gt=0, lt=1, description="share of MACs to keep; the search stops at or below it"
    )
    channel_ratio: float | None = Field(None, gt=0, lt=1, description="share of channels removed in every layer")
    importance: Literal["magnitude", "bn_scale", "taylor"] = "magnitude"
    global_ranking: bool = Field(True, description="rank channels over all layers, not within each")
    min_keep_ratio: float = Field(0.25, gt=0, le=1, description="no layer keeps less than this share of its channels")
    multiple_of: int | None = Field(None, ge=1, description="kept widths are multiples of this; none: the target's")
    keep: tuple[str, ...] = Field((), description="layers whose outputs are not pruned; the last linear never is")
    recalibrate_norms: bool = Field(True, description="re-estimate batch-norm statistics on the calibration split")

    @model_validator(mode="after")
    def _one_aim(self) -> "PruneOptions":
        if (self.macs_ratio is None) == (self.channel_ratio is None):
            raise ValueError("set exactly one of macs_ratio, channel_ratio")
        return self


class ReparamOptions(Options):
    """Structural re-parameterisation: conv+BN and RepVGG blocks, Ding et al., arXiv:2101.03697."""

    tolerance: float = Field(
        1e-4, gt=0, description="largest output difference, relative to the largest output, that is accepted"
    )


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
    rounding: Literal["nearest"] = Field("nearest", description="how weights are rounded to their grid")
    bias_correction: Literal["none", "analytic"] = Field(
        "analytic", description="biases take back what the rounding of weights shifts: by the means of the inputs"
    )
    samples: int | None = Field(None, ge=1, description="calibration samples used; none: the whole split")
    choose: Choose | None = Field(
        None, description="which calibration samples; `samples` then takes the first. None: as the calibration set says"
    )

    @model_validator(mode="after")
    def _a_scheme(self) -> "QuantizeOptions":
        check_scheme(self.weights, self.activations, self.group_size)
        if self.observer == "entropy" and is_minifloat(self.activations):
            raise ValueError("observer entropy is for integers: its levels are evenly spaced")
        return self
