from pathlib import Path

import pytest

from edgekit.agent.meters import MeterError
from edgekit.agent.power import Command, choose_meter, find_meters
from tests.edgekit.agent import boards


def test_a_meter_of_ones_own_prints_watts(tmp_path: Path):
    meter = Command(["/bin/sh", "-c", "echo watts 4; echo watts 6; sleep 60"])
    try:
        value = None
        for _ in range(2000):
            try:
                value = meter.read()
                break
            except MeterError:
                continue
        first = value
        assert first in (4.0, 5.0)  # both lines, or the first alone
        assert meter.read() in (5.0, 6.0)  # nothing new: the last one again
    finally:
        meter.stop()


def test_a_meter_that_ends_is_an_error():
    meter = Command(["/bin/false"])
    meter._process.wait()
    with pytest.raises(MeterError, match="ended with status 1"):
        meter.read()
    meter.stop()


def test_every_board_has_the_meter_that_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    for board, source in ((boards.orin_nano, "INA3221"), (boards.nano, "INA3221"), (boards.x86, "RAPL")):
        root = tmp_path / board.__name__
        board(root)
        meters, reasons = find_meters(root, tools=False)
        assert [meter.source for meter in meters] == [source]
        assert reasons == []
    boards.pi_4(tmp_path / "pi")
    assert find_meters(tmp_path / "pi", tools=False)[0] == []
    assert find_meters(tmp_path / "pi", tools=False)[1][0].startswith("no power sensor is known here")


def test_a_pi_5_is_asked_by_vcgencmd_and_says_what_it_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "adc").write_text(boards.PMIC)
    boards.tool(tmp_path, "vcgencmd", f'[ "$1" = pmic_read_adc ] && cat {tmp_path}/adc\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    boards.pi_5(tmp_path / "root")
    meters, _ = find_meters(tmp_path / "root")
    meter = choose_meter(meters, on_gpu=False)
    assert meter is not None
    assert meter.source == "PMIC of the Raspberry Pi 5"
    assert 10.0 < meter.read() < 12.0
    assert "USB" in meter.note


def test_the_users_own_meter_comes_first_and_one_that_cannot_start_is_named(tmp_path: Path):
    boards.orin_nano(tmp_path)
    meters, reasons = find_meters(tmp_path, ["/no/such/meter"], tools=False)
    assert [meter.source for meter in meters] == ["INA3221"]
    assert reasons[0].startswith("the meter /no/such/meter cannot be started")
    meters, _ = find_meters(tmp_path, ["/bin/cat"], tools=False)
    assert meters[0].source == "meter /bin/cat"
    meters[0].stop()  # type: ignore[attr-defined]  # it is a Command
