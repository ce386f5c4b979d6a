"""Advice on clocks, power modes and heat."""

import pytest

from edgekit.devices.advice_power import advise_power, fastest_mode
from tests.edgekit.devices.boards import facts, orin


def advice(found):
    return {check.name: check for check in advise_power(found)}


def test_a_pinned_jetson_has_no_complaint():
    checks = advice(orin())
    assert {check.state for check in checks.values()} == {"ok"}
    assert checks["jetpack"].found == "JetPack 6.2+b77, L4T 36.4.3"
    assert checks["power mode"].found == "MAXN_SUPER (mode 2)"


def test_a_slower_mode_is_a_choice_and_the_fastest_is_named():
    check = advice(orin(jetson={"mode": "0"}))["power mode"]
    assert (check.state, check.found) == ("ok", "15W (mode 0); the fastest is MAXN_SUPER")
    assert "sudo nvpmodel -m 2" in check.fix
    assert advice(orin(jetson={"mode": None}))["power mode"].state == "absent"


@pytest.mark.parametrize(
    ("modes", "fastest"),
    [
        ({"0": "MAXN", "1": "5W"}, "0"),
        ({"0": "15W", "1": "7W"}, "0"),
        # Xavier NX: mode 0 is not the fastest
        ({"0": "MODE_15W_2CORE", "1": "MODE_15W_4CORE", "8": "MODE_20W_6CORE", "3": "MODE_10W_2CORE"}, "8"),
        ({"0": "MODE_15W_2CORE", "2": "MODE_15W_6CORE"}, "2"),
        ({"0": "quiet"}, None),
        ({}, None),
    ],
)
def test_the_fastest_mode_is_told_by_its_name(modes, fastest):
    assert fastest_mode(modes) == fastest


def test_clocks_that_follow_the_load_are_pinned_as_the_board_does_it():
    pi = advice(facts())["clocks"]
    assert (pi.state, pi.found) == (
        "problem",
        "governor ondemand, up to 2400 MHz, processors 0-3: clocks follow the load",
    )
    assert pi.fix.startswith("echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    loose = {"path": "", "governor": "nvhost_podgov", "min_hz": 306000000, "max_hz": 1020000000}
    jetson = advice(orin(power={"gpu": loose}))["clocks"]
    assert (jetson.state, jetson.fix) == ("problem", "sudo jetson_clocks, until the next boot")
    processor = {**facts().power.processors[0].model_dump(), "governors": ("ondemand",)}
    assert "interleaved" in advice(facts(power={"processors": [processor]}))["clocks"].fix
    assert advice(facts(power={"processors": []}))["clocks"].state == "absent"
    fast = {**processor, "governor": "performance"}
    assert advice(facts(power={"processors": [fast]}))["clocks"].state == "ok"


@pytest.mark.parametrize(
    ("flags", "temp_c", "state", "found", "fix"),
    [
        (0x0, 48.5, "ok", "48 °C", ""),
        (0x50005, 60.0, "problem", "60 °C, now: under-voltage, throttled", "use the supply"),
        (0x10000, 50.0, "problem", "50 °C, since boot: under-voltage", "use the supply"),
        (0x80008, 84.2, "problem", "84 °C, now: soft temperature limit", "cool down"),
        (0x40000, 50.0, "problem", "50 °C, since boot: throttled", "sudo reboot"),
        (None, 85.0, "problem", "85 °C", "cool down"),
        (None, 40.0, "ok", "40 °C", ""),
        (None, None, "absent", "no sensor", ""),
    ],
)
def test_heat_and_supply_are_told_apart(flags, temp_c, state, found, fix):
    check = advice(facts(power={"throttle_flags": flags, "temp_c": temp_c}))["temperature"]
    assert (check.state, check.found) == (state, found)
    assert fix in check.fix
    assert bool(check.fix) is (state == "problem")


def test_jetpack_4_and_unknown_releases_are_named():
    assert advice(orin(jetson={"l4t": "32.7.4", "packages": {}}))["jetpack"].found == "JetPack 4, L4T 32.7.4"
    assert advice(orin(jetson={"l4t": "32.7.4"}))["jetpack"].state == "problem"
    assert advice(orin(jetson={"l4t": None}))["jetpack"].found == "L4T of an unknown release"
