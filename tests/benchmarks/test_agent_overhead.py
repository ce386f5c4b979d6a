"""The barest loop that the agent is held against, and the answer of LiteRT's own tool."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def overhead(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, which imports its neighbours as scripts do."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("agent_overhead")


def test_the_bare_loop_times_the_call_alone(overhead: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]

    def clock() -> int:
        now[0] += 1000  # looking at it takes a microsecond
        return now[0]

    def call() -> None:
        now[0] += 5_000_000

    peers = importlib.import_module("overhead_peers")
    monkeypatch.setattr(peers.time, "perf_counter_ns", clock)
    assert peers.loop(call, {"duration_s": 1e-9, "runs": 3}) == [5.001] * 3
    assert len(peers.loop(call, {"duration_s": 0.1, "runs": 1})) == 20


def test_the_median_of_litert_benchmark_is_found_in_what_it_writes(overhead: ModuleType) -> None:
    # of ai-edge-litert 2.3.0, shortened
    document = {"num_threads": 1, "latency": {"init_ms": 3.1, "avg_ms": 1.3, "median_ms": 1.21, "num_runs": 300}}
    assert overhead.tool_median(document) == 1.21


def test_every_format_has_a_peer_and_a_runtime(overhead: ModuleType) -> None:
    assert set(overhead.PEERS) == set(overhead._RUNTIMES) == {"onnx", "tflite"}
    assert all(overhead.PEERS.values())
    assert set(overhead.CASES) == set(overhead._FACTORIES)
