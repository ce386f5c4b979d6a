import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import pytest
from pydantic import ValidationError

from edgekit.devices.local import LocalTransport
from edgekit.devices.session import AgentSession
from edgekit.devices.transport import Completed
from edgekit.devices.zipapp import agent_version, build_zipapp
from edgekit.errors import DeviceError
from edgekit.schema.device import Device
from tests.edgekit.devices.loopback import Loopback

DEVICE = Device(name="bench", target="cpu-x86-64")
DESCRIBE = {"kind": "describe"}


def run_agent(device, job, files, results, *, timeout_s, transport=None):
    """One job in a session of its own."""
    with AgentSession(device, transport) as session:
        return session.run(job, files, results, timeout_s=timeout_s)


class FakeBoard:
    """A board in memory: files by path, and one scripted answer to the agent."""

    def __init__(self, answer: Completed | DeviceError, result: dict[str, object] | None = None) -> None:
        self.python, self.link, self.closed = "python3", False, False
        self.answer, self.result = answer, result
        self.files: dict[str, bytes] = {}
        self.seen: dict[str, bytes] = {}
        self.commands: list[list[str]] = []

    def push(self, local: Path, remote: PurePosixPath) -> None:
        self.files[str(remote)] = local.read_bytes()

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        if str(remote) not in self.files:
            raise DeviceError(f"no file {remote}", "device bench", "none")
        local.write_bytes(self.files[str(remote)])

    def close(self) -> None:
        self.closed = True

    def run(self, argv: Sequence[str], *, timeout_s: float, on_line: Callable[[str], None] | None = None) -> Completed:
        self.commands.append(list(argv))
        if argv[0] == "mktemp":
            return Completed(0, "/tmp/edgekit-1\n", "")
        if argv[:2] == ["rm", "-f"]:
            self.files = {name: data for name, data in self.files.items() if name not in argv}
            return Completed(0, "", "")
        if argv[0] == "rm":
            self.files = {name: data for name, data in self.files.items() if not name.startswith(argv[-1] + "/")}
            return Completed(0, "", "")
        self.seen = dict(self.files)
        if isinstance(self.answer, DeviceError):
            raise self.answer
        if self.result is not None:
            self.files[argv[-1]] = json.dumps(self.result).encode()
            self.files["/tmp/edgekit-1/out.npz"] = b"arrays"
        return self.answer


def test_agent_job_and_files_go_there_and_nothing_stays(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"model")
    board = FakeBoard(Completed(0, "", ""), {"agent_version": "1"})
    files, results = {"0.onnx": tmp_path / "model.onnx"}, {"out.npz": tmp_path / "out.npz"}
    assert run_agent(DEVICE, DESCRIBE, files, results, timeout_s=5, transport=board) == {"agent_version": "1"}
    assert board.seen == {
        "/tmp/edgekit-1/agent.pyz": build_zipapp(),
        "/tmp/edgekit-1/job-1.json": b'{"kind": "describe"}',
        "/tmp/edgekit-1/0.onnx": b"model",
    }
    assert (tmp_path / "out.npz").read_bytes() == b"arrays"
    assert board.files == {}


def test_the_agents_error_becomes_a_device_error_with_its_fields():
    error = {"what": "ONNX Runtime is not installed", "where": "runtime onnxruntime", "fix": "pip install onnxruntime"}
    board = FakeBoard(Completed(1, "", "Traceback"), {"error": error})
    with pytest.raises(DeviceError) as caught:
        run_agent(DEVICE, DESCRIBE, {}, {}, timeout_s=5, transport=board)
    assert caught.value.what == error["what"]
    assert caught.value.where == "device bench, job describe: runtime onnxruntime"
    assert caught.value.fix == error["fix"]
    assert board.files == {}


@pytest.mark.parametrize(
    ("status", "how"),
    [(-11, "was ended by SIGSEGV"), (137, "was ended by SIGKILL"), (127, "ended with status 127 and no result")],
)
def test_a_crash_is_named(status: int, how: str):
    board = FakeBoard(Completed(status, "", "first line\nlast words\n"))
    with pytest.raises(DeviceError) as caught:
        run_agent(DEVICE, DESCRIBE, {}, {}, timeout_s=5, transport=board)
    assert caught.value.what == f"the agent {how}"
    assert caught.value.where == "device bench, job describe"
    assert "last words" in caught.value.fix
    assert board.commands[-1][0] == "rm"


def test_a_timeout_leaves_nothing_on_the_board():
    board = FakeBoard(DeviceError("no reply in 5 s", "device bench", "wait"))
    with pytest.raises(DeviceError) as caught:
        run_agent(DEVICE, DESCRIBE, {}, {}, timeout_s=5, transport=board)
    assert caught.value.what == "no reply in 5 s"
    assert board.files == {}


def test_a_device_that_is_gone_is_reported_once_with_what_it_leaves(caplog: pytest.LogCaptureFixture):
    class Gone(FakeBoard):
        def run(
            self, argv: Sequence[str], *, timeout_s: float, on_line: Callable[[str], None] | None = None
        ) -> Completed:
            if argv[0] == "rm":
                raise DeviceError("no route to host", "device bench", "plug it in")
            return super().run(argv, timeout_s=timeout_s)

    board = Gone(DeviceError("connection lost", "device bench", "plug it in"))
    with pytest.raises(DeviceError) as caught:
        run_agent(DEVICE, DESCRIBE, {}, {}, timeout_s=5, transport=board)
    assert caught.value.what == "connection lost"
    assert "/tmp/edgekit-1 stays on device bench: no route to host" in caplog.text


def test_a_board_without_room_is_reported():
    class Full(FakeBoard):
        def run(
            self, argv: Sequence[str], *, timeout_s: float, on_line: Callable[[str], None] | None = None
        ) -> Completed:
            return Completed(1, "", "mktemp: No space left on device")

    with pytest.raises(DeviceError) as caught:
        run_agent(DEVICE, DESCRIBE, {}, {}, timeout_s=5, transport=Full(Completed(0, "", "")))
    assert "No space left" in caught.value.what


def test_this_machine_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The real thing, with a PYTHONPATH that would break it if it were read."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run_agent(DEVICE, DESCRIBE, {}, {}, timeout_s=60)
    assert result["agent_version"] == agent_version()
    assert result["cpu_count"] >= 1


def test_a_real_signal_is_named(tmp_path: Path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho dying >&2\nkill -ABRT $$\n")
    python.chmod(0o755)
    transport = LocalTransport(DEVICE)
    transport.python = str(python)
    with pytest.raises(DeviceError) as caught:
        run_agent(DEVICE, DESCRIBE, {}, {}, timeout_s=60, transport=transport)
    assert caught.value.what == "the agent was ended by SIGABRT"
    assert "dying" in caught.value.fix


def test_what_is_kept_is_pushed_once_and_what_is_not_is_gone_after_its_job(tmp_path: Path):
    class Counting(FakeBoard):
        pushed: list[str]

        def push(self, local: Path, remote: PurePosixPath) -> None:
            self.pushed = [*getattr(self, "pushed", []), remote.name]
            super().push(local, remote)

    (tmp_path / "model.onnx").write_bytes(b"model")
    (tmp_path / "feeds.npz").write_bytes(b"feeds")
    board = Counting(Completed(0, "", ""), {"agent_version": "1"})
    with AgentSession(DEVICE, board) as session:
        for _ in range(2):
            session.keep("model.onnx", tmp_path / "model.onnx")
            session.run(DESCRIBE, {"feeds.npz": tmp_path / "feeds.npz"}, {}, timeout_s=5)
        assert sorted(board.files) == [f"/tmp/edgekit-1/{name}" for name in ("agent.pyz", "model.onnx", "out.npz")]
        (tmp_path / "model.onnx").write_bytes(b"another")
        session.keep("model.onnx", tmp_path / "model.onnx")
    assert board.pushed == [
        *("agent.pyz", "model.onnx", "job-1.json", "feeds.npz", "job-2.json", "feeds.npz", "model.onnx"),
    ]
    assert board.closed
    assert board.files == {}


def test_a_lost_link_while_copying_is_tried_again(tmp_path: Path):
    transport = Loopback([1, 3], after=True)  # the agent's own push, and that of the job
    with AgentSession(DEVICE, transport, patience_s=20) as session:
        assert session.run(DESCRIBE, {}, {}, timeout_s=60)["agent_version"] == agent_version()
    assert transport.closed


def test_the_real_agent_over_a_link_that_is_lost_while_it_works():
    transport = Loopback([4], after=False)  # mktemp, agent, job, start, follow
    with AgentSession(DEVICE, transport, patience_s=20) as session:
        result = session.run(DESCRIBE, {}, {}, timeout_s=60)
        folder = Path(str(session._folder))
        assert [path.name for path in folder.iterdir()] == ["agent.pyz"]
    assert result["cpu_count"] >= 1
    assert [command[3] for command in transport.commands if command[1] == "-E"] == ["start", "follow", "follow"]
    assert not folder.exists()


def test_runtimes_of_two_environments_are_not_mixed():
    device = Device(name="bench", target="cpu-x86-64", python_of={"tflite-runtime": "/opt/tflite/bin/python"})
    board = FakeBoard(Completed(0, "", ""), {"agent_version": "1"})
    with AgentSession(device, board) as session:
        session.run({"kind": "infer", "runtime": "tflite-runtime"}, {}, {}, timeout_s=5)
        assert board.commands[1][0] == "/opt/tflite/bin/python"
        cases = [{"runtime": "tflite-runtime"}, {"runtime": "onnxruntime"}]
        with pytest.raises(DeviceError) as caught:
            session.run({"kind": "profile", "cases": cases}, {}, {}, timeout_s=5)
    assert caught.value.what == "runtimes of two environments in one job: onnxruntime, tflite-runtime"


def test_a_device_over_ssh_needs_an_address_and_no_other_has_one():
    with pytest.raises(ValidationError, match="transport ssh needs an address"):
        Device(name="pi", target="raspberry-pi-5", transport="ssh")
    with pytest.raises(ValidationError, match="only transport ssh has address, port"):
        Device(name="pi", target="raspberry-pi-5", address="pi", port=22)
    with pytest.raises(ValidationError, match="address"):  # it would be an option of ssh
        Device(name="pi", target="raspberry-pi-5", transport="ssh", address="-oProxyCommand=reboot")
