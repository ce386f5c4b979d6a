from pathlib import Path

import pytest

from edgekit.agent.throttle import Throttle, ThrottleProbe, held_back, read_throttle, throttled
from tests.edgekit.agent import boards


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
def test_flags_of_a_raspberry_pi(start: int | None, end: int | None, expected: bool | None):
    assert throttled(start, end) is expected


def test_a_flag_that_is_seen_only_in_between_counts_and_is_named():
    looks = [Throttle(0x0), Throttle(0xA000A), Throttle(0x0)]
    assert held_back(looks) == (True, ["frequency capped", "soft temperature limit"])
    assert held_back([looks[0], looks[2]]) == (False, [])


def test_a_pi_is_asked_through_the_kernel(tmp_path: Path):
    boards.pi_4(tmp_path)
    probe = ThrottleProbe(tmp_path, (0, 1))
    assert probe.read() == Throttle(0, {}, {}, "get_throttled of the kernel")
    boards.write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n"})
    assert probe.read().flags == 0x50005


def test_vcgencmd_is_asked_where_the_kernel_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    boards.tool(tmp_path, "vcgencmd", '[ "$1" = get_throttled ] && echo throttled=0x50005\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    found = read_throttle(tmp_path / "root")
    assert (found.flags, found.source) == (0x50005, "vcgencmd get_throttled")


def test_over_current_of_an_orin_is_counted_and_explained(tmp_path: Path):
    boards.orin_nano(tmp_path)
    probe = ThrottleProbe(tmp_path, (0, 1))
    before = probe.read()
    assert before.source == "soctherm_oc, cooling devices"
    assert held_back([before, probe.read()]) == (False, [])  # 27,390 events since boot are not ours
    boards.write(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": "27397\n"})
    assert held_back([before, probe.read()]) == (True, ["oc3 (instantaneous over-current): 7 times"])


def test_other_jetsons_number_their_events_otherwise(tmp_path: Path):
    boards.nano(tmp_path)
    assert read_throttle(tmp_path).counters == {"oc1": 4}


def test_a_cooling_device_that_slows_the_processor_counts_and_a_fan_does_not(tmp_path: Path):
    boards.orin_nano(tmp_path)
    probe = ThrottleProbe(tmp_path)
    boards.write(tmp_path, {"sys/class/thermal/cooling_device0/cur_state": "9\n"})
    assert held_back([probe.read()]) == (False, [])
    boards.write(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "1\n"})
    assert held_back([probe.read()]) == (True, ["slowed by cpu-throttle-alert"])


def test_x86_counts_what_its_own_processors_saw(tmp_path: Path):
    boards.x86(tmp_path)
    probe = ThrottleProbe(tmp_path, (0,))
    before = probe.read()
    assert before.counters == {"cpu0 core over its temperature": 7, "cpu0 package over its temperature": 20}
    boards.write(tmp_path, {"sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "5\n"})
    assert held_back([before, probe.read()])[0] is False  # not a processor that we run on
    boards.write(tmp_path, {"sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "21\n"})
    assert held_back([before, probe.read()]) == (True, ["cpu0 package over its temperature: 1 times"])


def test_a_machine_that_tells_nothing_is_not_called_fine(tmp_path: Path):
    found = read_throttle(tmp_path, (0, 1))
    assert found.source == ""
    assert held_back([found, found]) == (None, [])
