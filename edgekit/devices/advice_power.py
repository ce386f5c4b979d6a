"""Advice on a board's clocks, power modes and temperature, which decide what a latency from it means."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgekit.devices.checks import Check
from edgekit.schema.facts import Facts, JetsonFacts

# Raspberry Pi documentation, vcgencmd get_throttled: bits 0 to 3 say now, 16 to 19 since boot
_FLAGS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
_HOT_C = 80.0  # Raspberry Pi documentation, frequency management: from 80 degrees on the clock is lowered
_UNTIL_BOOT = "until the next boot"
# NVIDIA, Jetson Linux archive: release of L4T -> JetPack
_JETPACKS = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7"}


def advise_power(facts: Facts) -> list[Check]:
    """JetPack and power mode of a Jetson, clocks, temperature and what the firmware held back."""
    return [
        *([check_jetpack(facts.jetson), check_mode(facts.jetson)] if facts.jetson else []),
        check_clocks(facts),
        check_temperature(facts),
    ]


def check_jetpack(jetson: JetsonFacts) -> Check:
    """Which JetPack this is; 4 gets no more releases."""
    major = _JETPACKS.get((jetson.l4t or "").partition(".")[0])
    if jetson.l4t is None or major is None:
        found = f"L4T {jetson.l4t}" if jetson.l4t else "L4T of an unknown release"
        return Check("jetpack", "problem", found, "cat /etc/nv_tegra_release; report a release that is not known")
    package = jetson.packages.get("nvidia-jetpack")
    found = f"JetPack {package or major}, L4T {jetson.l4t}"
    if major == "4":
        fix = "use trtexec or the CPU runtimes: JetPack 4 is the last for this board, with TensorRT 8.2 and Python 3.6"
        return Check("jetpack", "problem", found, fix)
    return Check("jetpack", "ok", found)


def check_mode(jetson: JetsonFacts) -> Check:
    """The power mode. A slower one is a choice, so it is no problem; what the fastest is, is said."""
    if jetson.mode is None:
        fix = "sudo nvpmodel -q shows it; profiles will not carry it"
        return Check("power mode", "absent", "nvpmodel does not tell it", fix)
    name = jetson.modes.get(jetson.mode, "")
    fastest = fastest_mode(jetson.modes)
    found = f"{name or 'a mode without a name'} (mode {jetson.mode})"
    if fastest is None or fastest == jetson.mode:
        return Check("power mode", "ok", found)
    note = f"{found}; the fastest is {jetson.modes[fastest]}"
    return Check("power mode", "ok", note, f"for the fastest: sudo nvpmodel -m {fastest}; it may ask for a reboot")


def fastest_mode(modes: Mapping[str, str]) -> str | None:
    """Number of the mode without limits (MAXN, MAXN_SUPER), else of the one of most watts and processors.

    The number alone says nothing: mode 0 is MAXN on an AGX Orin, and 15 W with two processors on a Xavier NX.
    """
    for number, name in modes.items():
        if name.upper().startswith("MAXN"):
            return number
    rated = []
    for number, name in modes.items():
        watts = re.search(r"(\d+)W", name.upper())
        if watts:
            cores = re.search(r"(\d+)CORE", name.upper())
            rated.append((int(watts[1]), int(cores[1]) if cores else 0, number))
    return max(rated)[2] if rated else None


def check_clocks(facts: Facts) -> Check:
    """Clocks that follow the load make short runs slower and noisy."""
    power = facts.power
    if not power.processors:
        return Check("clocks", "absent", "this system does not show its clocks")
    governors = sorted({processor.governor for processor in power.processors})
    fixed = all(p.min_khz is not None and p.min_khz == p.max_khz for p in power.processors)
    top = max((p.max_khz or 0) for p in power.processors)
    found = f"governor {', '.join(governors)}, up to {top / 1000:.0f} MHz, processors {power.online or power.count}"
    gpu_fixed = power.gpu is None or (power.gpu.min_hz is not None and power.gpu.min_hz == power.gpu.max_hz)
    if power.gpu is not None and power.gpu.max_hz:
        found = f"{found}; GPU up to {power.gpu.max_hz / 1e6:.0f} MHz, {'fixed' if gpu_fixed else 'follows the load'}"
    if (fixed or governors == ["performance"]) and gpu_fixed:
        return Check("clocks", "ok", found)
    if facts.jetson is not None:
        # Jetson Linux Developer Guide, jetson_clocks: sets clocks to the maximum of the present power mode
        return Check("clocks", "problem", f"{found}: clocks follow the load", f"sudo jetson_clocks, {_UNTIL_BOOT}")
    if not any("performance" in processor.governors for processor in power.processors):
        fix = "this kernel cannot fix them: compare only what is measured interleaved"
        return Check("clocks", "problem", f"{found}: clocks follow the load", fix)
    command = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
    return Check("clocks", "problem", f"{found}: clocks follow the load", f"{command}, {_UNTIL_BOOT}")


def check_temperature(facts: Facts) -> Check:
    """How hot it is, and whether the firmware lowers clocks or did since boot."""
    flags, temp_c = facts.power.throttle_flags, facts.power.temp_c
    found = f"{temp_c:.0f} °C" if temp_c is not None else "no sensor"
    if flags is None:
        if temp_c is not None and temp_c >= _HOT_C:
            return Check("temperature", "problem", found, "let it cool down, or give it a fan, before it is measured")
        return Check("temperature", "absent" if temp_c is None else "ok", found)
    now = [name for bit, name in _FLAGS.items() if flags >> bit & 1]
    before = [name for bit, name in _FLAGS.items() if flags >> (bit + 16) & 1 and name not in now]
    found += f", now: {', '.join(now)}" if now else ""
    found += f", since boot: {', '.join(before)}" if before else ""
    if "under-voltage" in now + before:
        # Raspberry Pi documentation, power supply; below 4.63 V the firmware sets the flag
        fix = "use the supply that is sold for it (5 V, 5 A for a Pi 5; 5.1 V, 3 A for a Pi 4) and a short cable"
        return Check("temperature", "problem", found, fix)
    if now or (temp_c is not None and temp_c >= _HOT_C):
        return Check("temperature", "problem", found, "let it cool down, or give it a fan, before it is measured")
    if before:
        return Check("temperature", "problem", found, "give it a fan; sudo reboot clears what has been")
    return Check("temperature", "ok", found)
