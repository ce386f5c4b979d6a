"""Random changes of a training batch. The draw is apart from the change, so that processes can share one draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekit.errors import PassError


@dataclass(frozen=True)
class Augmentation:
    """What happens to each sample of a batch.

    Attributes:
        mirrored: (N,) bool, left and right exchanged; None: no flips.
        offsets: (N, 2) int64 in [-shift, shift], how far the picture moves down and right; None: no shifts.
    """

    mirrored: Tensor | None
    offsets: Tensor | None

    @classmethod
    def draw(cls, count: int, kinds: Sequence[str], shift_pixels: int, generator: torch.Generator) -> Augmentation:
        """Draw for `count` samples: each mirrored with probability 1/2, each offset equally likely."""
        mirrored = torch.rand(count, generator=generator) < 0.5 if "flip" in kinds else None
        offsets = None
        if "shift" in kinds:
            offsets = torch.randint(-shift_pixels, shift_pixels + 1, (count, 2), generator=generator)
        return cls(mirrored, offsets)

    def of(self, indices: Tensor | slice) -> Augmentation:
        """The part of the draw that belongs to these samples of the batch."""
        return Augmentation(
            None if self.mirrored is None else self.mirrored[indices],
            None if self.offsets is None else self.offsets[indices],
        )

    def apply(self, inputs: Tensor) -> Tensor:
        """The changed batch; pixels that come in from outside are zero.

        Args:
            inputs: (N, C, H, W).

        Raises:
            PassError: something was drawn, and the inputs are not pictures.
        """
        if self.mirrored is None and self.offsets is None:
            return inputs
        if inputs.dim() != 4:
            raise PassError(
                what=f"inputs of shape {tuple(inputs.shape[1:])} cannot be flipped or shifted",
                where="option augment",
                fix="leave augment empty; flip and shift are for pictures (C, H, W)",
            )
        if self.mirrored is not None:
            inputs = torch.where(self.mirrored[:, None, None, None], inputs.flip(-1), inputs)
        if self.offsets is not None:
            inputs = _shift(inputs, self.offsets)
        return inputs


def _shift(inputs: Tensor, offsets: Tensor) -> Tensor:
    count, channels, height, width = inputs.shape
    rows = torch.arange(height) - offsets[:, :1]  # (N, H): the row each output row is read from
    columns = torch.arange(width) - offsets[:, 1:]  # (N, W)
    inside = ((rows >= 0) & (rows < height))[:, None, :, None] & ((columns >= 0) & (columns < width))[:, None, None, :]
    samples = torch.arange(count)[:, None, None, None]
    planes = torch.arange(channels)[None, :, None, None]
    read = inputs[
        samples, planes, rows.clamp(0, height - 1)[:, None, :, None], columns.clamp(0, width - 1)[:, None, None, :]
    ]
    return read * inside
