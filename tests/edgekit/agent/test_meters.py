from pathlib import Path

import pytest

from edgekit.agent.meters import Ina3221, MeterError, Rapl, hwmon_rails, iio_rails, pmic_rails, rapl_zones, watts
from tests.edgekit.agent import boards


def test_the_rail_that_feeds_all_others_of_an_orin_nano_is_its_power(tmp_path: Path):
    boards.orin_nano(tmp_path)
    rails = hwmon_rails(tmp_path)
    assert set(rails) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}  # channel 7 sums shunts
    meter = Ina3221(rails)
    assert meter.rails == ("VDD_IN",)
    assert meter.read() == pytest.approx(4.984 * 1.856)
    assert meter.note == ""


def test_rails_of_an_agx_orin_are_summed_and_the_rest_is_said(tmp_path: Path):
    boards.agx_orin(tmp_path)
    meter = Ina3221(hwmon_rails(tmp_path))
    assert sorted(meter.rails) == ["VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0"]  # NC is not connected
    assert meter.read() == pytest.approx(8 * 0.5 + 8 * 0.25 + 5 * 0.8)
    assert "carrier board" in meter.note


def test_rails_of_a_nano_come_from_iio(tmp_path: Path):
    boards.nano(tmp_path)
    meter = Ina3221(iio_rails(tmp_path))
    assert (meter.rails, meter.read()) == (("POM_5V_IN",), pytest.approx(4.32))


def test_a_rail_that_vanishes_is_an_error(tmp_path: Path):
    boards.nano(tmp_path)
    meter = Ina3221(iio_rails(tmp_path))
    (tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input").unlink()
    with pytest.raises(MeterError, match="POM_5V_IN"):
        meter.read()


def test_rapl_sums_packages_and_memory_and_survives_a_wrap(tmp_path: Path):
    boards.x86(tmp_path)
    zones = rapl_zones(tmp_path)
    assert list(zones) == ["package-0", "dram (intel-rapl:0:1)"]  # cores are in the package, psys holds all of it
    meter = Rapl(zones)
    assert meter.read() == 0.0
    rapl = "sys/class/powercap/intel-rapl:"
    boards.write(tmp_path, {f"{rapl}0/energy_uj": "262143300000\n", f"{rapl}0:1/energy_uj": "1500000\n"})
    assert meter.read() == pytest.approx(0.3 + 0.5)
    boards.write(tmp_path, {f"{rapl}0/energy_uj": "100000\n"})  # began anew at 262143328850
    assert meter.read() == pytest.approx(0.8 + 0.02885 + 0.1)


def test_rapl_that_may_not_be_read_is_an_error(tmp_path: Path):
    boards.x86(tmp_path)
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    with pytest.raises(MeterError, match="intel-rapl:0/energy_uj cannot be read"):
        Rapl(rapl_zones(tmp_path))


def test_rails_of_a_pi_5_are_paired_by_name():
    rails = pmic_rails(boards.PMIC)
    assert len(rails) == 12
    assert "EXT5V" not in rails  # it has a voltage alone
    assert rails["VDD_CORE"] == pytest.approx(10.87674 * 0.8974594)
    by_hand = 0.06245952 * 3.306322 + 0.1610285 * 1.798289 + 0.00780744 * 1.102929 + 0.1756674 * 1.104394
    by_hand += 0.3279125 * 0.8025633 + 10.87674 * 0.8974594 + 0.0003663 * 3.304942 + 0.00042735 * 3.302194
    by_hand += 0.00579975 * 0.7973619 + 0.0136752 * 5.07056
    assert sum(rails.values()) == pytest.approx(by_hand)
    assert pmic_rails('error=1 error_msg="Command not registered"\n') == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [("4.93", 4.93), ("watts 4.93", 4.93), ("power_w=12", 12.0), ("1.2e-3", 0.0012), ("starting", None), ("", None)],
)
def test_a_line_of_a_meter(line: str, expected: float | None):
    assert watts(line) == expected
