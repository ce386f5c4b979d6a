"""Options of training. No torch here."""

from typing import Literal

from pydantic import Field, model_validator

from edgekit.schema.base import Options, refusal
from edgekit.schema.losses import LOSS_DESCRIPTION, LossName
from edgekit.schema.sparsity import GroupSparsityOptions, SparsityOptions


class TrainOptions(Options):
    """Training with a cosine schedule, and an exponential moving average of the weights."""

    loss: LossName = Field("cross_entropy", description=LOSS_DESCRIPTION)
    epochs: int = Field(10, ge=1, description="passes over the training split")
    batch_size: int = Field(64, ge=1, description="samples a step, over all processes together")
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(0.1, gt=0, description="peak, reached after the warm-up")
    weight_decay: float = Field(5e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    warmup_ratio: float = Field(0.05, ge=0, lt=1, description="share of the steps with a rising rate")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="cross_entropy only")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="0 keeps no moving average")
    augment: tuple[Literal["flip", "shift"], ...] = Field(
        (), description="random mirror; random shift by `shift_pixels`"
    )
    shift_pixels: int = Field(4, ge=0, description="largest shift in pixels each way; the border is zero padded")
    sparsity: SparsityOptions | None = Field(None, description="weights become zero, or stay zero, while it trains")
    group_sparsity: GroupSparsityOptions | None = Field(
        None, description="whole channels become small while it trains, so that `prune` after it costs little"
    )

    @model_validator(mode="after")
    def _smoothing_of_classes(self) -> "TrainOptions":
        if self.label_smoothing and self.loss != "cross_entropy":
            raise refusal(
                f"label_smoothing with loss {self.loss}", "remove it: only cross_entropy has classes to smooth"
            )
        return self
