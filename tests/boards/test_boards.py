"""The stand-ins for boards do what tests of devices rely on: real arm64 programs, a real sshd, and faults that bite."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.boards import host
from tests.boards.board import Board, board
from tests.boards.fixtures import need
from tests.boards.host import BoardError, deb822, one_line
from tests.boards.recipe import BOOKWORM, BULLSEYE


def _login(on: Board, *argv: str) -> subprocess.CompletedProcess[str]:
    """One try of a few seconds."""
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-o", "ServerAliveInterval=1"]
    command = ["ssh", "-F", str(on.ssh_config), *options, on.alias, *argv]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def test_bookworm_runs_arm64_programs_as_an_ordinary_user(bookworm_board: Board) -> None:
    done = bookworm_board.run("uname -m; id -un; hostname; python3 --version; cat /sys/firmware/devicetree/base/model")
    machine, user, name, python, model = done.stdout.rstrip("\0").splitlines()
    assert (machine, user, name) == ("aarch64", "edgekit", "edgekit-bookworm")
    assert python.startswith("Python 3.11.")
    assert "emulation" in model


def test_bookworm_has_every_runtime_and_an_old_one_apart(bookworm_board: Board) -> None:
    code = "import onnxruntime, ai_edge_litert.interpreter, numpy; print(onnxruntime.__version__, numpy.__version__)"
    assert bookworm_board.run(f"python3 -c '{code}'").stdout.split() == ["1.31.1", "2.4.6"]
    code = "import tflite_runtime.interpreter, numpy; print(numpy.__version__)"
    assert bookworm_board.run(f"/opt/tflite/bin/python3 -c '{code}'").stdout.split() == ["1.26.4"]
    assert bookworm_board.run(f"python3 -c '{code}'").returncode == 1


def test_bullseye_is_an_old_board(bullseye_board: Board) -> None:
    done = bullseye_board.run(
        "uname -m; python3 -c 'import sys, onnxruntime as o; print(sys.version_info[:2], o.__version__)'"
    )
    assert done.stdout.splitlines() == ["aarch64", "(3, 9) 1.16.3"]


def test_a_cut_link_answers_nothing_until_it_is_mended(bookworm_board: Board) -> None:
    bookworm_board.cut_link()
    assert _login(bookworm_board, "true").returncode == 255
    bookworm_board.mend_link()
    assert _login(bookworm_board, "true").returncode == 0


def test_without_sshd_logging_in_is_refused(bookworm_board: Board) -> None:
    bookworm_board.kill_sshd()
    refused = _login(bookworm_board, "true")
    assert refused.returncode == 255
    assert "refused" in refused.stderr
    bookworm_board.start_sshd()
    assert _login(bookworm_board, "true").returncode == 0


def test_another_host_key_is_refused_until_it_is_trusted(bookworm_board: Board) -> None:
    bookworm_board.change_host_key()
    assert "IDENTIFICATION HAS CHANGED" in _login(bookworm_board, "true").stderr
    bookworm_board.trust_host_key()
    assert _login(bookworm_board, "true").returncode == 0


def test_an_unknown_host_key_is_refused(bookworm_board: Board) -> None:
    bookworm_board.forget_host_key()
    assert "Host key verification failed" in _login(bookworm_board, "true").stderr


def test_a_process_on_the_board_is_killed_and_no_other(bookworm_board: Board) -> None:
    here = subprocess.Popen(["sleep", "4242"])
    there = subprocess.Popen(["ssh", "-F", bookworm_board.ssh_config, bookworm_board.alias, "exec sleep 4242"])
    try:
        _until(lambda: any("sleep 4242" in line for line in bookworm_board.processes().values()))
        bookworm_board.kill("sleep 4242")
        assert there.wait(30) == 255  # ssh's own word for a command that a signal ended
        assert here.poll() is None
        with pytest.raises(BoardError, match="no process"):
            bookworm_board.kill("sleep 4242")
    finally:
        here.kill()
        here.wait()
        there.kill()
        there.wait()


def test_dropped_connections_leave_their_programs_and_sshd(bookworm_board: Board) -> None:
    line = "nohup sleep 4343 > /dev/null 2>&1 < /dev/null & sleep 4444"
    there = subprocess.Popen(["ssh", "-F", bookworm_board.ssh_config, bookworm_board.alias, line])
    try:
        _until(lambda: any(line.endswith("sleep 4343") for line in bookworm_board.processes().values()))
        bookworm_board.drop_connections()
        assert there.wait(30) == 255
        assert bookworm_board.kill(r"sleep 4343$") == 1  # not the shell that began it, which may still be ending
        assert _login(bookworm_board, "true").returncode == 0
    finally:
        there.kill()
        there.wait()


def test_a_full_disk_takes_no_more(bookworm_board: Board) -> None:
    write = "dd if=/dev/zero of=/tmp/much bs=1000 count=100"
    bookworm_board.fill_disk(leave_bytes=20_000)
    assert "No space left" in bookworm_board.run(write).stderr
    bookworm_board.free_disk()
    assert bookworm_board.run(f"rm /tmp/much; {write}").returncode == 0
    assert (bookworm_board.root / "tmp/much").stat().st_size == 100_000


def test_the_clock_jumps_while_a_program_runs_and_the_steady_one_does_not(bookworm_board: Board) -> None:
    code = "import sys, time\nfor line in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    program = f'{bookworm_board.changeable_python} -c "{code}"'
    command = ["ssh", "-F", str(bookworm_board.ssh_config), bookworm_board.alias, program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as there:
        assert there.stdin is not None
        assert there.stdout is not None
        before, steady_before = _ask(there)
        bookworm_board.change_clock(-86400)
        after, steady_after = _ask(there)
        there.stdin.close()
    passed = steady_after - steady_before
    assert 0 < passed < 60
    assert after - before == pytest.approx(passed - 86400, abs=1)


def test_a_power_cycle_ends_everything_and_empties_tmp(bookworm_board: Board) -> None:
    bookworm_board.run("nohup sleep 4545 > /tmp/left 2>&1 < /dev/null & true")
    assert (bookworm_board.root / "tmp/left").exists()
    bookworm_board.power_cycle()
    assert not (bookworm_board.root / "tmp/left").exists()
    with pytest.raises(BoardError, match="no process"):
        bookworm_board.kill("sleep 4545")
    assert _login(bookworm_board, "true").returncode == 0


def test_two_boards_at_once_are_two(bookworm_board: Board) -> None:
    with board("bookworm", user="root") as other:
        assert other.address != bookworm_board.address
        assert other.run("id -un; touch /root/here").stdout == "root\n"
        assert not (bookworm_board.root / "root/here").exists()
        interface, folder = other.link.interface, other.folder
        assert Path(f"/sys/class/net/{interface}").exists()
    assert not Path(f"/sys/class/net/{interface}").exists()
    assert not folder.exists()


def test_a_board_dies_with_the_process_that_made_it(bookworm_board: Board) -> None:
    code = (
        "import os, signal; from tests.boards.board import board\n"
        "with board() as b: print(b.link.interface, b.folder, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == -9, done.stderr
    interface, folder = done.stdout.split()
    _until(lambda: not Path(f"/sys/class/net/{interface}").exists())
    assert folder not in Path("/proc/mounts").read_text()


def test_the_archive_is_read_from_both_forms_of_apts_sources() -> None:
    lines = "# deb http://off.example bookworm main\ndeb [signed-by=/k.gpg] http://a.example/debian bookworm main\n"
    (source,) = one_line(lines + "deb http://b.example/debian-security bookworm-security main\n", "bookworm")
    assert (source.uri, source.signed_by) == ("http://a.example/debian", "/k.gpg")
    stanza = "Types: deb\n# URIs: no\nURIs: http://a.example/debian\nSuites: bookworm bookworm-updates\n"
    text = f"{stanza}Components: main\nSigned-By: /k.gpg\n\nTypes: deb\nURIs: http://c.example\nSuites: nodistro\n"
    assert deb822(text, "bookworm") == [source]


def test_without_root_the_reason_is_told_and_ci_skips_nothing_it_could_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "root" in (host.why_not() or "")
    assert not host.must_work()
    with pytest.raises(pytest.skip.Exception, match="no namespaces"):
        need("no namespaces")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(host, "_namespaces", lambda: True)
    assert host.must_work()
    with pytest.raises(pytest.fail.Exception, match="no archive"):
        need("no archive")


def test_a_changed_recipe_makes_another_root() -> None:
    assert BOOKWORM.digest() != BULLSEYE.digest()
    assert "manylinux_2_31_aarch64" in BULLSEYE.platforms()
    assert "manylinux_2_34_aarch64" not in BULLSEYE.platforms()


def _ask(there: subprocess.Popen[str]) -> tuple[float, float]:
    assert there.stdin is not None
    assert there.stdout is not None
    there.stdin.write("now\n")
    there.stdin.flush()
    of_day, steady = there.stdout.readline().split()
    return float(of_day), float(steady)


def _until(holds: object, limit_s: float = 60) -> None:
    assert callable(holds)
    until = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)
