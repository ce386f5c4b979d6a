from pathlib import Path

import pytest

from edgekit.agent.sensors import Reading, conditions, cpu_model, machine_identity, read_sensors, throttled
from edgekit.schema.profile import Conditions


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})


@pytest.mark.usefixtures("two_processors")
def test_a_board_with_every_sensor(tmp_path: Path):
    cpu = "sys/devices/system/cpu/cpu"
    write(
        tmp_path,
        {
            f"{cpu}0/cpufreq/scaling_cur_freq": "600000\n",
            f"{cpu}1/cpufreq/scaling_cur_freq": "2400000\n",
            f"{cpu}2/cpufreq/scaling_cur_freq": "3000000\n",  # not ours to run on
            f"{cpu}0/cpufreq/scaling_governor": "performance\n",
            f"{cpu}1/cpufreq/scaling_governor": "performance\n",
            "sys/class/thermal/thermal_zone0/type": "gpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": "71000",
            "sys/class/thermal/thermal_zone1/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone1/temp": "58250",
            "sys/class/thermal/thermal_zone2/type": "cv0-thermal",
            "sys/class/thermal/thermal_zone2/temp": "-256000",  # powered down
            "sys/class/hwmon/hwmon0/name": "nvme",
            "sys/class/hwmon/hwmon0/temp1_input": "40000",
            "sys/class/hwmon/hwmon0/temp1_label": "Composite",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        },
    )
    reading = read_sensors(tmp_path)
    assert (reading.clock_mhz, reading.governor, reading.temp_c) == (2400.0, "performance", 58.25)
    assert reading.temperatures_c == {"gpu-thermal": 71.0, "cpu-thermal": 58.25, "nvme Composite": 40.0}
    found = Conditions.model_validate(conditions(reading, reading, tmp_path))
    assert found.extra["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert (found.clock_mhz_start, found.temp_c_end, found.affinity) == (2400.0, 58.25, (0, 1))


@pytest.mark.usefixtures("two_processors")
def test_what_cannot_be_read_is_none(tmp_path: Path):
    reading = read_sensors(tmp_path)
    assert (reading.clock_mhz, reading.governor, reading.temp_c, reading.throttle_flags) == (None, None, None, None)
    found = Conditions.model_validate(conditions(reading, reading, tmp_path))
    assert (found.cpu, found.throttled, found.extra) == ("", None, {"identity": None})


@pytest.mark.usefixtures("two_processors")
def test_clocks_and_model_of_proc_cpuinfo(tmp_path: Path):
    write(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: A Fine CPU\ncpu MHz\t\t: 1800.5\n\n"
            "processor\t: 7\nmodel name\t: A Fine CPU\ncpu MHz\t\t: 4000.0\n"
        },
    )
    assert read_sensors(tmp_path).clock_mhz == 1800.5
    assert cpu_model(tmp_path) == "A Fine CPU"


def test_machines_of_one_name_are_told_apart(tmp_path: Path):
    for name, machine_id in (("a", "1f"), ("b", "2e")):
        write(tmp_path / name, {"etc/machine-id": machine_id})
    first, second = machine_identity(tmp_path / "a"), machine_identity(tmp_path / "b")
    assert first is not None
    assert first != second
    assert "1f" not in first[:2]  # a digest, not the id itself
    assert first == machine_identity(tmp_path / "a")


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, None),
        (0x0, 0x0, False),
        (0x50000, 0x50000, False),  # long ago, not during the measurement
        (0x0, 0x50000, True),  # came and went meanwhile
        (0x0, 0x4, True),
        (0x1, 0x0, True),
    ],
)
def test_throttle_flags(start: int | None, end: int | None, expected: bool | None):
    assert throttled(start, end) is expected


def test_vcgencmd_is_asked_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tool = tmp_path / "vcgencmd"
    tool.write_text('#!/bin/sh\n[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert read_sensors(tmp_path).throttle_flags == 0x50005


def test_conditions_take_the_load_before_and_the_clock_of_both():
    start = Reading(clock_mhz=1000.0, governor="a", temp_c=40.0, load_average=0.5)
    end = Reading(clock_mhz=900.0, governor="a", temp_c=80.0, load_average=1.5)
    found = conditions(start, end)
    assert (found["clock_mhz_start"], found["clock_mhz_end"]) == (1000.0, 900.0)
    assert (found["temp_c_start"], found["temp_c_end"], found["load_average"]) == (40.0, 80.0, 0.5)
