import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

from edgekit.devices.local import LocalTransport
from edgekit.devices.run_agent import run_agent
from edgekit.devices.transport import Completed
from edgekit.devices.zipapp import agent_version, build_zipapp
from edgekit.errors import DeviceError
from edgekit.schema.device import Device

DEVICE = Device(name="bench", target="cpu-x86-64")
DESCRIBE = {"kind": "describe"}


class FakeBoard:
    """A board in memory: files by path, and one scripted answer to the agent."""

    def __init__(self, answer: Completed | DeviceError, result: dict[str, object] | None = None) -> None:
        self.python = "python3"
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

    def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
        self.commands.append(list(argv))
        if argv[0] == "mktemp":
            return Completed(0, "/tmp/edgekit-1\n", "")
        if argv[0] == "rm":
            self.files = {name: data for name, data in self.files.items() if not name.startswith(argv[-1] + "/")}
            return Completed(0, "", "")
        self.seen = dict(self.files)
        if isinstance(self.answer, DeviceError):
            raise self.answer
        if self.result is not None:
            self.files["/tmp/edgekit-1/result.json"] = json.dumps(self.result).encode()
            self.files["/tmp/edgekit-1/out.npz"] = b"arrays"
        return self.answer


def test_agent_job_and_files_go_there_and_nothing_stays(tmp_path: Path):
    (tmp_path / "model.onnx").write_bytes(b"model")
    board = FakeBoard(Completed(0, "", ""), {"agent_version": "1"})
    files, results = {"0.onnx": tmp_path / "model.onnx"}, {"out.npz": tmp_path / "out.npz"}
    assert run_agent(DEVICE, DESCRIBE, files, results, timeout_s=5, transport=board) == {"agent_version": "1"}
    assert board.seen == {
        "/tmp/edgekit-1/agent.pyz": build_zipapp(),
        "/tmp/edgekit-1/job.json": b'{"kind": "describe"}',
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
        def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
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
        def run(self, argv: Sequence[str], *, timeout_s: float) -> Completed:
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
