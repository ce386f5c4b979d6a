"""Padding of kernels that move over an input: how ONNX says it, and what that is in torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn import functional

from edgekit.nets.from_onnx.graph import Operator, Ref
from edgekit.nets.from_onnx.network import Argument
from edgekit.nets.from_onnx.untaken import UntakenError


@dataclass(frozen=True)
class Window:
    """A kernel over the axes behind batch and channels.

    Attributes:
        begin, end: padding at either end of each axis.
        ceil: count a window that begins inside the input and ends outside.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    ceil: bool

    @property
    def even(self) -> bool:
        """Whether both ends have the same padding, and no more than torch's pools take."""
        return self.begin == self.end

    @property
    def flat(self) -> list[int]:
        """Padding as torch's `pad` takes it: the last axis first."""
        return [side for pair in reversed(list(zip(self.begin, self.end, strict=True))) for side in pair]

    def counts(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Windows along each axis of an input of these sizes, without those that `ceil` adds."""
        sides = zip(sizes, self.kernel, self.stride, self.dilation, self.begin, self.end, strict=True)
        return tuple((n + b + e - (d * (k - 1) + 1)) // s + 1 for n, k, s, d, b, e in sides)


def window_of(op: Operator, kernel: Sequence[int]) -> Window:
    """The window of a convolution or a pool; `auto_pad` is worked out from the input's size."""
    axes = len(kernel)
    stride = tuple(op.attribute("strides") or [1] * axes)
    dilation = tuple(op.attribute("dilations") or [1] * axes)
    ceil = bool(op.attribute("ceil_mode", 0))
    how = op.attribute("auto_pad", "NOTSET")
    if how in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(op.shape(0)[2:], kernel, stride, dilation, strict=True)
        ]
        less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        begin, end = (less, more) if how == "SAME_UPPER" else (more, less)
        return Window(tuple(kernel), stride, dilation, begin, end, ceil=False)
    pads = list(op.attribute("pads") or [0] * 2 * axes) if how == "NOTSET" else [0] * 2 * axes
    return Window(tuple(kernel), stride, dilation, tuple(pads[:axes]), tuple(pads[axes:]), ceil)


def zero_padded(op: Operator, window: Window) -> Argument | Ref:
    """The operator's input with zeros round it."""
    if min(*window.begin, *window.end) >= 0 and len(window.kernel) == 2:
        pad = nn.ZeroPad2d(tuple(window.flat))  # type: ignore[arg-type]
        return op.layer(pad, op.tensor(0), part="pad")  # type: ignore[no-any-return]
    return op.apply_part(functional.pad, "pad", op.tensor(0), pad=window.flat)  # type: ignore[no-any-return]


def layer_for(kinds: Sequence[Any], axes: int) -> Any:
    """The one of three layers that is for so many axes."""
    if not 1 <= axes <= 3:
        raise UntakenError(f"it works over {axes} axes, and torch has it for 1 to 3")
    return kinds[axes - 1]
