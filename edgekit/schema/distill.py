"""Options of distillation. No torch here."""

from pydantic import Field, model_validator

from edgekit.schema.base import refusal
from edgekit.schema.losses import LOSS_NAMES
from edgekit.schema.train import TrainOptions


class DistillOptions(TrainOptions):
    """Distillation from a teacher's outputs, Hinton, Vinyals and Dean, arXiv:1503.02531."""

    learning_rate: float = Field(0.01, gt=0, description="peak, reached after the warm-up")
    temperature: float = Field(4.0, gt=0, description="cross_entropy, bce: softens both distributions")
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the teacher's term; 1 - alpha weighs the loss")

    @model_validator(mode="after")
    def _a_teachers_term(self) -> "DistillOptions":
        if ":" in self.loss:
            raise refusal(
                f"a loss of your own, {self.loss!r}, does not know what to make of a teacher's outputs",
                f"set loss to one of {', '.join(LOSS_NAMES)}; or train with your own, without a teacher",
            )
        return self
