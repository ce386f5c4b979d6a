import time
from pathlib import Path, PurePosixPath

import pytest

from edgekit.devices.local import LocalTransport
from edgekit.devices.table import connect
from edgekit.errors import DeviceError
from edgekit.schema.device import Device

DEVICE = Device(name="bench", target="cpu-x86-64")


def test_a_command_gives_its_status_and_both_streams():
    done = LocalTransport(DEVICE).run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=20)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_timeout_ends_the_command_with_all_that_it_started(tmp_path: Path):
    note = tmp_path / "child"
    with pytest.raises(DeviceError) as caught:
        LocalTransport(DEVICE).run(["sh", "-c", f"sleep 60 >/dev/null 2>&1 & echo $! > {note}; wait"], timeout_s=0.5)
    assert caught.value.what == "no reply in 0.5 s"
    assert caught.value.where.startswith("device bench, running sh -c")
    status = Path(f"/proc/{note.read_text().strip()}/status")
    for _ in range(100):  # the kernel ends it in its own time
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.05)
    pytest.fail("the command's child lives on")


def test_a_command_that_is_not_there(tmp_path: Path):
    with pytest.raises(DeviceError) as caught:
        LocalTransport(DEVICE).run([str(tmp_path / "nothing")], timeout_s=5)
    assert caught.value.where == "device bench"


def test_files_go_there_and_back(tmp_path: Path):
    transport = LocalTransport(DEVICE)
    (tmp_path / "a").write_bytes(b"\0\1\2")
    transport.push(tmp_path / "a", PurePosixPath(tmp_path / "b"))
    transport.pull(PurePosixPath(tmp_path / "b"), tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"\0\1\2"
    with pytest.raises(DeviceError) as caught:
        transport.pull(PurePosixPath(tmp_path / "d"), tmp_path / "e")
    assert str(tmp_path / "d") in caught.value.what


def test_the_table_is_asked_for_the_transport():
    assert isinstance(connect(DEVICE), LocalTransport)
    with pytest.raises(DeviceError) as caught:
        connect(DEVICE, {"pigeon": LocalTransport})
    assert (caught.value.what, caught.value.fix) == ("no transport is called 'local'", "transports: pigeon")
