"""The profile job's own process handling, with runtimes that misbehave; real runtimes are tested in profiling."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.agent.profile import random_feeds

# In a fresh interpreter: the agent forks its workers, which a test process full of threads must not do.
SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
from edgekit.agent.errors import AgentError
from edgekit.agent.profile import profile


class Fake:
    version = "1"

    def __init__(self, path, threads, options):
        self.name = path.name
        self.runs = 0

    def __enter__(self):
        if self.name == "heavy.bin":
            bytearray(b"x") * 80_000_000
        return self

    def __exit__(self, *error):
        pass

    def infer(self, feeds):
        self.runs += 1
        if self.name == "dies.bin" and self.runs > 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        with open("order.txt", "a") as stream:
            stream.write(self.name[0])
        if self.name == "slow.bin":
            time.sleep(0.02)
        return {}


try:
    print(json.dumps(profile(json.load(open("job.json")), Path("."), {"fake": lambda: Fake})))
except AgentError as err:
    print(json.dumps({"error": err.fields()}))
"""


def run(folder: Path, names: list[str], **changes: Any) -> dict[str, Any]:
    cases = []
    for name in names:
        (folder / name).write_bytes(name.encode())
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        cases.append({"runtime": "fake", "artifact": {"path": name, "sha256": sha256}, "inputs": []})
    settings = {  # p50 needs 20 runs
        "threads": 1,
        "warmup_ms": 0.0,
        "warmup_runs": 2,
        "duration_s": 1e-9,
        "min_runs": 8,
        "percentile": 50.0,
    }
    job = {"cases": cases, "settings": settings, "rounds": 1, "limit_s": 60.0, "seed": 0, **changes}
    (folder / "job.json").write_text(json.dumps(job))
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_runtime_that_crashes_is_named_with_its_signal(tmp_path: Path):
    error = run(tmp_path, ["fine.bin", "dies.bin"], rounds=2)["error"]
    assert error["what"] == "the runtime's process died of SIGSEGV"
    assert error["where"] == "dies.bin"


def test_an_altered_artifact_is_refused(tmp_path: Path):
    wrong = {"runtime": "fake", "artifact": {"path": "fine.bin", "sha256": "0" * 64}, "inputs": []}
    error = run(tmp_path, ["fine.bin"], cases=[wrong])["error"]
    assert error["where"] == "fine.bin"
    assert error["what"] == f"sha256 is {hashlib.sha256(b'fine.bin').hexdigest()}, expected {'0' * 64}"


def test_what_would_take_too_long_is_refused_after_the_warm_up(tmp_path: Path):
    error = run(tmp_path, ["slow.bin"], limit_s=0.3)["error"]  # p50 needs 20 runs of 20 ms or more
    assert error["what"].startswith("20 runs need about")
    assert error["fix"] == "ask for a lower percentile or fewer runs"


def test_rounds_alternate_and_turn_round_and_warm_ups_are_no_samples(tmp_path: Path):
    found = run(tmp_path, ["alpha.bin", "beta.bin"], rounds=4)
    order = (tmp_path / "order.txt").read_text()
    # both warm up (2), then A B, B A, A B, B A; from the second round on 2 runs of warm-up come before the 5 samples
    once, again = 5, 2 + 5
    expected = "aabb" + "a" * once + "b" * once + ("b" * again + "a" * again) + ("a" * again + "b" * again)
    assert order == expected + "b" * again + "a" * again
    assert [case["rounds"] for case in found["cases"]] == [[5] * 4] * 2
    assert [len(case["samples_ms"]) for case in found["cases"]] == [20, 20]


def test_each_artifacts_peak_memory_is_its_own(tmp_path: Path):
    light, heavy = run(tmp_path, ["light.bin", "heavy.bin"])["cases"]
    assert heavy["peak_rss_bytes"] - light["peak_rss_bytes"] > 70_000_000
    assert heavy["load_rss_bytes"] < light["peak_rss_bytes"] + 20_000_000  # read before the artifact was loaded


def test_random_feeds_are_fixed_and_fill_their_ranges():
    inputs = [
        {"name": "f", "dtype": "float32", "shape": [2, 500], "scale": None},
        {"name": "q", "dtype": "int8", "shape": [2, 5000], "scale": 0.1},
        {"name": "i", "dtype": "int64", "shape": [1, 7], "scale": None},
    ]
    first, second, other = random_feeds(inputs, 0), random_feeds(inputs, 0), random_feeds(inputs, 1)
    for name in ("f", "q", "i"):
        np.testing.assert_array_equal(first[name], second[name])
    assert not np.array_equal(first["q"], other["q"])
    assert (first["q"].min(), first["q"].max(), first["q"].dtype) == (-128, 127, np.int8)
    assert abs(first["f"].std() - 1) < 0.1
    assert not first["i"].any()
