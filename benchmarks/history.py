"""How long `history`, `compare` and `bisect` take over a long history, in SQLite and in PostgreSQL.

    python benchmarks/history.py [--quick] [--postgres URL | --postgres private] [--json F]

METHOD says how.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rows import Results, describe_machine, describe_versions, write_json

from edgekit.profiling.quantiles import bootstrap_percentiles
from edgekit.profiling.statistics import blocks_of, draw_blocks, interval, percentile
from edgekit.schema.manifest import ArtifactMetric
from edgekit.schema.profile import Conditions, MeasureSettings, Profile, Summary
from edgekit.store.bisect import Wished, bisect
from edgekit.store.builds import Build, BuiltArtifact, record_build
from edgekit.store.compared import compare_sides
from edgekit.store.history import Wanted, read_history
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.sides import find_side

METHOD = """\
A history of builds of one recipe, each with two artifacts measured on five devices, is written by `ProfileStore.add`;
its samples are normal with slow outliers, in whole nanoseconds, as the agent's clock gives them. Then each question is
asked several times and the median kept: as a command in a new process (`python -m edgekit ...`, the interpreter and all
imports included): the median and the fastest by the clock, and the median of processor time, which other work on the
machine moves least; and as a function in a process that has the database open. `edgekit --version` shows what of a
command is Python's own start. `every record whole` reads all documents and samples, which no list needs."""
ARTIFACTS, DEVICES = ("model.onnx", "model.tflite"), tuple(f"board-{number}" for number in range(5))
SAMPLES = 10_000
BUILDS, QUICK_BUILDS = 100, 10  # times ten profiles
SLOWER_FROM = 0.6  # share of the builds after which they are 8 % slower
TIMES = 7
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_SUMMARIES: dict[int, Summary] = {}  # by seed: every database gets the same profiles
_KINDS = ("median", "fastest", "processor")
_RECIPE, _TARGET = "kws", "raspberry-pi-5"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help=f"{10 * QUICK_BUILDS} profiles instead of {10 * BUILDS:,}")
    parser.add_argument("--postgres", metavar="URL", help="an empty database; `private`: a server of this run's own")
    parser.add_argument("--json", type=Path, metavar="FILE")
    asked = parser.parse_args(words)
    results = Results()
    builds = make_builds(QUICK_BUILDS if asked.quick else BUILDS)
    with tempfile.TemporaryDirectory(prefix="edgekit-history-") as folder:
        path = Path(folder) / "profiles.sqlite"
        measure("SQLite", str(path), builds, results)
        size = sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
        results.add(case_of(builds), "SQLite", "file, of one profile", size / (10 * len(builds)) / 1e3, "KB")
    record = make_profile(0, 0, ARTIFACTS[0], DEVICES[0])
    results.add(case_of(builds), "JSON", "file, of one profile", len(record.model_dump_json()) / 1e3, "KB")
    with postgres(asked.postgres) as url:
        if url is None:
            results.notes.append("PostgreSQL was not measured: no --postgres")
        else:
            measure("PostgreSQL", url, builds, results)
    print(table(results))
    if asked.json:
        libraries = ("sqlalchemy", "alembic", "psycopg", "pydantic", "numpy")
        write_json(asked.json, results, describe_machine(), describe_versions(libraries))
    return 0


def case_of(builds: Sequence[Build]) -> str:
    """What is measured, in words."""
    return f"{10 * len(builds):,} profiles of {SAMPLES:,} samples"


def make_builds(count: int) -> list[Build]:
    """Builds a day apart, digests and commits all different."""
    return [
        Build(
            digest=f"{number:08x}" * 8,
            recipe=_RECIPE,
            target=_TARGET,
            git_commit=f"{number + (1 << 31):08x}" * 5,
            verdict="pass",
            made_s=(_BEGIN + timedelta(days=number)).timestamp(),
            artifacts=tuple(
                BuiltArtifact(
                    path=name,
                    sha256=sha256_of(number, name),
                    size_bytes=70_000 + number,
                    precision="int8",
                    metrics={"top1": ArtifactMetric(value=0.99, runtime="onnxruntime", stand_in=False)},
                )
                for name in ARTIFACTS
            ),
        )
        for number in range(count)
    ]


def sha256_of(number: int, artifact: str) -> str:
    """A digest of an artifact of a build."""
    return f"{number * len(ARTIFACTS) + ARTIFACTS.index(artifact) + (1 << 30):08x}" * 8


def make_profile(number: int, count: int, artifact: str, device: str) -> Profile:
    """A profile of build `number` of `count`."""
    seed = (number * len(ARTIFACTS) + ARTIFACTS.index(artifact)) * len(DEVICES) + DEVICES.index(device)
    generator = np.random.default_rng(seed)
    level_ms = (1 + DEVICES.index(device)) * (1.08 if number >= SLOWER_FROM * count else 1.0)
    drawn = level_ms * generator.normal(1.0, 0.01, SAMPLES) * np.where(generator.random(SAMPLES) < 0.01, 1.8, 1.0)
    samples = tuple((np.rint(drawn * 1e6) / 1e6).tolist())
    if seed not in _SUMMARIES:
        _SUMMARIES[seed] = summary_of(np.asarray(samples))
    return Profile(
        artifact=artifact,
        artifact_sha256=sha256_of(number, artifact),
        device=device,
        stand_in=False,
        runtime="onnxruntime" if artifact.endswith("onnx") else "litert",
        runtime_version="1.2",
        agent_version="0.1.0+abc",
        settings=MeasureSettings(),
        samples_ms=samples,
        summary=_SUMMARIES[seed],
        conditions=Conditions(cpu="a processor", extra={"identity": f"machine of {device}"}),
        peak_rss_bytes=61_000_000,
        valid=True,
        measured_at=(_BEGIN + timedelta(days=number, minutes=seed % 10)).isoformat(),
    )


def summary_of(samples: NDArray[np.float64]) -> Summary:
    """What `summarise` says of so many samples, up to the draws of its interval, in a tenth of its time."""
    blocks = blocks_of(len(samples))
    draws = draw_blocks(int(blocks.max()) + 1, np.random.default_rng(0))
    low, high = interval(bootstrap_percentiles(samples, blocks, draws, 50))
    mean, std = float(samples.mean()), float(samples.std())
    return Summary(
        n=len(samples),
        mean_ms=mean,
        p50_ms=percentile(samples, 50),
        p50_low_ms=low,
        p50_high_ms=high,
        p90_ms=percentile(samples, 90),
        p95_ms=percentile(samples, 95),
        p99_ms=percentile(samples, 99),
        std_ms=std,
        cov_ratio=std / mean,
    )


def measure(system: str, database: str, builds: Sequence[Build], results: Results) -> None:
    """Fill an empty database and time every question."""
    case = case_of(builds)
    with ProfileStore(database) as store:
        adding = []
        for number, build in enumerate(builds):
            keys = []
            for artifact in ARTIFACTS:
                for device in DEVICES:
                    profile = make_profile(number, len(builds), artifact, device)
                    origin = Origin(_RECIPE, _TARGET, None, build.git_commit, "int8", True)
                    began = time.perf_counter()
                    keys.append(store.add(profile, origin))
                    adding.append(time.perf_counter() - began)
            record_build(store.database, build, keys)
        results.add(case, system, "add, function", 1e3 * statistics.median(adding), "ms")
        time_functions(store, system, builds, results)
    first, last = builds[0].digest[:16], builds[-1].digest[:16]
    where = ["--device", DEVICES[0], "--artifact", ARTIFACTS[0]]
    commands = {
        "edgekit --version": ["--version"],
        "history": ["history"],
        "history of one device and recipe": ["history", "--device", DEVICES[0], "--recipe", _RECIPE],
        "history, every line as JSON": ["history", "--limit", "100000", "--json"],
        "compare two profiles": ["compare", "1", str(10 * len(builds) - 9)],
        "compare two builds on one device": ["compare", f"{first}@{DEVICES[0]}", last],
        "compare two builds": ["compare", first, last],
        "bisect": ["bisect", "--good", first, "--bad", last, *where],
    }
    for name, words in commands.items():
        taken = run(words, database)
        for kind, seconds in taken.items():
            results.add(case, system, f"{name}, command, {kind}", 1e3 * seconds, "ms")


def time_functions(store: ProfileStore, system: str, builds: Sequence[Build], results: Results) -> None:
    """The same without a new process."""

    def compared(first: str, last: str) -> Callable[[], object]:
        return lambda: compare_sides(find_side(store, first), find_side(store, last))

    first, last = builds[0].digest, builds[-1].digest
    kind = Wished(device=DEVICES[0], artifact=ARTIFACTS[0])
    questions: dict[str, Callable[[], object]] = {
        "history": lambda: read_history(store.database, Wanted(limit=50)),
        "history of one device and recipe": lambda: read_history(
            store.database, Wanted(device=DEVICES[0], recipe=_RECIPE, limit=50)
        ),
        "history, every line": lambda: read_history(store.database),
        "every record whole": store.all,
        "compare two profiles": compared("1", str(10 * len(builds) - 9)),
        "compare two builds": compared(first, last),
        "bisect": lambda: bisect(store, find_side(store, first), find_side(store, last), "p50_ms", kind),
    }
    for name, ask in questions.items():
        results.add(case_of(builds), system, f"{name}, function", 1e3 * median_s(ask), "ms")


def median_s(ask: Callable[[], object]) -> float:
    """Median seconds of several calls, after one that is not counted."""
    taken = []
    for _ in range(1 + TIMES):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def run(words: Sequence[str], database: str) -> dict[str, float]:
    """Seconds of a command in new processes: by the clock the median and the least, and the median of processor time.

    Raises:
        CalledProcessError: it failed.
    """
    environment = {**os.environ, "EDGEKIT_DB": database}
    command = [sys.executable, "-m", "edgekit", *words]
    taken, used = [], []
    for _ in range(1 + TIMES):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        taken.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"median": statistics.median(taken[1:]), "fastest": min(taken), "processor": statistics.median(used[1:])}


@contextmanager
def postgres(asked: str | None) -> Iterator[str | None]:
    """The URL of an empty database."""
    if asked != "private":
        yield asked
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.boards.postgres import postgres as server

    with server() as running, running.database() as url:
        yield url


def table(results: Results) -> str:
    """Questions down, databases across; of a command median / fastest / processor time in one cell."""
    systems = list(dict.fromkeys(row.system for row in results.rows))
    units = {row.metric: row.unit for row in results.rows}
    found = {(row.metric, row.system): row.value for row in results.rows}
    lines = [f"| {results.rows[0].case} | {' | '.join(systems)} |", f"|---|{'---:|' * len(systems)}"]
    for metric, unit in units.items():
        question, comma, kind = metric.rpartition(", ")
        if kind in _KINDS[1:]:
            continue
        together = [f"{question}{comma}{one}" for one in _KINDS] if kind == _KINDS[0] else [metric]
        cells = [" / ".join(_shown(found.get((one, system))) for one in together) for system in systems]
        told = f"{question} ({unit}: {', '.join(_KINDS)})" if len(together) > 1 else f"{metric} ({unit})"
        lines.append(f"| {told} | {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"- {note}" for note in results.notes)])


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
