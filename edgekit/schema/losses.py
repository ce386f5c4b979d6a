"""What a network is trained to make small: names, and how one of the user's own is named."""

from typing import Annotated

from pydantic import AfterValidator

from edgekit.schema.base import refusal
from edgekit.schema.find import suggest

LOSS_NAMES = ("cross_entropy", "mse", "bce", "reconstruction")  # of passes/losses.py, here because a plan has no torch


def _known(name: str) -> str:
    if ":" not in name and name not in LOSS_NAMES:
        raise refusal(
            f"no loss is called {name!r}", f"{suggest(name, LOSS_NAMES, 'losses')}, or package.module:function"
        )
    return name


LossName = Annotated[str, AfterValidator(_known)]
LOSS_DESCRIPTION = (
    "cross_entropy (labels count classes), mse (labels are numbers), bce (logits against shares in [0, 1]), "
    "reconstruction (the input itself), or package.module:function of (outputs, inputs, labels)"
)
