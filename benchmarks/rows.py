"""What every benchmark writes: rows, the machine they come from, and statistics of paired samples.

A benchmark measures; how its numbers are stored and shown is decided here.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from edgekit import __version__
from edgekit.agent.sensors import ROOT, cpu_model, read_sensors
from edgekit.errors import DataError

_NORMAL_975 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "asimddp")
_DIGITS = {"share": "{:.4f}", "KB": "{:.1f}", "MB": "{:.0f}", "ms": "{:.4f}", "s": "{:.1f}", "factor": "{:.3f}"}
_DIGITS |= {"bits": "{:.0f}", "points": "{:.0f}"}  # of the hardware cost model
_BOUNDS = (" low", " high")


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        case: network, precision and format; two precisions are two cases.
        system: `edgekit`, a peer's name, or `float ...` for an uncompressed reference.
        metric: what was measured; the ends of its 95 % interval are rows of their own, ` low` and ` high` at the end.
        unit: `share` in [0, 1] or a difference of two, `factor`, `ms`, `s`, `KB` of 1,000 bytes or `MB` of 1,000 KB.
    """

    case: str
    system: str
    metric: str
    value: float
    unit: str


@dataclass
class Results:
    """Rows as they come in, and notes on what is not a number: a peer that is absent, a noisy measurement."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, case: str, system: str, metric: str, value: float, unit: str) -> None:
        """Add one row.

        Raises:
            DataError: there is one of this case, system and metric, the value is not finite, or the unit is unknown.
        """
        where = f"case {case}, system {system}, metric {metric}"
        if any((row.case, row.system, row.metric) == (case, system, metric) for row in self.rows):
            raise DataError("a second row of one name", where, "name another precision or condition another case")
        if not np.isfinite(value):
            raise DataError(f"the value is {value}", where, "leave the row out and add a note that says why")
        if unit not in _DIGITS:
            raise DataError(f"the unit is {unit!r}", where, f"units: {', '.join(_DIGITS)}")
        self.rows.append(Row(case, system, metric, float(value), unit))

    def add_interval(self, case: str, system: str, metric: str, interval: Interval, unit: str) -> None:
        """Add a value and the two ends of its 95 % interval. Raises as `add`."""
        for name, value in (("", interval.value), (" low", interval.low), (" high", interval.high)):
            self.add(case, system, metric + name, value, unit)


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def paired_difference(first: ArrayLike, second: ArrayLike) -> Interval:
    """Mean of `first - second` over the same N samples, with the 95 % interval of the normal approximation.

    Args:
        first: (N,), or (draws, N): what each sample scored; several draws are averaged sample by sample first, so a
            sample that only some of them get right counts in part.
        second: the same of the other system; it may have another number of draws.

    For right and wrong as 1 and 0 and one draw each, this is McNemar's setting with Wald's interval: only samples
    that the two judge differently add to the difference. The variance divides by N - 1.

    Raises:
        DataError: not the same samples, or fewer than two.
    """
    one, other = _sample_means(first), _sample_means(second)
    if one.shape != other.shape or len(one) < 2:
        raise DataError(
            f"{len(one)} samples beside {len(other)}", "paired difference", "score the same samples, two at least"
        )
    difference = one - other
    mean = float(difference.mean())
    margin = _NORMAL_975 * float(difference.std(ddof=1)) / float(np.sqrt(len(difference)))
    return Interval(mean, mean - margin, mean + margin)


def mean_ratio(ratios: Sequence[float]) -> Interval:
    """Geometric mean of ratios from independent runs, with the 95 % interval of Student's t on their logarithms.

    Raises:
        DataError: fewer than two.
    """
    if len(ratios) < 2:
        raise DataError(f"{len(ratios)} run", "mean ratio", "measure in two runs at least: one knows no spread")
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    margin = float(stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)))
    mean = float(logs.mean())
    low, value, high = np.exp([mean - margin, mean, mean + margin])
    return Interval(float(value), float(low), float(high))


def describe_machine(root: Path = ROOT) -> dict[str, Any]:
    """Processor, cores, memory, system, and the load when asked."""
    reading = read_sensors(root)
    return {
        "cpu": cpu_model(root),
        "architecture": platform.machine(),
        "dot_product": sorted(cpu_flags(root) & set(_DOT_PRODUCTS)),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "governor": reading.governor,
        "load_average": reading.load_average,
    }


def cpu_flags(root: Path = ROOT) -> frozenset[str]:
    """Instruction-set flags of the first processor; empty where the system does not list them."""
    path = root / "proc/cpuinfo"
    if not path.is_file():
        return frozenset()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(flags.split())
    return frozenset()


def describe_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of Python, edgekit and `libraries`; one that is not installed is left out."""
    versions = {"python": platform.python_version(), "edgekit": __version__}
    for name in libraries:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def write_json(path: Path, results: Results, machine: Mapping[str, Any], versions: Mapping[str, str]) -> None:
    """Write machine, versions, rows and notes; the file appears whole or not at all."""
    content = {
        "machine": dict(machine),
        "versions": dict(versions),
        "rows": [asdict(row) for row in results.rows],
        "notes": results.notes,
    }
    _replace(path, json.dumps(content, indent=1) + "\n")


@dataclass(frozen=True)
class Page:
    """The head of a page of tables: its title, how the numbers are made, and the command that makes them again."""

    title: str
    method: str
    command: str


def write_markdown(
    path: Path, page: Page, results: Results, machine: Mapping[str, Any], versions: Mapping[str, str]
) -> None:
    """Write a page: what was run, where, and one table per case. Appears whole or not at all."""
    described = [f"- {name.replace('_', ' ')}: {_plain(value)}" for name, value in machine.items()]
    parts = [
        f"# {page.title}",
        page.method,
        f"Made by `{page.command}`; every number is of that run.",
        "\n".join(described),
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "A value with brackets is followed by its 95 % interval. KB are 1,000 bytes.",
        markdown_tables(results.rows),
    ]
    if results.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in results.notes)]
    _replace(path, "\n\n".join(parts) + "\n")


def markdown_tables(rows: Sequence[Row]) -> str:
    """One table per case in the order of `rows`: metrics down, systems across, intervals in brackets."""
    return "\n\n".join(
        _table(case, [row for row in rows if row.case == case]) for case in _unique(r.case for r in rows)
    )


def _table(case: str, rows: Sequence[Row]) -> str:
    found = {(row.metric, row.system): row for row in rows}
    systems = _unique(row.system for row in rows)
    metrics = [metric for metric in _unique(row.metric for row in rows) if not _is_bound(metric, rows)]
    lines = [
        f"## {case}",
        "",
        f"| | {' | '.join(systems)} |",
        f"|---|{'---|' * len(systems)}",
    ]
    for metric in metrics:
        unit = next(row.unit for row in rows if row.metric == metric)
        cells = [_cell(found, metric, system) for system in systems]
        lines.append(f"| {metric} ({unit}) | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: Mapping[tuple[str, str], Row], metric: str, system: str) -> str:
    row = found.get((metric, system))
    if row is None:
        return ""
    shown = _DIGITS[row.unit]
    ends = [found.get((metric + bound, system)) for bound in _BOUNDS]
    text = shown.format(row.value)
    if all(ends):
        text += " [" + ", ".join(shown.format(end.value) for end in ends if end) + "]"
    return text


def _is_bound(metric: str, rows: Sequence[Row]) -> bool:
    return any(metric == row.metric + bound for row in rows for bound in _BOUNDS)


def _sample_means(scores: ArrayLike) -> NDArray[np.float64]:
    array = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    means: NDArray[np.float64] = array.mean(axis=0)
    return means


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _plain(value: Any) -> str:
    if value is None or value == []:
        return "not known"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
