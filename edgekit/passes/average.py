"""The exponential moving average of a network's weights and batch-norm statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """Average of every float tensor of a network's state; integer tensors are those of the last step.

    average <- d * average + (1 - d) * value, with d = min(decay, (1 + step) / (10 + step)): in the first steps the
    average must forget where training began.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.step = 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the state after one more step into the average."""
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        self.step += 1
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - decay)  # leaves what does not change as it is, to the bit
            else:
                self.tensors[name].copy_(tensor)

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Go on from a saved average."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
        self.step = step
