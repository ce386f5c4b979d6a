from pathlib import Path

import pytest

from edgekit.agent.jetson import gpu_clock_file, pinned_clocks, power_mode
from tests.edgekit.agent import boards


def test_the_gpu_of_an_orin_is_found_by_its_device(tmp_path: Path):
    boards.orin_nano(tmp_path)
    boards.write(tmp_path, {"sys/class/devfreq/15480000.vic/cur_freq": "435200000\n"})  # another engine of the chip
    assert gpu_clock_file(tmp_path) == tmp_path / "sys/class/devfreq/17000000.gpu/cur_freq"


def test_the_gpu_of_an_older_jetpack_is_found_by_its_chip(tmp_path: Path):
    boards.write(tmp_path, {"sys/class/devfreq/17000000.ga10b/cur_freq": "1300500000\n"})
    assert gpu_clock_file(tmp_path) == tmp_path / "sys/class/devfreq/17000000.ga10b/cur_freq"


def test_the_gpu_of_a_nano_is_found_below_gpu_0(tmp_path: Path):
    boards.nano(tmp_path)
    assert gpu_clock_file(tmp_path) == tmp_path / "sys/devices/gpu.0/devfreq/57000000.gpu/cur_freq"


def test_other_boards_have_no_such_gpu(tmp_path: Path):
    boards.pi_5(tmp_path)
    assert gpu_clock_file(tmp_path) is None


def test_the_power_mode_has_its_name_from_nvpmodel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    boards.orin_nano(tmp_path / "root")
    boards.tool(tmp_path, "nvpmodel", "echo 'NV Power Mode: MAXN_SUPER'; echo 2\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert power_mode(tmp_path / "root") == "MAXN_SUPER"


def test_the_mode_has_a_number_at_least_where_nvpmodel_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    boards.orin_nano(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert power_mode(tmp_path) == "nvpmodel 0001"


def test_other_boards_have_no_mode(tmp_path: Path):
    boards.pi_5(tmp_path)
    assert power_mode(tmp_path) is None


def test_clocks_are_pinned_where_least_and_most_are_one(tmp_path: Path):
    boards.orin_nano(tmp_path)
    assert pinned_clocks(tmp_path, (0, 1)) is True
    boards.write(tmp_path, {"sys/devices/system/cpu/cpu1/cpufreq/scaling_min_freq": "115200\n"})
    assert pinned_clocks(tmp_path, (0, 1)) is False
    assert pinned_clocks(tmp_path, (0,)) is True
    assert pinned_clocks(tmp_path / "none", (0, 1)) is None
