"""Looking for what is wrong with the samples that ranges are decided on, and with the splits beside them.

A finding stops nothing: it says what was seen, where, and what to do. Thresholds are set so that a sound set is silent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from edgekit.data.samples import Samples
from edgekit.data.splits import LoadedData
from edgekit.schema.calibration import CalibrationSet
from edgekit.schema.manifest import Finding
from edgekit.schema.tensors import Preprocess

FEWEST = 64  # below, ranges depend on the draw: docs/calibration.md
_NEAR = 0.05  # distance of near copies, in parts of a sample's own distance from the mean sample
_FEATURES, _COMPARED = 1024, 2048  # numbers of a sample, and samples, among which near copies are sought
_FILLED = 0.02  # of the declared range; less than that has been scaled already
_MEAN, _STD = 2.0, (0.2, 5.0)  # of inputs that were normalised by a mean and std that are theirs
_SURE = 4.0  # standard errors
_UNEVEN = 4.0  # times too rare or too frequent, for a class
_LEAST_PER_CLASS = 20  # below, chance alone makes classes uneven

Floats = NDArray[np.float64]


def lint(data: LoadedData, used: NDArray[np.int64] | None) -> tuple[Finding, ...]:
    """What is wrong with the data; nothing where all is well.

    Args:
        used: indices in the calibration split of the samples that ranges were decided on; None: none were.
    """
    findings = [_overlaps(data)]
    if used is not None and len(used):
        where = f"{data.calibration.name}, calibration"
        samples = data.splits.calibration.take(used)
        findings += [
            _few(samples, where),
            _copies(samples, where),
            _values(samples, data.calibration.preprocess, where),
            _channel_order(samples, data.calibration.preprocess, where),
            _classes(samples, data, where),
        ]
    return tuple(chain.from_iterable(findings))


def _few(samples: Samples, where: str) -> Iterator[Finding]:
    if len(samples) < FEWEST:
        yield Finding(
            what=f"{len(samples)} samples decide the ranges",
            where=where,
            fix=f"give {FEWEST} at least; 128 to 1,024 are usual",
        )


def _copies(samples: Samples, where: str) -> Iterator[Finding]:
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(key, index), index) for index, key in enumerate(_content(samples))]
    copies = [pair for pair in pairs if pair[0] != pair[1]]
    if copies:
        yield Finding(
            what=f"{len(copies)} of {len(samples)} samples are copies of another, such as number {copies[0][1]} of "
            f"number {copies[0][0]}",
            where=where,
            fix="leave copies out: they take the place of samples that would tell something new",
        )
    distinct = np.array(sorted(set(range(len(samples))) - {index for _, index in copies}))[:_COMPARED]
    near = [(distinct[i], distinct[j]) for i, j in _near_pairs(samples.take(distinct))]
    if near:
        yield Finding(
            what=f"{len({index for _, index in near})} of {len(samples)} samples are almost copies of another, such as "
            f"number {near[0][1]} of number {near[0][0]}",
            where=where,
            fix="take samples that are not neighbours, such as every tenth frame of a film: `step` of the split",
        )


def _near_pairs(samples: Samples) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, whose difference is tiny beside what tells a sample from the mean sample."""
    rows = torch.cat([inputs.reshape(len(inputs), -1) for inputs in samples.inputs], 1)
    rows = rows[:, :: max(1, rows.shape[1] // _FEATURES)].double()
    spread = rows.std(0)
    rows = (rows[:, spread > 0] - rows[:, spread > 0].mean(0)) / spread[spread > 0]
    squares = rows.square().sum(1)
    found = []
    for start in range(0, len(rows), 256):
        distances = squares[start : start + 256, None] + squares - 2 * rows[start : start + 256] @ rows.T
        close = distances < _NEAR**2 * torch.minimum(squares[start : start + 256, None], squares)
        found += [(start + int(i), int(j)) for i, j in close.nonzero() if start + i < j]
    return found


def _values(samples: Samples, preprocess: Preprocess, where: str) -> Iterator[Finding]:
    channels = _channels(samples.inputs[0], preprocess)
    if channels is not None:
        means, spreads = channels.mean(0), channels.std(0)
        constant = np.flatnonzero(spreads <= 1e-12 * np.abs(means)).tolist()
        if constant:
            yield Finding(
                what=f"channel {constant[0]} is {means[constant[0]]:.4g} in every sample",
                where=where,
                fix="check how the samples are read: a channel is lost",
            )
    yield from _scaling(samples, preprocess, where)


def _scaling(samples: Samples, preprocess: Preprocess, where: str) -> Iterator[Finding]:
    low, high = (float(end) for end in torch.aminmax(samples.inputs[0]))
    if preprocess.mean and preprocess.std:
        inputs = samples.inputs[0].double()
        mean, std = float(inputs.mean()), float(inputs.std())
        if abs(mean) > _MEAN or not _STD[0] < std < _STD[1]:
            yield Finding(
                what=f"after `mean` and `std` the inputs have mean {mean:.3g} and std {std:.3g}, not 0 and 1",
                where=f"{where}, preprocess",
                fix="correct offset and factor, which come before; raw values may be scaled already",
            )
        return
    declared = _declared_range(preprocess)
    if declared is None:
        return
    if low < declared[0] - 1e-6 or high > declared[1] + 1e-6:
        yield Finding(
            what=f"inputs reach from {low:.4g} to {high:.4g}; raw values 0 to 255 would give {declared[0]:.4g} to "
            f"{declared[1]:.4g}",
            where=f"{where}, preprocess",
            fix="correct offset and factor, or the raw values",
        )
    elif high - low < _FILLED * (declared[1] - declared[0]):
        yield Finding(
            what=f"inputs reach from {low:.4g} to {high:.4g}, a small part of {declared[0]:.4g} to {declared[1]:.4g}",
            where=f"{where}, preprocess",
            fix="raw values may be scaled already: correct factor, or hand over raw values",
        )


def _declared_range(preprocess: Preprocess) -> tuple[float, float] | None:
    """What the inputs can be, by the raw dtype; of raw floats by a factor that is made for bytes, else unknown."""
    if preprocess.raw_dtype in ("uint8", "int8"):
        info = np.iinfo(preprocess.raw_dtype)
        low, high = float(info.min), float(info.max)
    elif preprocess.raw_dtype.startswith("float") and any(np.isclose(preprocess.factor, 1 / x) for x in (255.0, 127.5)):
        low, high = 0.0, 255.0
    else:
        return None
    ends = ((low - preprocess.offset) * preprocess.factor, (high - preprocess.offset) * preprocess.factor)
    return min(ends), max(ends)


def _channel_order(samples: Samples, preprocess: Preprocess, where: str) -> Iterator[Finding]:
    """First and last channel differ the other way round than the declared means, beyond chance."""
    channels = _channels(samples.inputs[0], preprocess)
    if channels is None or channels.shape[1] != 3 or len(preprocess.mean) != 3 or len(samples) < 2:
        return
    means = channels * (np.array(preprocess.std) if preprocess.std else 1.0) + np.array(preprocess.mean)
    difference = means[:, 0] - means[:, 2]
    declared = preprocess.mean[0] - preprocess.mean[2]
    found, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(samples)))
    if declared and found * np.sign(declared) < -_SURE * error:
        yield Finding(
            what=f"the first channel's mean less the last's is {found:+.3f}, and by the declared means {declared:+.3f}",
            where=f"{where}, preprocess.mean",
            fix="channels are probably in the other order, BGR instead of RGB: correct the loader, or mean and std",
        )


def _channels(inputs: torch.Tensor, preprocess: Preprocess) -> Floats | None:
    """(N, C) mean of every channel of every sample, of images; None where the layout knows no channels."""
    if preprocess.raw_layout == "N" or preprocess.layout not in ("NCHW", "NHWC"):
        return None
    axes = (2, 3) if preprocess.layout == "NCHW" else (1, 2)
    means: Floats = inputs.double().mean(axes).numpy()
    return means


def _classes(samples: Samples, data: LoadedData, where: str) -> Iterator[Finding]:
    test, labels = data.test.labels.numpy(), samples.labels.numpy()
    if labels.ndim != 1 or labels.dtype.kind == "f":
        return  # no classes
    classes = np.unique(np.concatenate([test, labels]))
    if len(classes) < 2 or len(labels) < _LEAST_PER_CLASS * len(classes):
        return
    counts = (labels[:, None] == classes).sum(0)
    even = len(labels) / len(classes)
    natural = (test[:, None] == classes).mean(0) * len(labels)
    # a set may follow the test split or be even: both are sound
    wrong = (counts < np.minimum(even, natural) / _UNEVEN) | (counts > np.maximum(even, natural) * _UNEVEN)
    if wrong.any():
        named = [_class_name(int(classes[i]), data.calibration) for i in np.flatnonzero(wrong)]
        shown = ", ".join(f"{name}: {counts[i]}" for name, i in zip(named, np.flatnonzero(wrong)[:5], strict=False))
        yield Finding(
            what=f"{len(named)} of {len(classes)} classes are {_UNEVEN:.0f} times rarer or more frequent than they "
            f"should be ({shown}; an even share is {even:.0f})",
            where=where,
            fix="`choose: {method: class-balanced, ...}`, or mix the samples",
        )


def _class_name(label: int, calibration: CalibrationSet) -> str:
    return calibration.classes[label] if label < len(calibration.classes) else f"class {label}"


def _overlaps(data: LoadedData) -> Iterator[Finding]:
    """Splits are apart by index; the same content may still stand at two indices."""
    test: dict[bytes, int] = {}
    for index, key in enumerate(_content(data.test)):
        test.setdefault(key, index)
    for name in ("train", "calibration", "selection"):
        samples: Samples | None = getattr(data.splits, name)
        if samples is None:
            continue
        shared = [(i, test[key]) for i, key in enumerate(_content(samples)) if key in test]
        if shared:
            yield Finding(
                what=f"{len(shared)} of {len(samples)} samples are in the test split too, such as number "
                f"{shared[0][0]}, which is number {shared[0][1]} there",
                where=f"{data.calibration.name}, {name}",
                fix="leave them out of one of the two: what is tested must not have been seen",
            )


def _content(samples: Samples) -> Iterator[bytes]:
    for rows in zip(*samples.inputs, strict=True):
        digest = hashlib.blake2b(digest_size=16)
        for row in rows:
            digest.update(row.contiguous().numpy().data)
        yield digest.digest()
