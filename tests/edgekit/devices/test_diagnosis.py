"""The doctor of a board from end to end: this machine as one, and boards that fail in each way."""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

from edgekit.devices.diagnosis import diagnose
from edgekit.devices.transport import Completed, LinkError
from edgekit.errors import DeviceError
from edgekit.schema.device import Device
from edgekit.schema.load import load_target
from tests.boards.board import Board as Board64
from tests.edgekit.devices.boards import facts

PI = Device(name="pi5", target="raspberry-pi-5", transport="ssh", address="pi5")
TARGET = load_target("raspberry-pi-5").target


class Board:
    """Answers with what a test gives; keeps what it was asked."""

    python = "python3"
    link = True

    def __init__(self, answer: Completed, *, push: Exception | None = None, mktemp: Completed | None = None) -> None:
        self.answer, self.failing = answer, push
        self.mktemp = mktemp or Completed(0, "/tmp/edgekit-x1\n", "")
        self.asked: list[list[str]] = []
        self.closed = False

    def push(self, local: Path, remote: PurePosixPath) -> None:
        if self.failing is not None:
            raise self.failing

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        raise AssertionError("nothing is fetched")

    def run(self, argv: Sequence[str], *, timeout_s: float, on_line=None) -> Completed:
        self.asked.append(list(argv))
        if argv[0] == "date":
            return Completed(0, "1000000000\n", "")
        if argv[0] == "mktemp":
            return self.mktemp
        if argv[0] == "rm":
            return Completed(0, "", "")
        return self.answer

    def close(self) -> None:
        self.closed = True


def by_name(checks):
    return {check.name: check for check in checks}


def test_facts_become_advice_and_the_folder_is_removed():
    board = Board(Completed(0, facts().model_dump_json() + "\n", ""))
    checks = by_name(diagnose(PI, TARGET, transport=board, others={"cc" * 8: "pi5-b"}))
    assert list(checks)[:3] == ["reached", "python", "system"]
    assert checks["identity"].found.startswith("pi5-b has the same machine id")
    assert checks["date"].state == "problem"  # 2001, as a board without a battery has it
    assert board.asked[-1] == ["rm", "-rf", "/tmp/edgekit-x1"]
    assert board.closed
    command = board.asked[2]
    assert command[:2] == ["python3", "-E"]
    assert command[-3:] == ["/tmp/edgekit-x1/agent.pyz", "/tmp/edgekit-x1", json.dumps(PI.python_of)]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (Completed(127, "", "sh: 1: python3: not found"), "python3 is not there: sh: 1: python3: not found"),
        (Completed(1, "", "Traceback:\nSyntaxError: invalid syntax"), "cannot run the doctor: SyntaxError"),
    ],
)
def test_a_board_without_a_usable_python_is_broken_not_unreachable(answer, found):
    board = Board(answer)
    check = by_name(diagnose(PI, TARGET, transport=board))["python"]
    assert check.state == "broken"
    assert found in check.found
    assert board.asked[-1][0] == "rm"


def test_a_full_disk_is_broken_and_a_lost_link_is_an_error():
    full = DeviceError("agent.pyz did not arrive: No space left on device; 0.0 MB are free there", "device pi5", "")
    check = by_name(diagnose(PI, TARGET, transport=Board(Completed(0, "", ""), push=full)))["folder for jobs"]
    assert check.state == "broken"
    assert "No space left on device" in check.found
    lost = Board(Completed(0, "", ""), push=LinkError("the link is lost", "device pi5", "check that it is on"))
    with pytest.raises(LinkError):
        diagnose(PI, TARGET, transport=lost)
    assert lost.closed
    refused = Board(Completed(0, "", ""), mktemp=Completed(1, "", "mktemp: Permission denied"))
    assert by_name(diagnose(PI, TARGET, transport=refused))["folder for jobs"].state == "broken"


def test_a_login_script_that_prints_is_named():
    board = Board(Completed(0, "welcome to pi5\n", ""))
    with pytest.raises(DeviceError) as caught:
        diagnose(PI, TARGET, transport=board)
    assert "login script" in caught.value.fix


def test_this_machine_is_examined_for_real():
    local = Device(name="local", target="cpu-x86-64")
    checks = by_name(diagnose(local, load_target("cpu-x86-64").target))
    assert checks["python"].state == "ok"
    assert checks["numpy"].state == "ok"
    assert "date" not in checks  # one clock
    assert {"runtime onnxruntime", "runtime litert", "memory", "disk", "clocks", "other load"} <= set(checks)


def emulated(board: Board64, **changes) -> Device:
    fields = {"name": "test-board", "target": "raspberry-pi-5", "transport": "ssh", "address": board.alias}
    return Device(**{**fields, "ssh_config": board.ssh_config, "stand_in_for": "raspberry-pi-5", **changes})


def test_an_arm64_board_is_examined_over_ssh(bullseye_board: Board64):
    # Debian 11: glibc 2.31, Python 3.9, no LiteRT, and no machine id
    others = {"tflite-runtime": "/usr/bin/python3", "litert": "/opt/none/bin/python3"}
    checks = by_name(diagnose(emulated(bullseye_board, python_of=others), TARGET))
    assert checks["reached"].found.startswith("ssh, ")
    assert checks["python"].found.startswith("3.9.")
    assert checks["system"].state == "ok"
    assert "aarch64, Debian GNU/Linux 11" in checks["system"].found
    assert checks["libc"].found == "glibc 2.31"
    assert checks["runtime onnxruntime"].state == "ok"
    assert checks["runtime litert"].state == "problem"
    assert checks["runtime litert"].fix == "correct `python_of` of this device in devices.yaml"
    assert checks["identity"].state == "problem"
    assert "sudo systemd-machine-id-setup" in checks["identity"].fix
    assert list((bullseye_board.root / "tmp").glob("edgekit-????????")) == []


def test_a_full_board_says_so(bullseye_board: Board64):
    bullseye_board.fill_disk(20_000)
    check = by_name(diagnose(emulated(bullseye_board), TARGET))["folder for jobs"]
    assert check.state == "broken"
    assert "did not arrive" in check.found
