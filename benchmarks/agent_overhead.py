"""What edgekit's own measuring adds: its p50 beside loops that do nothing but call the runtime.

    python benchmarks/agent_overhead.py [--quick] [--json F] [--markdown F]

METHOD says how.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from overhead_peers import PEERS
from rows import Page, Results, describe_machine, describe_versions, mean_ratio, write_json, write_markdown

from edgekit.agent.runtimes.table import RUNTIMES, RuntimeTable
from edgekit.agent.watch import Watch
from edgekit.agent.workers import Serve, Worker

METHOD = """\
The agent times a call of a runtime until its outputs are ready as arrays that are the caller's. What does that add to
the bare call? Every system loads the same float file in a process of its own, with the same session options and one
thread, and they take turns in rounds: A B C, C B A, ... A *ratio* is p50 of edgekit / p50 of the other in the same
round; given are the geometric mean over the rounds and its 95 % interval by Student's t on the logarithms.

- **edgekit**: the agent's own worker, as `edgekit profile` uses it.
- **session.run**: prepared inputs, `session.run` back to back in the barest loop that Python has. onnxruntime_perf_test
  does the same in C++.
- **I/O binding**: inputs and outputs bound once, `run_with_iobinding`. Its outputs stay in a buffer that the next run
  overwrites.
- **invoke**: LiteRT's interpreter with inputs set once; `invoke` alone is timed, as LiteRT's benchmark_model times it.
- **CompiledModel**: LiteRT's other interface, `run_by_name` with buffers of its own: what the tool `litert-benchmark`
  in the ai-edge-litert package times, in the barest loop.
- **litert-benchmark**: that tool itself, a process a round. It rounds to 0.01 ms, so files under half a millisecond are
  left out.
- *no-op runtime*: a runtime whose `infer` returns at once. What its samples show is the clock and two calls in Python,
  and is in every sample; what passes between its samples is in none.
- *watched*: the agent looks at clocks, temperature and throttling once a second from its parent process. Rounds with
  looks and without alternate, of the same worker; a look's own cost is the parent's."""
CASES = ("ResNet-8 float", "ResNet-20 float")
LIBRARIES = ("onnxruntime", "ai-edge-litert", "numpy")
_FACTORIES = {"ResNet-8 float": "mlperf_tiny:resnet8", "ResNet-20 float": "cifar_resnet:resnet20"}
_ROUND_S, _ROUND_RUNS = 0.5, 20
_SETTINGS = {"threads": 1, "warmup_ms": 200.0, "warmup_runs": 10}
_TOOL_RUNS, _TOOL_LEAST_MS = 300, 0.5
_WATCHED_S = 1.5  # a look a round at least
_SEED = 0


_RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}


class NoOp:
    """A runtime that does nothing."""

    version = "0"

    def __init__(self, path: Path, threads: int, options: Mapping[str, Any]) -> None: ...

    def __enter__(self) -> NoOp:
        return self

    def __exit__(self, *error: object) -> None: ...

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing."""
        return {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the rows, write the files asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ResNet-8 alone, 8 rounds")
    parser.add_argument("--rounds", type=int, help="how often they take turns; else 30")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)  # in a process of its own: this one must fork
    options = parser.parse_args(arguments)
    if options.make is not None:
        make_files(options.make)
        return 0
    rounds = options.rounds or (8 if options.quick else 30)
    results, machine = Results(), describe_machine()
    with tempfile.TemporaryDirectory(prefix="edgekit-") as made:
        folder = Path(made)
        subprocess.run([sys.executable, __file__, "--make", str(folder)], check=True, stdout=subprocess.DEVNULL)
        for case in CASES[:1] if options.quick else CASES:
            for kind in PEERS:
                compare_systems(results, case, kind, folder, rounds)
        measure_nothing(results, folder, rounds)
        measure_watching(results, folder, rounds)
    versions = describe_versions(LIBRARIES)
    for row in results.rows:
        print(f"{row.case:26} {row.system:18} {row.metric:34} {row.value:10.5f} {row.unit}")
    for note in results.notes:
        print(f"note: {note}")
    command = shlex.join(["python", "benchmarks/agent_overhead.py", *(arguments or sys.argv[1:])])
    if options.json:
        write_json(options.json, results, machine, versions)
    if options.markdown:
        write_markdown(options.markdown, Page("The agent's own overhead", METHOD, command), results, machine, versions)
    return 0


def make_files(folder: Path) -> None:
    """Every case as .onnx and .tflite with seeded weights, and what the agent must know to feed them."""
    from edgekit.formats.table import export
    from edgekit.nets.load import build
    from edgekit.schema.recipe import Export, ModelSource
    from edgekit.schema.tensors import InputSpec

    inputs = (InputSpec(name="image", shape=(1, 3, 32, 32)),)
    for case, factory in _FACTORIES.items():
        model = build(ModelSource(factory=f"edgekit.nets.{factory}", inputs=inputs), seed=_SEED)
        for kind, convention in (("onnx", "onnxruntime-x86"), ("tflite", "litert")):
            artifact = export(model, kind, convention, folder, _stem(case), Export(), None)
            document = {
                "runtime": _RUNTIMES[kind],
                "artifact": {"path": artifact.path.name, "sha256": artifact.row.sha256},
                "inputs": [tensor.model_dump(mode="json") for tensor in artifact.row.inputs],
            }
            (folder / f"{_stem(case)}.{kind}.json").write_text(json.dumps(document), encoding="utf-8")


def compare_systems(results: Results, case: str, kind: str, folder: Path, rounds: int) -> None:
    """edgekit beside every peer of a format."""
    job = json.loads((folder / f"{_stem(case)}.{kind}.json").read_text(encoding="utf-8"))
    name = f"{case}, {kind}"
    workers = {"edgekit": _worker(job, folder)}
    workers |= {peer: _worker(job, folder, serve) for peer, serve in PEERS[kind].items()}
    tool = shutil.which("litert-benchmark", path=str(Path(sys.executable).parent)) if kind == "tflite" else None
    if workers["edgekit"].ready["expected_ms"] < _TOOL_LEAST_MS:
        tool = None  # METHOD says why
    systems = [*workers, *(["litert-benchmark"] if tool else [])]
    medians: dict[str, list[float]] = {system: [] for system in systems}
    try:
        for index in range(rounds):
            for system in systems if index % 2 == 0 else reversed(systems):
                if system in workers:
                    order = {"duration_s": _ROUND_S, "runs": _ROUND_RUNS}
                    reply = workers[system].measure(**order, rewarm=index > 0, fps=None, keep=None)
                    medians[system].append(median(reply["samples_ms"]))
                else:
                    medians[system].append(run_tool(str(tool), folder / job["artifact"]["path"], folder))
    finally:
        for worker in workers.values():
            worker.stop()
    for system, found in medians.items():
        results.add(name, system, "p50, median of the rounds", median(found), "ms")
        if system != "edgekit":
            ratios = [own / other for own, other in zip(medians["edgekit"], found, strict=True)]
            results.add_interval(name, system, "p50 of edgekit / of this", mean_ratio(ratios), "factor")


def run_tool(tool: str, path: Path, folder: Path) -> float:
    """Median in ms of LiteRT's own benchmark."""
    answer = folder / "litert-benchmark.json"
    argv = [tool, f"--model={path}", f"--num_runs={_TOOL_RUNS}", "--warmup_runs=50", f"--result_json={answer}"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return tool_median(json.loads(answer.read_text(encoding="utf-8")))


def tool_median(document: Mapping[str, Any]) -> float:
    """The median of what `litert-benchmark --result_json` writes, in ms."""
    return float(document["latency"]["median_ms"])


def measure_nothing(results: Results, folder: Path, rounds: int) -> None:
    """What a runtime that does nothing shows."""
    (folder / "nothing").write_bytes(b"")
    sha256 = hashlib.sha256(b"").hexdigest()
    job = {"runtime": "no-op", "artifact": {"path": "nothing", "sha256": sha256}, "inputs": []}
    worker = _worker(job, folder, runtimes={"no-op": lambda: NoOp})
    inside, between = [], []
    try:
        for _ in range(rounds):
            reply = worker.measure(duration_s=0.1, runs=1000, rewarm=False, fps=None, keep=None)
            inside.append(median(reply["samples_ms"]))
            between.append((reply["wall_s"] * 1e3 - sum(reply["samples_ms"])) / reply["runs"])
    finally:
        worker.stop()
    results.add("no-op runtime", "edgekit", "in every sample", median(inside), "ms")
    results.add("no-op runtime", "edgekit", "between two samples, in none", median(between), "ms")


def measure_watching(results: Results, folder: Path, rounds: int) -> None:
    """Rounds with looks at the machine, and without."""
    job = json.loads((folder / f"{_stem(CASES[0])}.onnx.json").read_text(encoding="utf-8"))
    watch, looking = Watch(), [False]

    def between() -> float:
        if looking[0]:
            watch.tick()
            return watch.wait_s()
        return 3600.0

    worker = Worker(job, folder, _SETTINGS, _SEED, RUNTIMES, between)
    medians: dict[bool, list[float]] = {False: [], True: []}
    try:
        for index in range(rounds):
            for looks in (False, True) if index % 2 == 0 else (True, False):
                looking[0] = looks
                if looks:
                    watch.begin("0")
                reply = worker.measure(duration_s=_WATCHED_S, runs=1, rewarm=True, fps=None, keep=None)
                if looks:
                    watch.end()
                medians[looks].append(median(reply["samples_ms"]))
    finally:
        worker.stop()
    case = f"{CASES[0]}, onnx, watched"
    ratios = [with_looks / without for with_looks, without in zip(medians[True], medians[False], strict=True)]
    results.add_interval(case, "edgekit", "p50 with looks / without", mean_ratio(ratios), "factor")
    results.add(case, "edgekit", "a look, in the parent", watch.cost_ms or 0.0, "ms")


def _worker(
    job: Mapping[str, Any], folder: Path, serve: Serve | None = None, runtimes: RuntimeTable = RUNTIMES
) -> Worker:
    return Worker(job, folder, _SETTINGS, _SEED, runtimes, lambda: 3600.0, serve)


def _stem(case: str) -> str:
    return case.partition(" ")[0].lower()


if __name__ == "__main__":
    sys.exit(main())
