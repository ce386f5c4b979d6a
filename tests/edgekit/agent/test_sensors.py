from pathlib import Path

import pytest

from edgekit.agent.sensors import Glance, Probe, Reading, conditions, cpu_model, machine_identity, read_sensors
from edgekit.agent.throttle import Throttle
from tests.edgekit.agent import boards
from tests.edgekit.agent.boards import write


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
    found = conditions(reading, reading, tmp_path)
    assert found["extra"]["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert (found["clock_mhz_start"], found["temp_c_end"], found["affinity"]) == (2400.0, 58.25, [0, 1])


@pytest.mark.usefixtures("two_processors")
def test_what_cannot_be_read_is_none(tmp_path: Path):
    reading = read_sensors(tmp_path)
    assert (reading.clock_mhz, reading.governor, reading.temp_c, reading.throttle.flags) == (None, None, None, None)
    found = conditions(reading, reading, tmp_path)
    assert (found["cpu"], found["throttled"], found["extra"]) == ("", None, {"identity": None})


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


def test_conditions_take_the_load_before_and_the_clock_of_both():
    start = Reading(clock_mhz=1000.0, governor="a", temp_c=40.0, load_average=0.5)
    end = Reading(clock_mhz=900.0, governor="a", temp_c=80.0, load_average=1.5)
    found = conditions(start, end)
    assert (found["clock_mhz_start"], found["clock_mhz_end"]) == (1000.0, 900.0)
    assert (found["temp_c_start"], found["temp_c_end"], found["load_average"]) == (40.0, 80.0, 0.5)


@pytest.mark.usefixtures("two_processors")
def test_an_orin_nano_tells_gpu_clock_power_mode_and_pinned_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    boards.orin_nano(tmp_path / "root")
    boards.tool(tmp_path, "nvpmodel", "echo 'NV Power Mode: 15W'; echo 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    reading = read_sensors(tmp_path / "root")
    assert (reading.clock_mhz, reading.gpu_clock_mhz, reading.temp_c) == (1510.4, 624.75, 51.312)
    found = conditions(reading, reading, tmp_path / "root")
    assert (found["power_mode"], found["clocks_pinned"], found["throttled"]) == ("15W", True, False)
    assert found["throttle_source"] == "soctherm_oc, cooling devices"


@pytest.mark.usefixtures("two_processors")
def test_clocks_between_two_ends_are_not_pinned(tmp_path: Path):
    boards.pi_4(tmp_path)
    found = conditions(read_sensors(tmp_path), read_sensors(tmp_path), tmp_path)
    assert (found["clocks_pinned"], found["power_mode"], found["gpu_clock_mhz_start"]) == (False, None, None)


@pytest.mark.usefixtures("two_processors")
def test_a_glance_sees_what_has_changed(tmp_path: Path):
    boards.pi_5(tmp_path)
    probe = Probe(tmp_path)
    assert probe.glance() == Glance(1800.0, None, 61.342, Throttle(0, {}, {}, "get_throttled of the kernel"))
    for cpu in (0, 1):
        write(tmp_path, {f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": "1000000"})
    write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "85000"})
    write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "e0008"})
    seen = probe.glance()
    assert (seen.clock_mhz, seen.temp_c, seen.throttle.flags) == (1000.0, 85.0, 0xE0008)


def test_a_fan_is_told_by_its_speed_and_by_what_drives_it(tmp_path: Path):
    boards.pi_5(tmp_path)
    found = conditions(read_sensors(tmp_path), read_sensors(tmp_path), tmp_path)
    assert found["extra"]["fans"] == {"pwmfan, rpm": 4870.0, "pwmfan, of 255": 175.0}
    assert "fans" not in conditions(read_sensors(tmp_path / "none"), read_sensors(tmp_path / "none"), tmp_path / "none")


def test_what_was_seen_during_the_run_counts_and_its_ends_do_not_hide_it():
    edge = Reading(clock_mhz=2400.0, governor="a", temp_c=50.0, throttle=Throttle(0x0))
    hot = Glance(1500.0, 300.0, 86.0, Throttle(0x8))
    found = conditions(edge, edge, during=[Glance(2400.0, 600.0, 60.0, Throttle(0x0)), hot])
    assert (found["clock_mhz_min"], found["gpu_clock_mhz_min"], found["temp_c_max"]) == (1500.0, 300.0, 86.0)
    assert (found["throttled"], found["throttled_by"]) == (True, ["soft temperature limit"])
    assert conditions(edge, edge)["throttled"] is False
