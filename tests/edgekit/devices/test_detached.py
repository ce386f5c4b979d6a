import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.devices import detached
from edgekit.devices.detached import again, run_detached
from edgekit.devices.transport import LinkError
from edgekit.errors import DeviceError
from tests.edgekit.devices.loopback import Loopback

# an agent whose job is a script: the real start, follow and stop around it
AGENT = """
import json, os, sys, time
from pathlib import Path
from edgekit.agent.detach import COMMANDS
if sys.argv[1] in COMMANDS:
    sys.exit(COMMANDS[sys.argv[1]][0](sys.argv[2:]))
exec(Path(sys.argv[1]).read_text())
"""
STEPS = """
Path(sys.argv[2] + ".begun").open("a").write("x")
for step in range(4):
    print(json.dumps({"step": step}), flush=True)
    time.sleep(0.4)
print("chatter of a runtime", file=sys.stderr)
Path(sys.argv[2]).write_text("done")
"""


@pytest.fixture
def agent(tmp_path: Path):
    (tmp_path / "agent.py").write_text(AGENT)

    def call(*words: str) -> list[str]:
        return [sys.executable, str(tmp_path / "agent.py"), *words]

    return call


def carry_out(transport, agent, tmp_path: Path, script: str, *, timeout_s: float = 60.0, patience_s: float = 20.0):
    (tmp_path / "job").write_text(script)
    told = []
    job, result = str(tmp_path / "job"), str(tmp_path / "result")
    done = run_detached(transport, agent, job, result, timeout_s, patience_s, told.append, "device bench, job x")
    return done, told


@pytest.mark.parametrize("after", [False, True], ids=["before it arrived", "after it was done"])
def test_a_link_that_is_lost_while_a_job_begins_does_not_begin_it_twice(agent, tmp_path: Path, after: bool):
    done, told = carry_out(Loopback([0], after=after), agent, tmp_path, STEPS)
    assert (done.returncode, done.stderr) == (0, "chatter of a runtime\n")
    assert told == [{"step": step} for step in range(4)]
    assert (tmp_path / "result.begun").read_text() == "x"


def test_a_lost_link_loses_nothing_of_the_job_and_tells_nothing_twice(agent, tmp_path: Path):
    transport = Loopback([1, 2], after=True)  # the first two who follow hear everything, and then the link is gone
    done, told = carry_out(transport, agent, tmp_path, STEPS)
    assert done.returncode == 0
    assert told == [{"step": step} for step in range(4)]
    assert [command[-1] for command in transport.commands if "follow" in command] == ["0", "4", "4"]
    assert (tmp_path / "result.begun").read_text() == "x"


def test_a_link_that_stays_lost_is_an_error(agent, tmp_path: Path):
    with pytest.raises(LinkError) as caught:
        carry_out(Loopback(range(1, 100)), agent, tmp_path, STEPS, patience_s=0.1)
    assert caught.value.what == "the link is lost"


def test_a_job_that_takes_too_long_is_ended_with_all_that_it_started(agent, tmp_path: Path):
    script = "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
    script += "Path(sys.argv[2] + '.child').write_text(str(child.pid))\ntime.sleep(60)\n"
    with pytest.raises(DeviceError) as caught:
        carry_out(Loopback(), agent, tmp_path, script, timeout_s=1)
    assert caught.value.what == "no result in 1 s"
    assert gone(int((tmp_path / "result.child").read_text()))


def test_a_killed_job_is_told_by_its_signal(agent, tmp_path: Path):
    done, _ = carry_out(Loopback(), agent, tmp_path, "os.kill(os.getpid(), 9)")
    assert done.returncode == -signal.SIGKILL


def test_a_killed_supervisor_is_no_success(agent, tmp_path: Path):
    script = "os.kill(os.getppid(), 9)\ntime.sleep(0.5)\nprint(json.dumps({'step': 0}), flush=True)\n"
    done, told = carry_out(Loopback(), agent, tmp_path, script)
    assert done.returncode == -signal.SIGKILL
    assert told == [{"step": 0}]  # the lock is the job's too: it was followed to its own end


def test_an_interrupt_ends_the_job(agent, tmp_path: Path):
    script = "Path(sys.argv[2] + '.me').write_text(str(os.getpid()))\n"
    (tmp_path / "job").write_text(script + "print(json.dumps({'step': 0}), flush=True)\ntime.sleep(60)\n")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    job, result = str(tmp_path / "job"), str(tmp_path / "result")
    with pytest.raises(KeyboardInterrupt):
        run_detached(Loopback(), agent, job, result, 60, 5, interrupt, "device bench")
    assert gone(int((tmp_path / "result.me").read_text()))


def test_a_job_that_the_board_knows_nothing_of(agent, tmp_path: Path):
    class Forgetful(Loopback):
        def run(self, argv, *, timeout_s, on_line=None):
            done = super().run(argv, timeout_s=timeout_s, on_line=on_line)
            if "start" in argv:
                for path in tmp_path.glob("result*"):
                    path.unlink()
            return done

    with pytest.raises(DeviceError) as caught:
        carry_out(Forgetful(), agent, tmp_path, "time.sleep(1)")
    assert caught.value.what.startswith("the board has forgotten the job")


def test_what_nobody_follows_ends_by_itself_and_its_folder_goes(agent, tmp_path: Path):
    folder = tmp_path / "there"
    folder.mkdir()
    impatient = AGENT.replace("if sys", "import edgekit.agent.detach as d\nd.PATIENCE_S = 0.5\nif sys", 1)
    (tmp_path / "agent.py").write_text(impatient)
    (folder / "job").write_text("Path(sys.argv[2] + '.me').write_text(str(os.getpid()))\ntime.sleep(60)\n")
    begun = Loopback().run(agent("start", str(folder / "job"), str(folder / "result"), "60"), timeout_s=20)
    assert begun.returncode == 0
    me = folder / "result.me"
    for _ in range(100):
        if me.exists() and me.read_text():
            break
        time.sleep(0.05)
    number = int(me.read_text())
    assert gone(number)
    for _ in range(100):
        if not folder.exists():
            return
        time.sleep(0.05)
    pytest.fail("the folder of an abandoned job stays")


def test_who_follows_for_a_host_that_died_ends_and_signs_of_life_are_no_progress(agent, tmp_path: Path):
    lively = AGENT.replace("if sys", "import edgekit.agent.detach as d\nd._ALIVE_S = 0.1\nif sys", 1)
    (tmp_path / "agent.py").write_text(lively)
    transport = Loopback([1], after=True)
    done, told = carry_out(transport, agent, tmp_path, STEPS)
    assert (done.returncode, told) == (0, [{"step": step} for step in range(4)])
    (tmp_path / "job").write_text("time.sleep(30)\n")
    begun = agent("start", str(tmp_path / "job"), str(tmp_path / "other"), "60")
    assert subprocess.run(begun, check=True, timeout=20).returncode == 0
    follower = subprocess.Popen(
        agent("follow", str(tmp_path / "other"), "0"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert follower.stdout is not None
    assert json.loads(follower.stdout.readline()) == {"alive": True}
    follower.stdout.close()  # as ssh's end does when the host's process is killed
    assert follower.wait(20) != 0
    subprocess.run(agent("stop", str(tmp_path / "other")), check=True, timeout=20)


def test_again_gives_up_only_while_the_link_stays_lost():
    calls = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise LinkError("lost", "device bench", "wait")
        return "there"

    assert again(flaky, 30.0, "device bench") == "there"
    assert len(calls) == 3


def test_failures_that_each_take_longer_than_one_is_patient_end_too(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(detached.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(detached.time, "sleep", lambda s: None)

    def slow() -> None:
        now[0] += 12.0
        if now[0] > 1000:
            pytest.fail("it is tried for ever")
        raise LinkError("lost", "device bench", "wait")

    with pytest.raises(LinkError):
        again(slow, 5.0, "device bench")


def test_an_error_of_the_board_is_not_tried_again():
    calls = []

    def refuse() -> None:
        calls.append(1)
        raise DeviceError("another host key", "device bench", "look")

    with pytest.raises(DeviceError):
        again(refuse, 30.0, "device bench")
    assert len(calls) == 1


def gone(pid: int) -> bool:
    """Whether a process ends within five seconds; a zombie has."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_progress_lines_are_json(agent, tmp_path: Path):
    _, told = carry_out(Loopback(), agent, tmp_path, "print('hello')\nprint(json.dumps({'done': 1}))\nprint('[1]')\n")
    assert told == [{"done": 1}]
    assert json.dumps(told)
