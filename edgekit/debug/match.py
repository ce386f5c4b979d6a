"""Which layer of one side is which of the other, and how the axes of their outputs correspond.

Layers are aligned in execution order, as two texts are: the chain of pairs with the highest score. A pair needs the
same kind and the same sizes; it scores higher where the tensor has the same name, and where the weights are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from edgekit.debug.kinds import WEIGHTED
from edgekit.debug.layers import INPUT, Array, Layer
from edgekit.errors import DataError

# a pair of the same kind and sizes scores 1, and this more; one of like weights outweighs two of others
_NAME, _WEIGHT, _ALIKE, _SOURCES = 4, 2, 8, 2
_ALIKE_COSINE = 0.9
_COMPARED = 4096  # numbers of a weight that are looked at
_LARGEST_PERMUTED = 4  # axes


@dataclass(frozen=True)
class Pair:
    """Two layers that should compute the same.

    Attributes:
        axes: order of the candidate's axes, those of size 1 left out, in the reference; the batch stays first.
        shape: (batch, ...) of the reference; `own_shape` of the candidate.
    """

    reference: Layer
    candidate: Layer
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    own_shape: tuple[int, ...]
    by_name: bool

    def to_reference(self, values: Array) -> Array:
        """The candidate's output, shaped as the reference's."""
        return _squeezed(values).transpose(self.axes).reshape(len(values), *self.shape[1:])

    def to_candidate(self, values: Array) -> Array:
        """The reverse."""
        moved = _squeezed(values).transpose(tuple(np.argsort(self.axes)))
        return np.ascontiguousarray(moved.reshape(len(values), *self.own_shape[1:]))


@dataclass(frozen=True)
class Matched:
    """Pairs in the reference's order, inputs first, and the layers of each side that have no counterpart."""

    pairs: tuple[Pair, ...]
    reference_only: tuple[Layer, ...]
    candidate_only: tuple[Layer, ...]

    @property
    def how(self) -> str:
        """For people: `31 by name, 2 by order and shape`."""
        layers = [pair for pair in self.pairs if pair.reference.kind != INPUT]
        named = sum(pair.by_name for pair in layers)
        parts = [(named, "by tensor name"), (len(layers) - named, "by order, kind and shape")]
        return ", ".join(f"{count} {how}" for count, how in parts if count) or "none"


def match(
    reference: Sequence[Layer], candidate: Sequence[Layer], found: Mapping[str, Array], own: Mapping[str, Array]
) -> Matched:
    """Pair the layers of two sides.

    Args:
        found, own: outputs of the layers of the reference and of the candidate for the same samples.

    Raises:
        DataError: the two take different inputs, or no layer of one is like any of the other.
    """
    inputs = pair_inputs(reference, candidate)
    pairs = [_pair(a, b, found[a.name], own[b.name]) for a, b in inputs]
    rows = [layer for layer in reference if layer.kind != INPUT and layer.name in found]
    columns = [layer for layer in candidate if layer.kind != INPUT and layer.name in own]
    scores = np.array([[_score(a, b, found, own) for b in columns] for a in rows], np.int64)
    scores = scores.reshape(len(rows), len(columns))
    twins = {a.name: b.name for a, b in inputs}
    chain = _best_chain(scores)
    # once more, for pairs that also read the same layers, as far as the first chain is right
    chain = _best_chain(scores + (scores > 0) * _agreement(rows, columns, twins, chain))
    chain += _leftovers(rows, columns, twins, chain, scores)
    if not chain:
        raise DataError(
            "no layer of one is like any of the other in kind and shape",
            f"{len(rows)} and {len(columns)} layers",
            "compare two versions of the same network",
        )
    pairs += [_pair(rows[i], columns[j], found[rows[i].name], own[columns[j].name]) for i, j in sorted(chain)]
    left, right = {i for i, _ in chain}, {j for _, j in chain}
    return Matched(
        tuple(pairs),
        tuple(layer for i, layer in enumerate(rows) if i not in left),
        tuple(layer for j, layer in enumerate(columns) if j not in right),
    )


def pair_inputs(reference: Sequence[Layer], candidate: Sequence[Layer]) -> list[tuple[Layer, Layer]]:
    """Network inputs by name, else by their order.

    Raises:
        DataError: one side has more of them.
    """
    ours, theirs = ([layer for layer in side if layer.kind == INPUT] for side in (reference, candidate))
    if len(ours) != len(theirs):
        raise DataError(
            f"one takes {len(ours)} inputs, the other {len(theirs)}",
            f"{', '.join(layer.tensor for layer in ours)}; {', '.join(layer.tensor for layer in theirs)}",
            "compare two versions of the same network",
        )
    named = {layer.name: layer for layer in theirs}
    if all(layer.name in named for layer in ours):
        return [(layer, named[layer.name]) for layer in ours]
    return list(zip(ours, theirs, strict=True))


def _pair(a: Layer, b: Layer, found: Array, own: Array) -> Pair:
    axes = _axes(found, own)
    if axes is None:
        raise DataError(
            f"input {a.tensor!r} is {found.shape[1:]} on one side and {own.shape[1:]} on the other",
            f"inputs {a.tensor}, {b.tensor}",
            "compare two versions of the same network",
        )
    return Pair(a, b, axes, found.shape, own.shape, a.tensor == b.tensor)


def _axes(found: Array, own: Array) -> tuple[int, ...] | None:
    """Order of the squeezed axes of `own` that makes it shaped as `found`; of several the one that agrees best."""
    wanted, given = _squeezed(found), _squeezed(own)
    rank = given.ndim
    if rank != wanted.ndim or sorted(given.shape[1:]) != sorted(wanted.shape[1:]):
        return None
    orders = permutations(range(1, rank)) if rank <= _LARGEST_PERMUTED else [tuple(range(1, rank))]
    fitting = [(0, *order) for order in orders if tuple(given.shape[i] for i in order) == wanted.shape[1:]]
    if not fitting:
        return None
    best = fitting[0]  # the order that they are in already
    if len(fitting) > 1 and given.shape == wanted.shape:
        # a square map fits transposed too; only a plain gain may overrule the order that the axes stand in
        score = {axes: _cosine(given.transpose(axes), wanted) for axes in fitting}
        top = max(fitting, key=score.__getitem__)
        best = top if score[top] > score[best] + 0.5 else best
    return best


def _squeezed(values: Array) -> Array:
    """Without axes of size 1, but the batch."""
    return values.reshape(len(values), *(size for size in values.shape[1:] if size != 1))


def _score(a: Layer, b: Layer, found: Mapping[str, Array], own: Mapping[str, Array]) -> int:
    ours, theirs = (sorted(size for size in values.shape[1:] if size != 1) for values in (found[a.name], own[b.name]))
    if a.kind != b.kind or ours != theirs:
        return 0
    score = 1 + _NAME * (a.tensor == b.tensor)
    if a.kind in WEIGHTED and a.weight is not None and b.weight is not None:
        ours, theirs = (sorted(s for s in w.values.shape if s != 1) for w in (a.weight, b.weight))
        if ours != theirs:
            return 0
        score += _WEIGHT
        if a.weight.values.shape == b.weight.values.shape:
            score += _ALIKE * (_cosine(_some(a.weight.values), _some(b.weight.values)) > _ALIKE_COSINE)
    return score


def _some(values: Array) -> Array:
    return values.reshape(-1)[:_COMPARED]


def _cosine(a: Array, b: Array) -> float:
    x, y = a.reshape(-1).astype(np.float64), b.reshape(-1).astype(np.float64)
    size = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / size if size > 0 else 0.0


def _best_chain(scores: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs that rise in both orders and have the highest sum."""
    rows, columns = scores.shape
    best = np.zeros((rows + 1, columns + 1), np.int64)
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            taken = scores[i, j] + best[i + 1, j + 1] if scores[i, j] else 0
            best[i, j] = max(taken, best[i + 1, j], best[i, j + 1])
    chain, i, j = [], 0, 0
    while i < rows and j < columns:
        if scores[i, j] and best[i, j] == scores[i, j] + best[i + 1, j + 1]:
            chain.append((i, j))
            i, j = i + 1, j + 1
        elif best[i, j] == best[i + 1, j]:
            i += 1
        else:
            j += 1
    return chain


def _agreement(
    rows: Sequence[Layer], columns: Sequence[Layer], inputs: Mapping[str, str], chain: Sequence[tuple[int, int]]
) -> NDArray[np.int64]:
    """What a pair scores more where all that the two read are pairs of a chain."""
    twins = {**inputs, **{rows[i].name: columns[j].name for i, j in chain}}
    found = [{twins.get(source, "") for source in row.sources} for row in rows]
    own = [set(column.sources) for column in columns]
    return np.array([[_SOURCES * (wanted == given) for given in own] for wanted in found], np.int64)


def _leftovers(
    rows: Sequence[Layer],
    columns: Sequence[Layer],
    inputs: Mapping[str, str],
    chain: Sequence[tuple[int, int]],
    scores: NDArray[np.int64],
) -> list[tuple[int, int]]:
    """Layers that two exporters put in another order: what has the weights of a layer, or is of its kind and reads the
    same, if only one does.
    """
    twins = {**inputs, **{rows[i].name: columns[j].name for i, j in chain}}
    left = [i for i in range(len(rows)) if i not in {i for i, _ in chain}]
    right = [j for j in range(len(columns)) if j not in {j for _, j in chain}]
    found = []
    for i in left:
        sources = {twins.get(name, "") for name in rows[i].sources}
        alike = [j for j in right if scores[i, j] > _ALIKE] or [
            j for j in right if scores[i, j] and set(columns[j].sources) == sources
        ]
        if len(alike) == 1:
            right.remove(alike[0])
            twins[rows[i].name] = columns[alike[0]].name
            found.append((i, alike[0]))
    return found
