"""trtexec, for boards whose Python is too old for the agent: what it is told, and what it says.

Its clock is its own. It sums what CUDA events say of copying in, computing and copying out, and enqueues a run before
the last one is finished; the agent times the whole call as a caller sees it. So the two are not compared, and a result
carries the runtime `trtexec`. What versions differ in is read from `trtexec --help`, not from a table of versions.

Formats: the sources of trtexec (`samples/common/sampleReporting.cpp`, `sampleOptions.cpp`) of 8.2 to 11.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from edgekit.agent.engine_layers import inspector_layers, precision_of
from edgekit.errors import DeviceError
from edgekit.profiling.engines import EngineOptions
from edgekit.schema.profile import MeasureSettings

_BANNER = re.compile(r"TensorRT\.trtexec \[TensorRT v(\d+)\]")
_QUERIES = re.compile(r"Timing trace has (\d+) queries over ([0-9.eE+-]+) s")
_THROUGHPUT = re.compile(r"\] Throughput: ([0-9.eE+-]+) qps")
_ROW = re.compile(r"\] ((?:GPU Compute|Enqueue) Time|(?:H2D |D2H )?Latency): (min = .*)$")
_VALUE = re.compile(r"(min|max|mean|median|percentile\(([0-9.]+)%\)) = ([0-9.eE+-]+) ms")
_MESSAGE = re.compile(r"\[E\] (.*)$")


@dataclass(frozen=True)
class Timing:
    """One line of the summary, in ms. `percentiles` by their number: {99.0: 1.4}."""

    min_ms: float
    max_ms: float
    mean_ms: float
    median_ms: float
    percentiles: Mapping[float, float]


@dataclass(frozen=True)
class Summary:
    """What trtexec prints at its end.

    Attributes:
        version: of TensorRT, such as '8.2.1'.
        queries: timed runs, without those of the warm-up.
        throughput_qps: runs a second, of a queue that is never empty: not 1 / latency.
        rows: by trtexec's names: 'Latency' (the sum of the three next), 'H2D Latency', 'GPU Compute Time',
            'D2H Latency', 'Enqueue Time'.
    """

    version: str
    queries: int
    throughput_qps: float
    rows: Mapping[str, Timing]


@dataclass(frozen=True)
class Samples:
    """Every timed run in order, in ms: the sum of both copies and the computation, and the computation alone."""

    latency_ms: tuple[float, ...]
    compute_ms: tuple[float, ...]


def build_command(
    program: str,
    help_text: str,
    onnx: PurePosixPath,
    engine: PurePosixPath,
    cache: PurePosixPath,
    options: EngineOptions,
) -> list[str]:
    """The command that builds an engine and runs nothing.

    Args:
        program: trtexec on the board.
        help_text: what it prints on `--help`.
        onnx: the network on the board.
        engine: file to write.
        cache: file of timings, read and written.
        options: as for the agent; strong types where trtexec knows them.

    Raises:
        DeviceError: this trtexec cannot do what the options ask for.
    """
    argv = [program, f"--onnx={onnx}", f"--saveEngine={engine}", f"--timingCacheFile={cache}"]
    argv += _precision(program, help_text, options)
    if options.sparse_weights:
        _need(program, help_text, "--sparsity", "leave sparse_weights out")
        argv.append("--sparsity=enable")
    if options.workspace_bytes is not None:
        mebibytes = options.workspace_bytes // (1 << 20)
        argv.append(
            f"--memPoolSize=workspace:{mebibytes}"
            if has_flag(help_text, "--memPoolSize")
            else f"--workspace={mebibytes}"
        )
    if options.optimisation_level is not None:
        _need(program, help_text, "--builderOptimizationLevel", "leave optimisation_level out")
        argv.append(f"--builderOptimizationLevel={options.optimisation_level}")
    if len(options.profiles) > 1:
        raise DeviceError(
            f"{len(options.profiles)} optimisation profiles",
            program,
            "build with one, which trtexec can, or with the agent",
        )
    for shapes in options.profiles:
        for end, name in (("min", "--minShapes"), ("opt", "--optShapes"), ("max", "--maxShapes")):
            argv.append(f"{name}={_shapes({key: row[end] for key, row in shapes.items()})}")
    argv += _dla(options)
    argv.append("--skipInference" if has_flag(help_text, "--skipInference") else "--buildOnly")
    return [*argv, *_verbosity(help_text)]


def measure_command(
    program: str,
    help_text: str,
    engine: PurePosixPath,
    outputs: Mapping[str, PurePosixPath],
    settings: MeasureSettings,
    options: EngineOptions,
) -> list[str]:
    """The command that measures a built engine.

    Copies are in, CUDA graphs are not, as 8.x and 10.x have it by default and 11 has not: an application copies, and
    must capture a graph to have one. Layers are timed in a second pass, which slows nothing down.

    Args:
        program: trtexec on the board.
        help_text: what it prints on `--help`.
        engine: on the board.
        outputs: files to write: `times`, `profile`, `layers`.
        settings: warm-up, duration, least runs; threads mean nothing here.
        options: that the engine was built with.
    """
    argv = [
        program,
        f"--loadEngine={engine}",
        f"--warmUp={round(settings.warmup_ms)}",
        f"--duration={-(-settings.duration_s // 1):.0f}",  # whole seconds
        f"--iterations={settings.min_runs}",
        f"--exportTimes={outputs['times']}",
        f"--exportProfile={outputs['profile']}",
        f"--exportLayerInfo={outputs['layers']}",
        "--separateProfileRun",
    ]
    if has_flag(help_text, "--includeDataTransfers"):
        argv.append("--includeDataTransfers")
    if has_flag(help_text, "--noCudaGraph"):
        argv.append("--noCudaGraph")
    for shapes in options.profiles:
        argv.append(f"--shapes={_shapes({key: row['opt'] for key, row in shapes.items()})}")
    argv += _dla(options)
    return [*argv, *_verbosity(help_text)]


def _precision(program: str, help_text: str, options: EngineOptions) -> list[str]:
    if not has_flag(help_text, "--fp16"):  # from 11 on types of the network decide
        if options.precision == "fp16" and not options.strongly_typed:
            raise DeviceError(
                "this trtexec makes no fp16 of float32",
                program,
                "give a float16 file, and set strongly_typed to say so",
            )
        return ["--noTF32"] if options.precision == "fp32" else []
    if options.strongly_typed:
        _need(program, help_text, "--stronglyTyped", "leave strongly_typed out")
        return ["--stronglyTyped"]
    return {"fp32": ["--noTF32"], "fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}[options.precision]


def _dla(options: EngineOptions) -> list[str]:
    if options.dla_core is None:
        return []
    return [f"--useDLACore={options.dla_core}", *(["--allowGPUFallback"] if options.gpu_fallback else [])]


def _verbosity(help_text: str) -> list[str]:
    return ["--profilingVerbosity=detailed" if has_flag(help_text, "--profilingVerbosity") else "--nvtxMode=verbose"]


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def has_flag(help_text: str, flag: str) -> bool:
    """Whether `--help` names a flag."""
    return re.search(rf"{re.escape(flag)}\b", help_text) is not None


def _need(program: str, help_text: str, flag: str, fix: str) -> None:
    if not has_flag(help_text, flag):
        raise DeviceError(f"this trtexec has no {flag}", program, fix)


def version_of(text: str) -> str:
    """TensorRT's version from trtexec's first line; 'unknown' without it.

    Up to 9 the number is major * 1000 + minor * 100 + patch (8601), from 10 on major * 10000 + ... (100900).
    """
    match = _BANNER.search(text)
    if match is None:
        return "unknown"
    number = int(match[1])
    major, rest = divmod(number, 10_000 if number >= 10_000 else 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"


def read_summary(text: str, where: str) -> Summary:
    """The performance summary in what trtexec printed.

    Raises:
        DeviceError: there is none; trtexec's own errors are in it.
    """
    queries, throughput = _QUERIES.search(text), _THROUGHPUT.search(text)
    rows = {}
    for line in text.splitlines():
        match = _ROW.search(line.rstrip())
        if match:
            rows[match[1]] = _timing(match[2])
    if queries is None or throughput is None or "Latency" not in rows or "GPU Compute Time" not in rows:
        raise failed(text, where)
    return Summary(version_of(text), int(queries[1]), float(throughput[1]), rows)


def _timing(text: str) -> Timing:
    values: dict[str, float] = {}
    percentiles: dict[float, float] = {}
    for match in _VALUE.finditer(text):
        if match[2] is None:
            values[match[1]] = float(match[3])
        else:
            percentiles[float(match[2])] = float(match[3])
    return Timing(values["min"], values["max"], values["mean"], values["median"], percentiles)


def failed(text: str, where: str) -> DeviceError:
    """What trtexec complained of, as an error."""
    said = [match[1].strip() for line in text.splitlines() if (match := _MESSAGE.search(line))]
    what = "; ".join(said[:3]) or "it ended without a summary and without an error"
    return DeviceError(f"trtexec {version_of(text)}: {what}", where, "run the same command on the board by hand")


def read_times(text: str, summary: Summary, where: str) -> Samples:
    """Every timed run from the file of `--exportTimes`. Before 8.5 the runs of the warm-up stand there too, first.

    Raises:
        DeviceError: the file is no such file, or has fewer runs than the summary.
    """
    try:
        rows = json.loads(text)[-summary.queries :]
        samples = Samples(
            tuple(float(row["latencyMs"]) for row in rows), tuple(float(row["computeMs"]) for row in rows)
        )
    except (ValueError, KeyError, TypeError) as err:
        raise DeviceError(f"the times cannot be read: {type(err).__name__}: {err}", where, "measure again") from err
    if len(rows) != summary.queries:
        raise DeviceError(
            f"{len(rows)} runs in the file, {summary.queries} in the summary", where, "measure again: it is cut short"
        )
    return samples


def read_layers(profile: str, layer_info: str) -> tuple[list[dict[str, Any]], str]:
    """[{name, operator, mean_ms, runs, precision}] in order of execution, and why there are none ('' where there are).

    Args:
        profile: of `--exportProfile`.
        layer_info: of `--exportLayerInfo`.
    """
    try:
        head, *rows = json.loads(profile)
        runs = int(head["count"])
        known = {x["Name"]: x for x in inspector_layers(layer_info) if isinstance(x, dict) and "Name" in x}
        layers = [
            {
                "name": row["name"],
                "operator": str(known.get(row["name"], {}).get("LayerType", "")),
                "mean_ms": float(row["averageMs"]),
                "runs": runs,
                "precision": precision_of(known[row["name"]]) if row["name"] in known else None,
            }
            for row in rows
        ]
    except (ValueError, KeyError, TypeError) as err:  # names are written as they are, so one quote spoils the file
        return [], f"trtexec's file of layers cannot be read: {err}"
    return layers, "" if layers else "trtexec named no layers"
