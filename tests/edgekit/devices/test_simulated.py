"""A simulated board: each scripted fault must look as it does on a real one, and nothing may pass for measured."""

import hashlib
import json
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError

from edgekit.agent.runtimes.simulated import ScriptedClock, altered
from edgekit.devices.diagnosis import diagnose
from edgekit.devices.session import AgentSession
from edgekit.devices.simulated import SimulatedTransport
from edgekit.devices.transport import LinkError
from edgekit.errors import DeviceError
from edgekit.profiling.inference import infer
from edgekit.profiling.jobs import profile, profile_interleaved
from edgekit.schema.device import Device
from edgekit.schema.load import load_target
from edgekit.schema.manifest import ArtifactRow
from edgekit.schema.profile import MeasureSettings
from edgekit.schema.tensors import ArtifactTensor

SHORT = MeasureSettings(duration_s=1.0, min_runs=100, percentile=90.0)
WEIGHT = np.arange(-9, 9, dtype=np.float32).reshape(6, 3) / 7
STEADY = {"base_ms": 4.0, "jitter_ratio": 0.0}


def board(**script) -> Device:
    script.setdefault("latency", STEADY)
    return Device(
        name="pi5-sim", target="raspberry-pi-5", transport="simulated", stand_in_for="raspberry-pi-5", simulate=script
    )


def tensor(name: str, shape: tuple[int, ...]) -> ArtifactTensor:
    return ArtifactTensor(name=name, network_name=name, shape=shape, dtype="float32", layout="NC")


@pytest.fixture
def product(tmp_path: Path) -> tuple[Path, ArtifactRow]:
    """y = x W as ONNX, batch 1."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    row = ArtifactRow(
        format="onnx",
        convention="onnxruntime-arm",
        path=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        size_bytes=path.stat().st_size,
        precision="fp32",
        inputs=(tensor("x", (1, 6)),),
        outputs=(tensor("y", (1, 3)),),
    )
    return path, row


def measured(device: Device, product, settings: MeasureSettings = SHORT):
    return profile(device, *product, "onnxruntime", settings)


def outputs(device: Device, product, samples):
    return infer(device, *product, "onnxruntime", {"x": samples}, {"x": "NC"})


def test_time_follows_the_script_and_is_labelled(product):
    found = measured(board(), product)
    assert found.summary.p50_ms == 4.0
    assert len(found.samples_ms) == 250  # 1 s of scripted time, in which nothing waits
    assert (found.runtime, found.stand_in, found.stand_in_for) == ("simulated", True, "raspberry-pi-5")
    assert found.runtime_version.startswith("simulated over onnxruntime ")
    assert (found.valid, found.reasons) == (False, ("stand-in",))
    assert found.conditions.cpu == "simulated raspberry-pi-5"
    assert found.conditions.extra["board"] == "simulated raspberry-pi-5"
    assert (found.conditions.temp_c_start, found.conditions.governor) == (45.0, "simulated")
    assert found.energy is not None
    assert found.energy.load_w is None  # this machine's meters are not the board's


def test_outputs_are_real(product):
    samples = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    found = outputs(board(), product, samples)
    np.testing.assert_allclose(found.outputs["y"], samples @ WEIGHT, rtol=1e-5)
    assert found.runtime_version.startswith("simulated over ")


def test_latency_is_by_size_by_name_with_warm_up_drift_and_jitter(product):
    by_size = measured(board(latency={**STEADY, "per_mb_ms": 1e4}), product)
    assert by_size.summary.p50_ms == pytest.approx(4.0 + product[0].stat().st_size / 100, rel=1e-6)
    assert measured(board(latency={**STEADY, "of": {"model.onnx": 7.0}}), product).summary.p50_ms == 7.0
    warming = {**STEADY, "warm_up_runs": 100, "warm_up_ratio": 3.0}
    settings = SHORT.model_copy(update={"warmup_ms": 0.0, "warmup_runs": 1})
    samples_ms = measured(board(latency=warming), product, settings).samples_ms
    assert samples_ms[0] == pytest.approx(4 * (1 + 2 * 0.99))
    assert samples_ms[-1] == 4.0
    drifting = measured(board(latency={**STEADY, "drift_ratio_per_s": 0.1}), product, SHORT)
    assert drifting.samples_ms[-1] > 1.08 * drifting.samples_ms[0]
    jitter = measured(board(latency={**STEADY, "jitter_ratio": 0.05}), product)
    assert jitter.summary.cov_ratio == pytest.approx(0.05, rel=0.2)


def test_two_artifacts_share_one_scripted_clock(product, tmp_path):
    path, row = product
    other = tmp_path / "other.onnx"
    other.write_bytes(path.read_bytes())
    names = {"model.onnx": 4.0, "other.onnx": 2.0}
    device = board(latency={**STEADY, "of": names}, phases=({}, {"from_s": 1.2, "slowdown": 2.0}))
    artifacts = [(path, row, "onnxruntime"), (other, row.model_copy(update={"path": "other.onnx"}), "onnxruntime")]
    first, second = profile_interleaved(device, artifacts, SHORT, rounds=4)
    assert (first.samples_ms[0], second.samples_ms[0]) == (4.0, 2.0)
    assert (first.samples_ms[-1], second.samples_ms[-1]) == (8.0, 4.0)  # both slow down when the board does


def test_throttling_shows_in_conditions_and_verdict(product):
    hot = {"from_s": 0.7, "slowdown": 1.6, "clock_mhz": 1500, "temp_c": 85.0, "throttled": True}
    found = measured(board(phases=({"clock_mhz": 2400}, hot)), product)
    assert found.conditions.throttled is True
    assert (found.conditions.clock_mhz_start, found.conditions.clock_mhz_end) == (2400.0, 1500.0)
    assert (found.conditions.temp_c_start, found.conditions.temp_c_end) == (45.0, 85.0)
    assert {"throttled", "drifted", "stand-in"} <= set(found.reasons)


@pytest.mark.parametrize("command", range(2, 9))  # the first opens the session, where a lost link is an error at once
@pytest.mark.parametrize("answer_only", [False, True])
def test_a_link_that_comes_back_costs_nothing(product, command: int, answer_only: bool):
    device = board(lost=({"at_command": command, "answer_only": answer_only},))
    transport = SimulatedTransport(device)
    with AgentSession(device, transport, patience_s=0.3) as session:
        path, row = product
        job = {
            "kind": "profile",
            "cases": [
                {
                    "runtime": "onnxruntime",
                    "artifact": {"path": path.name, "sha256": row.sha256},
                    "inputs": [row.inputs[0].model_dump()],
                }
            ],
            "settings": SHORT.model_dump(),
            "rounds": 1,
            "limit_s": 60.0,
            "seed": 0,
        }
        result = session.run(job, {path.name: path}, {}, timeout_s=60)
    assert set(result["cases"][0]["samples_ms"]) == {4.0}
    assert len(result["cases"][0]["samples_ms"]) == 250


def test_a_lost_answer_is_of_a_command_that_was_carried_out(tmp_path: Path):
    for answer_only in (False, True):
        transport = SimulatedTransport(board(lost=({"at_command": 1, "answer_only": answer_only},)))
        with pytest.raises(LinkError):
            transport.run(["touch", str(tmp_path / "done")], timeout_s=5)
        assert (tmp_path / "done").exists() is answer_only
        transport.close()


def test_a_link_is_lost_at_a_time_and_comes_back_after_one():
    now = [0.0]
    device = board(lost=({"at_s": 5.0, "for_s": 3.0}, {"at_command": 4, "for_s": 2.0}))
    transport = SimulatedTransport(device, clock=lambda: now[0])

    def works(at_s: float) -> bool:
        now[0] = at_s
        try:
            return transport.run(["true"], timeout_s=5).returncode == 0
        except LinkError:
            return False

    assert [works(at_s) for at_s in (4.9, 5.5, 7.0)] == [True, False, False]
    assert [works(at_s) for at_s in (20.0, 21.9, 22.1)] == [False, False, True]  # the fourth command, and 2 s
    transport.close()


def test_a_link_that_stays_lost_is_an_error_of_the_link(product):
    device = board(lost=({"at_command": 3, "for_commands": 1000},))
    with pytest.raises(LinkError) as caught, AgentSession(device, patience_s=0.1) as session:
        session.run({"kind": "describe"}, {}, {}, timeout_s=60)
    assert caught.value.what == "the link is lost: scripted at command 4"
    assert "pi5-sim, simulated" in caught.value.where


def test_a_full_disk_refuses_what_does_not_fit(product):
    with pytest.raises(DeviceError) as caught:
        measured(board(disk_bytes=10_000), product)
    assert "No space left on device; 0.0 MB are free" in caught.value.what
    assert not isinstance(caught.value, LinkError)


def test_little_memory_kills_what_loads(product):
    with pytest.raises(DeviceError) as caught:
        measured(board(memory_bytes=1_000_000), product)
    assert caught.value.what == "the runtime's process died of SIGKILL"
    with pytest.raises(DeviceError) as caught:
        outputs(board(memory_bytes=1_000_000), product, np.ones((1, 6), np.float32))
    assert "SIGKILL" in caught.value.what


def test_altered_answers_are_off_by_a_tenth(product):
    samples = np.ones((1, 6), np.float32)
    right = samples @ WEIGHT
    found = outputs(board(answers="altered"), product, samples)
    np.testing.assert_allclose(found.outputs["y"], right + 0.1 * np.abs(right).max(), rtol=1e-5)
    codes = np.array([[-128, 0, 120]], np.int8)
    assert altered(codes).tolist() == [[-102, 26, 127]]


def test_a_cut_answer_is_an_error_of_the_device():
    with pytest.raises(DeviceError) as caught, AgentSession(board(answers="cut"), patience_s=0.1) as session:
        session.run({"kind": "describe"}, {}, {}, timeout_s=60)
    assert caught.value.what.startswith("the agent's answer cannot be read: ")


def test_a_slow_link_waits_for_bytes_and_round_trips(tmp_path: Path):
    waits: list[float] = []
    device = board(link={"bytes_per_s": 1000.0, "round_trip_s": 0.05})
    transport = SimulatedTransport(device, sleep=waits.append)
    folder = PurePosixPath(transport.run(["mktemp", "-d"], timeout_s=10).stdout.strip())
    (tmp_path / "file").write_bytes(bytes(500))
    transport.push(tmp_path / "file", folder / "file")
    transport.pull(folder / "file", tmp_path / "back")
    assert waits == pytest.approx([0.05, 0.55, 0.55])
    assert (tmp_path / "back").read_bytes() == bytes(500)
    transport.close()
    assert not Path(folder).exists()


def test_a_kept_board_goes_on_where_it_was(product, tmp_path: Path):
    device = board(folder=str(tmp_path / "disk"), lost=({"at_command": 1000},))
    measured(device, product)
    after_one = ScriptedClock(tmp_path / "disk/clock").now_ns()
    assert after_one >= 1.2e9  # warm-up and samples
    measured(device, product)
    assert ScriptedClock(tmp_path / "disk/clock").now_ns() == pytest.approx(2 * after_one, rel=0.01)
    assert int((tmp_path / "disk/commands").read_text()) > 10
    assert list((tmp_path / "disk/tmp").glob("edgekit-????????")) == []


def test_a_path_beside_the_board_is_refused(tmp_path: Path):
    transport = SimulatedTransport(board())
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DeviceError):
        transport.push(tmp_path / "file", PurePosixPath("/tmp/elsewhere"))
    transport.close()


def test_a_program_that_is_not_there_is_127_as_a_shell_has_it():
    transport = SimulatedTransport(board())
    assert transport.run(["no-such-program"], timeout_s=5).returncode == 127
    transport.close()


def test_the_doctor_of_a_simulated_board_says_what_it_reached():
    checks = {check.name: check for check in diagnose(board(), load_target("cpu-x86-64").target)}
    assert checks["reached"].found.startswith("simulated, ")
    with pytest.raises(LinkError):
        diagnose(board(lost=({"at_command": 1, "for_commands": 99},)), load_target("cpu-x86-64").target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stand_in_for": None}, "must say stand_in_for"),
        ({"simulate": None}, "belong together"),
        ({"transport": "local"}, "belong together"),
        ({"simulate": {"phases": [{"from_s": 1.0}]}}, "from_s 0"),
        ({"simulate": {"phases": [{}, {"from_s": 2.0}, {"from_s": 1.0}]}}, "follow each other"),
        ({"simulate": {"latencies": {}}}, "Extra inputs"),
        ({"simulate": {"lost": [{"for_s": 1.0}]}}, "at_command or at_s"),
        ({"simulate": {"lost": [{"at_s": 1.0}]}}, "comes back after for_s"),
    ],
)
def test_a_script_that_cannot_be_is_refused(changes, message):
    fields = json.loads(board().model_dump_json())
    with pytest.raises(ValidationError, match=message):
        Device.model_validate({**fields, **changes})
