"""The profile job's own process handling, with runtimes that misbehave; real runtimes are tested in profiling."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.edgekit.agent import boards

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

    @property
    def layers_unavailable(self):
        return "it has none" if self.name == "flat.bin" else ""

    def layers(self, feeds, runs):
        if self.name == "crashing.bin":
            os.kill(os.getpid(), signal.SIGSEGV)
        return [{"name": "conv", "operator": "Conv", "mean_ms": 0.5, "runs": runs, "precision": None}]


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
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # before it: how far the job is
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


def test_a_lower_percentile_is_measured_where_the_asked_one_takes_too_long_and_only_there(tmp_path: Path):
    slow = run(tmp_path, ["slow.bin"], limit_s=0.37, lower_percentile=10.0)  # 12 runs, and not 20
    assert slow["percentile"] == 10.0
    assert 12 <= len(slow["cases"][0]["samples_ms"]) < 20
    fast = run(tmp_path, ["fine.bin"], lower_percentile=10.0)
    assert fast["percentile"] == 50.0
    error = run(tmp_path, ["slow.bin"], limit_s=0.1, lower_percentile=10.0)["error"]
    assert error["what"].startswith("12 runs need about")


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


def settings_of(**changes: Any) -> dict[str, Any]:
    quick = {"threads": 1, "warmup_ms": 0.0, "warmup_runs": 2, "duration_s": 1e-9, "min_runs": 8, "percentile": 50.0}
    return {**quick, **changes}


def test_the_machine_is_watched_while_it_is_measured(tmp_path: Path):
    boards.pi_4(tmp_path / "root")
    flags = tmp_path / "root/sys/devices/platform/soc/soc:firmware/get_throttled"
    flags.write_text("80008\n")
    found = run(tmp_path, ["fine.bin"], root=str(tmp_path / "root"))
    assert found["conditions"]["temp_c_max"] == 61.342
    assert found["conditions"]["throttled_by"] == ["soft temperature limit"]
    assert found["conditions"]["extra"]["glances"] == 1
    assert found["conditions"]["extra"]["glance_cost_ms"] > 0
    (row,) = found["cases"][0]["trace"]
    assert (row["temp_c"], row["throttled"], row["power_w"]) == (61.342, True, None)


def test_energy_without_a_meter_says_so(tmp_path: Path):
    boards.pi_4(tmp_path / "root")
    energy = run(tmp_path, ["fine.bin"], root=str(tmp_path / "root"))["cases"][0]["energy"]
    assert energy["unavailable"].startswith("no power sensor is known here")


def test_power_of_a_jetson_comes_with_its_rail(tmp_path: Path):
    boards.orin_nano(tmp_path / "root")
    settings = settings_of(duration_s=0.9, idle_s=0.7)
    energy = run(tmp_path, ["slow.bin"], root=str(tmp_path / "root"), settings=settings)["cases"][0]["energy"]
    assert (energy["source"], energy["rails"]) == ("INA3221", ["VDD_IN"])
    assert abs(energy["load_w"] - 4.984 * 1.856) < 1e-9
    assert abs(energy["idle_w"] - 4.984 * 1.856) < 1e-9


def test_frames_at_a_cadence_are_counted(tmp_path: Path):
    (case,) = run(tmp_path, ["fine.bin"], settings=settings_of(fps=200.0))["cases"]
    assert len(case["samples_ms"]) == case["runs"] == 20
    assert case["frames"]["due"] >= 20
    assert case["wall_s"] >= 0.095  # 19 periods of 5 ms


def test_what_a_cadence_cannot_do_in_the_time_is_refused(tmp_path: Path):
    error = run(tmp_path, ["fine.bin"], settings=settings_of(fps=0.2), limit_s=60.0)["error"]
    assert error["what"].startswith("20 runs need about 100 s")


def test_a_sustained_run_comes_in_windows_and_keeps_what_it_saw_in_each(tmp_path: Path):
    boards.pi_4(tmp_path / "root")
    (case,) = run(tmp_path, ["slow.bin"], root=str(tmp_path / "root"), settings=settings_of(sustained_s=0.5))["cases"]
    assert len(case["windows"]) == 2
    assert [window["kept"] for window in case["windows"]] == case["rounds"]
    assert sum(window["runs"] for window in case["windows"]) == case["runs"] == len(case["samples_ms"])
    assert all(window["wall_s"] >= 0.25 for window in case["windows"])
    assert [window["temp_c_max"] for window in case["windows"]] == [61.342, 61.342]
    assert [window["throttled"] for window in case["windows"]] == [False, False]


def test_layers_come_from_a_process_of_their_own(tmp_path: Path):
    found = run(tmp_path, ["deep.bin", "flat.bin", "crashing.bin"], settings=settings_of(layers=True))
    deep, flat, crashing = found["cases"]
    (layer,) = deep["layers"]
    assert (layer["name"], layer["operator"]) == ("conv", "Conv")
    assert 10 <= layer["runs"] <= 100
    assert flat["layers_unavailable"] == "it has none"
    assert "layers" not in flat
    assert crashing["layers_unavailable"].startswith("the runtime's process died of SIGSEGV")
    assert len(crashing["samples_ms"]) == 20  # its latency stands
    order = (tmp_path / "order.txt").read_text()
    assert order.index("ddd") < order.rindex("c" * 20) < order.rindex("ddd")  # after the last timed run


def test_without_being_asked_nobody_looks_at_layers(tmp_path: Path):
    (case,) = run(tmp_path, ["deep.bin"])["cases"]
    assert "layers" not in case
    assert "layers_unavailable" not in case
    assert case["gpu_memory_unavailable"] == "the runtime runs on the processor"
