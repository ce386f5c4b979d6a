from pathlib import Path

import pytest

from edgekit.agent.sysfs import number, output, text
from tests.edgekit.agent import boards


def test_a_file_without_its_blanks_and_the_zero_byte_of_the_device_tree(tmp_path: Path):
    boards.write(tmp_path, {"a": " 42000\n", "b": "Raspberry Pi 5\0", "c": "fast\n"})
    assert (text(tmp_path / "a"), number(tmp_path / "a")) == ("42000", 42000.0)
    assert text(tmp_path / "b") == "Raspberry Pi 5"
    assert number(tmp_path / "c") is None


def test_what_cannot_be_read_is_empty(tmp_path: Path):
    assert (text(tmp_path / "none"), number(tmp_path / "none")) == ("", None)
    assert text(tmp_path) == ""  # a folder


def test_a_command_that_is_not_there_or_fails_prints_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    boards.tool(tmp_path, "works", "echo here\n")
    boards.tool(tmp_path, "fails", "echo here; exit 3\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert [output([name]) for name in ("works", "fails", "absent")] == ["here\n", "", ""]
