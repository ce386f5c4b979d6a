"""A small single-shot detector without anchors, and what it is trained by.

Each cell of a grid of stride 8 tells where the middle of an object lies, how large it is, and how sure it is of every
class. `Detector.decode` makes boxes of pixels and scores of that. It is a module of its own so that quantisation can
leave it in float by name: the coordinates of boxes lose whole pixels on an int8 grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 8
_SIDE = 16.0  # of a box in pixels that a size of 0 stands for
_REACH = 0.9  # strides from the middle of an object up to the cells that learn its box
_FOCUS = 2.0  # beta of the quality focal loss
_BOX_WEIGHT = 2.0


class Decode(nn.Module):
    """Raw maps to boxes (N, A, 4) in pixels and scores (N, A, C) in [0, 1], for A cells row by row."""

    centres: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        self.register_buffer("centres", (torch.stack([columns, rows]).flatten(1)[None] + 0.5) * STRIDE)  # (1, 2, A)

    def forward(self, places: Tensor, classes: Tensor) -> dict[str, Tensor]:
        """Boxes and scores.

        Args:
            places: (N, 4, H, W), shift of the middle right and down in strides, logarithm of width and height / 16.
            classes: (N, C, H, W), logits.
        """
        places = places.flatten(2)
        middles = self.centres + places[:, :2] * STRIDE
        halves = torch.exp(places[:, 2:]) * (_SIDE / 2)
        boxes = torch.cat([middles - halves, middles + halves], 1)
        return {"boxes": boxes.transpose(1, 2), "scores": torch.sigmoid(classes.flatten(2)).transpose(1, 2)}


class Detector(nn.Module):
    """(N, channels, size, size) -> boxes (N, A, 4) in pixels and scores (N, A, classes), A = (size / 8)^2.

    Three convolutions halve the image; their maps go to a branch for boxes and one for classes.
    """

    def __init__(self, classes: int, size: int, widths: Sequence[int], channels: int = 1) -> None:
        super().__init__()
        first, second, third = widths
        self.trunk = nn.Sequential(
            *_layer(channels, first, stride=2),
            *_layer(first, second, stride=2),
            *_layer(second, third, stride=2),
            *_layer(third, third),
            *_layer(third, third),
        )
        self.places = nn.Sequential(*_layer(third, third), nn.Conv2d(third, 4, 1))
        self.classes = nn.Sequential(*_layer(third, third), nn.Conv2d(third, classes, 1))
        self.decode = Decode(size // STRIDE, size // STRIDE)
        with torch.no_grad():  # an untrained cell is sure of nothing, else the many empty ones drown the rest
            last = self.classes[-1]
            assert isinstance(last, nn.Conv2d)
            assert last.bias is not None
            last.bias.fill_(-4.0)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs `boxes` and `scores`."""
        x = self.trunk(x)
        found: dict[str, Tensor] = self.decode(self.places(x), self.classes(x))
        return found


def detector(classes: int = 10, size: int = 64, widths: Sequence[int] = (16, 32, 48), channels: int = 1) -> Detector:
    """The network of `recipes/detector-digits.yaml`.

    Args:
        size: pixels of a side of the image, a multiple of 8.
    """
    return Detector(classes, size, widths, channels)


def detection_loss(outputs: Mapping[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
    """Quality focal loss of the scores and 1 - GIoU of the boxes, over the cells that see an object.

    A cell learns the box whose middle is nearest, if that is within 0.9 strides, and as score of its class the IoU that
    its box reaches; every other score learns 0. For the loss option of `train`: `edgekit.nets.detector:detection_loss`.

    Args:
        outputs: of `Detector`.
        inputs: (N, C, H, W), for its size alone.
        labels: (N, K, 5), rows of class, x_min, y_min, x_max, y_max in pixels; class -1 fills.

    Source: Li et al., Generalized Focal Loss, arXiv:2006.04388, eq. 2; Rezatofighi et al., GIoU, arXiv:1902.09630.
    """
    boxes, scores = outputs["boxes"].float(), outputs["scores"].float()
    samples, cells, rows = _assigned(labels, inputs.shape[-2] // STRIDE, inputs.shape[-1] // STRIDE)
    wanted, found = labels[samples, rows, 1:], boxes[samples, cells]
    overlap, generalised = _overlaps(found, wanted)
    targets = torch.zeros_like(scores)
    targets[samples, cells, labels[samples, rows, 0].long()] = overlap.detach()
    scores = scores.clamp(1e-6, 1 - 1e-6)
    surprise = F.binary_cross_entropy(scores, targets, reduction="none") * (targets - scores).abs() ** _FOCUS
    count = max(1, len(cells))
    return (surprise.sum() + _BOX_WEIGHT * (1 - generalised).sum()) / count


def _layer(channels_in: int, channels: int, stride: int = 1) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()


def _assigned(labels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sample, cell and row of `labels` of every cell that learns a box."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = ((torch.stack([columns, rows], -1).flatten(0, 1) + 0.5) * STRIDE).to(labels)  # (A, 2)
    middles = (labels[..., 1:3] + labels[..., 3:5]) / 2  # (N, K, 2)
    distance = (centres[None, :, None] - middles[:, None]).abs().amax(-1) / STRIDE  # (N, A, K)
    distance = distance.masked_fill(labels[:, None, :, 0] < 0, torch.inf)
    nearest, chosen = distance.min(-1)
    samples, cells = torch.nonzero(nearest <= _REACH, as_tuple=True)
    return samples, cells, chosen[samples, cells]


def _overlaps(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and GIoU, (B,) each, of pairs of boxes (B, 4)."""
    common = _areas(torch.maximum(found[:, :2], wanted[:, :2]), torch.minimum(found[:, 2:], wanted[:, 2:]))
    around = _areas(torch.minimum(found[:, :2], wanted[:, :2]), torch.maximum(found[:, 2:], wanted[:, 2:]))
    union = _areas(found[:, :2], found[:, 2:]) + _areas(wanted[:, :2], wanted[:, 2:]) - common
    overlap = common / union
    return overlap, overlap - (around - union) / around


def _areas(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0).prod(-1)
