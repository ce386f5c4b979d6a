import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.agent.errors import AgentError
from edgekit.agent.lease import describe_lease, lease

# a process of its own, and no fork: libraries that other tests loaded warn of one
HOLD = """
import sys, time
from pathlib import Path
from edgekit.agent.lease import lease
folder, who, note, seconds = sys.argv[1:]
with lease(who, 30, Path(folder)):
    with open(note, "a") as stream:
        stream.write(who + " in\\n")
    time.sleep(float(seconds))
    with open(note, "a") as stream:
        stream.write(who + " out\\n")
"""


def started(folder: Path, who: str, note: Path, s: float) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-c", HOLD, str(folder), who, str(note), str(s)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    for _ in range(500):
        if who in describe_lease(folder):
            return process
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"{who} never queued")


def test_two_never_have_the_board_at_once_and_the_first_to_come_is_the_first_to_have_it(tmp_path: Path, capsys):
    folder, note = tmp_path / "lease", tmp_path / "note"
    held_s = {"ada": 4.0, "bob": 0.2, "cyn": 0.2}  # until all have queued, on a busy machine too
    processes = [started(folder, who, note, s) for who, s in held_s.items()]
    assert describe_lease(folder) == ["ada", "bob", "cyn"]
    for process in processes:
        process.wait(30)
    assert note.read_text().split("\n")[:-1] == [
        f"{who} {what}" for who in ("ada", "bob", "cyn") for what in ("in", "out")
    ]
    assert describe_lease(folder) == []


def test_who_waits_is_told_its_position(tmp_path: Path, capsys):
    process = started(tmp_path / "lease", "ada", tmp_path / "note", 2.0)
    with lease("bob", 30, tmp_path / "lease"):
        pass
    process.wait(30)
    told = capsys.readouterr().out
    assert '"stage": "waiting for the board", "position": 1, "holder": "ada"' in told


def test_a_killed_holder_is_waited_for_no_longer(tmp_path: Path):
    process = started(tmp_path / "lease", "ada", tmp_path / "note", 60)
    process.kill()
    process.wait(10)
    with lease("bob", 5, tmp_path / "lease"):
        assert describe_lease(tmp_path / "lease") == ["bob"]
        assert len(list((tmp_path / "lease").glob("[0-9]*-*"))) == 1  # the dead ticket is swept away


def test_waiting_ends(tmp_path: Path):
    process = started(tmp_path / "lease", "ada", tmp_path / "note", 60)
    try:
        with pytest.raises(AgentError) as caught, lease("bob", 0.2, tmp_path / "lease"):
            pass
        assert caught.value.what == "the board was not free for 0 s: ada has it, 1 before us"
    finally:
        process.kill()
        process.wait(10)
    assert describe_lease(tmp_path / "lease") == []


def test_a_clock_that_jumped_back_does_not_let_two_in(tmp_path: Path):
    folder, note = tmp_path / "lease", tmp_path / "note"
    process = started(folder, "ada", note, 2.0)
    with lease("bob", 30, folder, clock=lambda: time.monotonic() - 1e6):  # an earlier ticket, and yet later
        assert note.read_text() == "ada in\nada out\n"
    process.wait(10)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "lease").symlink_to(tmp_path)
    with pytest.raises(AgentError) as caught, lease("bob", 1, tmp_path / "lease"):
        pass
    assert caught.value.what == "it is no folder that we may write to"
