"""Jobs on real arm64 programs behind a real sshd, and what becomes of them when the board or the link fails.

Everything but speed is real here; see docs/test-boards.md.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch

from edgekit.devices.session import AgentSession
from edgekit.devices.ssh import SshTransport
from edgekit.devices.transport import LinkError
from edgekit.devices.zipapp import agent_version
from edgekit.errors import DeviceError
from edgekit.profiling.inference import infer
from edgekit.profiling.jobs import profile
from edgekit.schema.device import Device
from edgekit.schema.profile import MeasureSettings
from tests.boards.board import Board

QUICK = MeasureSettings(batch=4, warmup_ms=1, warmup_runs=2, duration_s=0.01, min_runs=30, percentile=60, idle_s=0)


def device(board: Board, **changes: object) -> Device:
    fields = {"name": "stand-in", "target": "raspberry-pi-5", "transport": "ssh", "address": board.alias}
    fields |= {"ssh_config": board.ssh_config, "stand_in_for": "raspberry-pi-5"}
    return Device.model_validate({**fields, **changes})


def left(board: Board) -> set[str]:
    """Folders of jobs that are on the board."""
    return {path.name for path in (board.root / "tmp").glob("edgekit-*") if path.name != "edgekit-lease"}


@pytest.fixture
def before(bookworm_board: Board) -> set[str]:
    """What an earlier test's lost link left there."""
    return left(bookworm_board)


def once(board: Board, pattern: str, action, after_s: float = 0.5) -> threading.Thread:
    """Do something as soon as a command line of the board matches, and a little later."""

    def wait() -> None:
        for _ in range(600):
            if any(pattern in line for line in board.processes().values()):
                time.sleep(after_s)
                action()
                return
            time.sleep(0.05)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("fixture", ["bookworm_board", "bullseye_board"])
def test_the_agent_runs_there_and_leaves_nothing(request: pytest.FixtureRequest, fixture: str):
    board = request.getfixturevalue(fixture)
    there = left(board)
    with AgentSession(device(board)) as session:
        told = session.run({"kind": "describe"}, {}, {}, timeout_s=120)
        assert len(left(board) - there) == 1
    assert told["machine"] == "aarch64"
    assert told["agent_version"] == agent_version()
    assert told["emulated"] == "aarch64 on x86, by /proc/cpuinfo"
    assert told["python"].startswith({"bookworm_board": "3.11.", "bullseye_board": "3.9."}[fixture])
    assert left(board) == there


def test_answers_are_those_of_this_machine_in_every_runtime(
    bookworm_board: Board, product, convolution, before: set[str]
):
    samples = np.random.default_rng(1).normal(size=(10, 6)).astype(np.float32)
    board = device(bookworm_board, python_of={"tflite-runtime": "/opt/tflite/bin/python3"})
    given = ({"features": samples}, {"features": "NC"})
    found = infer(board, product.path, product.row, "onnxruntime", *given, piece_bytes=6 * 6 * 4)  # 6 + 4 samples
    np.testing.assert_allclose(found.outputs["logits"], samples @ product.weight, rtol=1e-5, atol=1e-5)
    images = np.random.default_rng(3).normal(size=(3, 3, 8, 8)).astype(np.float32)
    with torch.no_grad():
        witness = convolution.module(torch.from_numpy(images)).numpy()
    for runtime in ("litert", "tflite-runtime"):
        found = infer(board, convolution.path, convolution.row, runtime, {"image": images}, {"image": "NCHW"})
        np.testing.assert_allclose(found.outputs["map"], witness, rtol=1e-4, atol=1e-5)
    assert left(bookworm_board) <= before


def test_a_profile_is_labelled_a_stand_ins(bookworm_board: Board, product):
    found = profile(device(bookworm_board), product.path, product.row, "onnxruntime", QUICK)
    assert found.summary.n >= 30
    assert (found.stand_in, found.valid) == (True, False)
    assert "stand-in" in found.reasons
    assert found.conditions.architecture == "aarch64"


def test_a_board_of_python_3_9_and_an_old_runtime_measures_too(bullseye_board: Board, product):
    found = profile(device(bullseye_board), product.path, product.row, "onnxruntime", QUICK)
    assert found.runtime_version == "1.16.3"
    assert found.summary.n >= 30


def test_a_link_that_is_cut_mid_run_and_mended_costs_nothing(bookworm_board: Board, product, before: set[str]):

    def cut() -> None:
        bookworm_board.cut_link()
        time.sleep(20)  # longer than ssh waits for a sign of life
        bookworm_board.mend_link()

    cutter = once(bookworm_board, "agent.pyz follow", cut)
    slow = QUICK.model_copy(update={"duration_s": 15.0})
    found = profile(device(bookworm_board), product.path, product.row, "onnxruntime", slow)
    cutter.join()
    assert sum(found.samples_ms) > 1000
    assert left(bookworm_board) <= before


def test_a_link_that_stays_cut_is_an_error_in_good_time(bookworm_board: Board):
    cutter = once(bookworm_board, "agent.pyz follow", bookworm_board.cut_link)
    with pytest.raises(LinkError) as caught, AgentSession(device(bookworm_board), patience_s=5) as session:
        session.run({"kind": "describe"}, {}, {}, timeout_s=120)
    cutter.join()
    assert caught.value.where.startswith("device stand-in")


def test_sshd_that_dies_and_comes_back_costs_nothing(bookworm_board: Board, before: set[str]):
    def restart() -> None:
        bookworm_board.kill_sshd()
        bookworm_board.start_sshd()

    killer = once(bookworm_board, "agent.pyz follow", restart)
    with AgentSession(device(bookworm_board)) as session:
        assert session.run({"kind": "describe"}, {}, {}, timeout_s=120)["machine"] == "aarch64"
    killer.join()
    assert left(bookworm_board) <= before


def test_a_killed_agent_is_told_by_its_signal(bookworm_board: Board, product, before: set[str]):
    killer = once(bookworm_board, "agent.pyz follow", lambda: bookworm_board.kill(r"agent\.pyz /tmp\S+job"))
    slow = QUICK.model_copy(update={"duration_s": 60.0})
    with pytest.raises(DeviceError) as caught:
        profile(device(bookworm_board), product.path, product.row, "onnxruntime", slow)
    killer.join()
    assert caught.value.what == "the agent was ended by SIGKILL"
    assert left(bookworm_board) <= before


def test_a_board_that_lost_its_power_is_told(bookworm_board: Board):
    cycler = once(bookworm_board, "agent.pyz follow", bookworm_board.power_cycle)
    with pytest.raises(DeviceError) as caught, AgentSession(device(bookworm_board)) as session:
        session.run({"kind": "describe"}, {}, {}, timeout_s=120)
    cycler.join()
    assert "forgotten the job" in caught.value.what or "cannot be followed" in caught.value.what


def test_a_full_disk_is_told_with_what_is_free(bookworm_board: Board, tmp_path: Path):
    (tmp_path / "large.onnx").write_bytes(bytes(2_000_000))
    with AgentSession(device(bookworm_board)) as session:
        bookworm_board.fill_disk(leave_bytes=500_000)
        with pytest.raises(DeviceError) as caught:
            session.keep("large.onnx", tmp_path / "large.onnx")
        assert caught.value.what.startswith("large.onnx did not arrive as it is here")
        assert "MB are free there" in caught.value.what
        bookworm_board.free_disk()
        session.keep("large.onnx", tmp_path / "large.onnx")  # and goes on where it had stopped


def test_a_copy_that_was_cut_is_continued_and_one_that_was_altered_is_made_anew(bookworm_board: Board, tmp_path: Path):
    content = np.random.default_rng(0).bytes(300_000)
    (tmp_path / "model").write_bytes(content)
    there = bookworm_board.root / "tmp/model"
    transport = SshTransport(device(bookworm_board))
    try:
        for before in (content[:100_000], b"another" + content[7:200_000], content + b"more", content):
            there.write_bytes(before)
            there.chmod(0o666)
            transport.push(tmp_path / "model", PurePosixPath("/tmp/model"))
            assert there.read_bytes() == content
        transport.pull(PurePosixPath("/tmp/model"), tmp_path / 'back of "it" [1].bin')
        assert (tmp_path / 'back of "it" [1].bin').read_bytes() == content
    finally:
        transport.close()
        there.unlink()


def test_another_host_key_is_refused_and_never_replaced(bookworm_board: Board):
    bookworm_board.change_host_key()
    with pytest.raises(DeviceError) as caught, AgentSession(device(bookworm_board)):
        pass
    assert not isinstance(caught.value, LinkError)
    assert caught.value.what.startswith("it shows another host key")
    assert "ssh-keygen -R" in caught.value.fix


def test_an_unknown_host_key_says_how_to_get_to_know_it(bookworm_board: Board):
    bookworm_board.forget_host_key()
    with pytest.raises(DeviceError) as caught, AgentSession(device(bookworm_board)):
        pass
    assert caught.value.what == "its host key is not known here"


def test_a_user_that_is_not_let_in(bookworm_board: Board):
    with pytest.raises(DeviceError) as caught, AgentSession(device(bookworm_board, user="nobody")):
        pass
    assert caught.value.what.startswith("it lets us not in")


def test_a_date_that_jumps_does_not_change_what_is_measured(bullseye_board: Board, product):
    # of Python 3.9: libfaketime fails the sleep of newer ones
    changer = once(bullseye_board, "agent.pyz follow", lambda: bullseye_board.change_clock(-86400.0), after_s=8)
    slow = QUICK.model_copy(update={"duration_s": 8.0})
    board = device(bullseye_board, python=bullseye_board.changeable_python)
    found = profile(board, product.path, product.row, "onnxruntime", slow)
    changer.join()
    assert all(0 < sample < 60_000 for sample in found.samples_ms)


def test_two_at_once_measure_one_after_the_other(bookworm_board: Board, product):
    slow, told, found = QUICK.model_copy(update={"duration_s": 25.0}), [], []

    def other() -> None:
        found.append(
            profile(device(bookworm_board), product.path, product.row, "onnxruntime", QUICK, on_progress=told.append)
        )

    second = once(bookworm_board, "agent.pyz follow", other, after_s=3)
    first = profile(device(bookworm_board), product.path, product.row, "onnxruntime", slow)
    second.join()
    assert first.summary.n >= 30
    assert found[0].summary.n >= 30
    waited = [row for row in told if row.get("stage") == "waiting for the board"]
    assert waited
    assert waited[0]["position"] == 1
    assert "@" in waited[0]["holder"]


def test_a_command_that_takes_too_long_is_ended_there_too(bookworm_board: Board):
    transport = SshTransport(device(bookworm_board))
    try:
        with pytest.raises(DeviceError) as caught:
            transport.run(["sleep", "4711"], timeout_s=2)
        assert caught.value.what == "no reply in 2 s"
        assert not any("sleep 4711" in line for line in bookworm_board.processes().values())
        odd = ["printf", "%s|", "a b", "$HOME", "'", '"', "*", ";"]
        assert transport.run(odd, timeout_s=20).stdout == "a b|$HOME|'|\"|*|;|"  # no shell reads them
        lines: list[str] = []
        transport.run(["sh", "-c", "echo one; sleep 0.2; echo two; printf three"], timeout_s=20, on_line=lines.append)
        assert lines == ["one", "two"]
    finally:
        transport.close()
