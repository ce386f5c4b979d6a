"""From the student's features to the size of the teacher's: a linear map of channels, and a resize."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.passes.distill.taps import Tap, find_taps, match_taps, name_taps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgekit.nets.model import Model

_RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Regressor(nn.Module):
    """(N, C_s, ...) -> (N, C_t, ...) in the teacher's size: a 1x1 convolution in any number of dimensions."""

    def __init__(self, student: Tap, teacher: Tap) -> None:
        super().__init__()
        self.linear = nn.Linear(student.channels, teacher.channels)
        self._places = teacher.places

    def forward(self, feature: Tensor) -> Tensor:
        """The student's feature as the teacher's might be."""
        return resize(self.linear(feature.movedim(1, -1)).movedim(-1, 1), self._places)


def resize(feature: Tensor, places: tuple[int, ...]) -> Tensor:
    """(N, C, ...) in another size, linearly between places; itself where it has that size."""
    if tuple(feature.shape[2:]) == places:
        return feature
    return F.interpolate(feature, size=places, mode=_RESIZE[len(places)], align_corners=False)


def pair_taps(
    student: Model, teacher: Model, named: Mapping[str, str], key: str, *, last: bool = False, same_kind: bool = True
) -> tuple[tuple[Tap, Tap], ...]:
    """Taps to compare, named or found.

    Args:
        named: student's -> teacher's; empty: they are found.
        key: of the option that names them, for errors.
        last: only the last of those that are found.
        same_kind: both must be pictures, or both sequences, or both vectors.

    Raises:
        PassError: no such module, nothing is found, or two of different kinds.
    """
    where = f"step distill, {key}"
    fix = f"name modules of both: {key.rpartition('.')[2]}: {{student's: teacher's}}"
    if named:
        theirs = name_taps(teacher, named.values(), f"{where}, teacher")
        pairs = tuple(zip(name_taps(student, named, f"{where}, student"), theirs, strict=True))
    else:
        found = [find_taps(model) for model in (student, teacher)]
        if not all(found):
            who = "teacher" if found[0] else "student"
            raise PassError(f"no features are found in the {who}", where, fix)
        pairs = ((found[0][-1], found[1][-1]),) if last else match_taps(*found)
    for one, other in pairs:
        if same_kind and len(one.places) != len(other.places):
            raise PassError(
                f"{one.name!r} gives {one.shape} a sample and the teacher's {other.name!r} {other.shape}", where, fix
            )
    return pairs
