"""From the shape of a raw sample to the shapes that a network might take it in, the likeliest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgekit.init.facts import Way
from edgekit.schema.tensors import LAYOUT_BY_RANK

_CHANNELS = (1, 3, 4)


def ways(shape: Sequence[int], wanted: Sequence[int] | None = None) -> Iterator[Way]:
    """Every way from a raw sample of `shape` to a network's input.

    Images with their channels last are turned round, or taken as they are; everything else is taken as it is.

    Args:
        wanted: shape of the network's input, batch first, where it is known: only ways that end there, images of
            another size being resized.
    """
    for way in _ways(tuple(shape)):
        if wanted is None or tuple(wanted[1:]) == way.shape[1:]:
            yield way
        else:
            size = _resized(way, wanted)
            if size is not None:
                yield way.model_copy(update={"shape": (1, *wanted[1:]), "resize": size})


def _ways(shape: tuple[int, ...]) -> Iterator[Way]:
    if len(shape) == 3 and shape[2] in _CHANNELS:
        height, width, channels = shape
        yield Way(raw_layout="NHWC", layout="NCHW", shape=(1, channels, height, width))
        yield Way(raw_layout="NHWC", layout="NHWC", shape=(1, *shape))
    elif len(shape) == 3 and shape[0] in _CHANNELS:
        yield Way(raw_layout="NCHW", layout="NCHW", shape=(1, *shape))
    yield Way(raw_layout="N", layout=LAYOUT_BY_RANK.get(len(shape) + 1, "N"), shape=(1, *shape))


def _resized(way: Way, wanted: Sequence[int]) -> tuple[int, int] | None:
    """Height and width to resize to, where nothing else differs."""
    if way.raw_layout == "N" or len(wanted) != 4:
        return None
    channel = way.layout.index("C")
    if wanted[channel] != way.shape[channel]:
        return None
    return wanted[way.layout.index("H")], wanted[way.layout.index("W")]
