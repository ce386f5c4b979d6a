"""Advice on a board's memory, disk, rights, clock, identity and other work."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.devices.checks import Check
from edgekit.schema.facts import Facts
from edgekit.schema.target import Target

MIN_DISK_BYTES = 500 * 10**6  # the agent, artifacts, an engine and its timing cache
MIN_MEMORY_BYTES = 300 * 10**6  # a runtime alone takes 60 to 150 MB, an artifact some more
ENGINE_MEMORY_BYTES = 8 * 10**9  # with less in all, building an engine may be killed without swap
MAX_CLOCK_ERROR_S = 60.0
LEFTOVER_AGE_S = 6 * 3600.0  # no job lasts so long
BUSY_PROCESSORS = 0.10  # of one processor
_NO_DESKTOP = "sudo systemctl isolate multi-user.target ends the desktop until the next boot"
_DESKTOPS = {"Xorg", "gnome-shell", "labwc", "wayfire", "Xwayland", "lxpanel", "pcmanfm", "compiz"}


def advise_system(
    facts: Facts, target: Target, *, clock_error_s: float, others: Mapping[str, str], on_host: bool
) -> list[Check]:
    """Memory, swap, disk, rights, clock, identity, leftovers, load.

    Args:
        facts: of the board.
        target: what it is a board of.
        clock_error_s: the board's clock less this machine's.
        others: identity that profiles carry -> name of another device that they are of.
        on_host: the board is this machine, so their clocks cannot differ.
    """
    return [
        check_memory(facts),
        check_swap(facts, target),
        check_disk(facts),
        *check_access(facts),
        *([] if on_host else [check_clock(clock_error_s)]),
        check_identity(facts, others),
        check_leftovers(facts),
        check_load(facts),
    ]


def check_memory(facts: Facts) -> Check:
    """Memory that is free for a runtime and an artifact."""
    available, total = facts.memory.available_bytes, facts.memory.total_bytes
    if available is None or total is None:
        return Check("memory", "absent", "not told; a lack of it shows as SIGKILL")
    found = f"{available / 1e9:.1f} of {total / 1e9:.1f} GB available"
    if available >= MIN_MEMORY_BYTES:
        return Check("memory", "ok", found)
    return Check("memory", "problem", found, _NO_DESKTOP)


def check_swap(facts: Facts, target: Target) -> Check:
    """Engines need room to be built; but what is swapped out while it is timed is timed with the disk."""
    swaps, total = facts.memory.swaps, facts.memory.total_bytes or 0
    listed = [f"{swap.path} {swap.bytes / 1e9:.1f} GB, {swap.used_bytes / 1e9:.1f} used" for swap in swaps]
    found = ", ".join(listed) or "none"
    room = total + sum(swap.bytes for swap in swaps if "zram" not in swap.path)  # zram takes from the same memory
    if target.formats[0].format == "tensorrt" and room < ENGINE_MEMORY_BYTES:
        # dusty-nv/jetson-containers, setup: swap on a disk instead of zram for boards of little memory
        made = "sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile"
        fix = f"{made} && sudo mkswap /swapfile && sudo swapon /swapfile, until the next boot"
        return Check("swap", "problem", f"{found}: building an engine may be killed for memory", fix)
    used = [swap.path for swap in swaps if swap.used_bytes > 0.25 * swap.bytes and swap.used_bytes > 10**8]
    if used:
        fix = "end what fills the memory, then: sudo swapoff -a && sudo swapon -a"
        return Check("swap", "problem", f"{found}: memory was short, and latencies may include the swap", fix)
    return Check("swap", "ok", found)


def check_disk(facts: Facts) -> Check:
    """Room where jobs run."""
    found = f"{facts.disk.free_bytes / 1e9:.1f} of {facts.disk.total_bytes / 1e9:.1f} GB free where jobs run"
    if facts.disk.free_bytes >= MIN_DISK_BYTES:
        return Check("disk", "ok", found)
    fix = "sudo apt clean && sudo journalctl --vacuum-size=50M; df -h shows what is full"
    return Check("disk", "problem", found, fix)


def check_access(facts: Facts) -> list[Check]:
    """Device files that this user may not use, though a group may: the GPU, the firmware's flags, meters on a bus."""
    purposes = {"gpu": "GPU", "firmware": "throttle flags (vcgencmd)", "i2c": "meters on i2c", "gpio": "gpio"}
    checks = []
    for need, name in purposes.items():
        files = [file for file in facts.access.files if file.need == need]
        refused = [file for file in files if not file.usable]
        if not files:
            continue
        if not refused:
            checks.append(Check(f"access to {name}", "ok", f"{len(files)} device files"))
            continue
        groups = sorted({file.group for file in refused if file.group_may} - {"root"} - set(facts.access.groups))
        found = f"{facts.access.user} may not use {', '.join(file.path for file in refused[:3])}"
        if groups:
            fix = f"sudo usermod -aG {','.join(groups)} {facts.access.user}, then log in again"
        else:
            fix = f"ls -l {refused[0].path} shows who may; give it a group by a rule in /etc/udev/rules.d"
        # without the first two edgekit measures worse or not at all; the others matter to those who wired something
        checks.append(Check(f"access to {name}", "problem" if need in {"gpu", "firmware"} else "absent", found, fix))
    return checks


def check_clock(error_s: float) -> Check:
    """A board without a battery starts with a wrong date, and then refuses certificates when it installs anything."""
    if abs(error_s) <= MAX_CLOCK_ERROR_S:
        return Check("date", "ok", f"{error_s:+.1f} s of this machine's")
    days = f" ({error_s / 86400:+.0f} days)" if abs(error_s) > 2 * 86400 else ""
    fix = "sudo timedatectl set-ntp true; without a network: sudo date -s with this machine's `date -Iseconds`"
    found = f"{error_s:+.0f} s{days} of this machine's: certificates fail when it installs"
    return Check("date", "problem", found, fix)


def check_identity(facts: Facts, others: Mapping[str, str]) -> Check:
    """Profiles tell boards apart by the machine id, which a copied SD card copies too."""
    # man systemd-machine-id-setup: the id of D-Bus would be copied, so it is removed as well
    fix = "sudo rm -f /etc/machine-id /var/lib/dbus/machine-id && sudo systemd-machine-id-setup && sudo reboot"
    machine_id = facts.identity.machine_id
    if machine_id is None:
        return Check("identity", "problem", "no machine id: its profiles cannot be told from another board's", fix)
    other = others.get(facts.identity.profile or "")
    if other is not None:
        return Check("identity", "problem", f"{other} has the same machine id: was its card copied?", fix)
    serial = f"serial number {facts.identity.serial[:8]}" if facts.identity.serial else "no serial number"
    return Check("identity", "ok", f"machine id {machine_id[:8]}, {serial}, as digests")


def check_leftovers(facts: Facts) -> Check:
    """Folders of jobs that ended without cleaning up."""
    old = [left for left in facts.leftovers if left.age_s > LEFTOVER_AGE_S]
    if not old:
        return Check("leftovers", "ok", f"none, {len(facts.leftovers)} younger ones" if facts.leftovers else "none")
    oldest = max(left.age_s for left in old) / 3600
    found = f"{len(old)} folders, up to {oldest:.0f} hours old"
    return Check("leftovers", "problem", found, f"rm -rf {' '.join(left.path for left in old)}")


def check_load(facts: Facts) -> Check:
    """Other work takes the processor from what is measured."""
    busy = [entry for entry in facts.load.busiest if entry.processors >= BUSY_PROCESSORS]
    average = "not told" if facts.load.average is None else f"{facts.load.average:.2f}"
    if not busy:
        return Check("other load", "ok", f"load average {average}, nothing over {BUSY_PROCESSORS:.0%} of a processor")
    found = f"load average {average}; " + ", ".join(f"{entry.name} {entry.processors:.0%}" for entry in busy)
    if any(entry.name in _DESKTOPS for entry in busy):
        return Check("other load", "problem", found, _NO_DESKTOP)
    if any(entry.name.startswith(("apt", "dpkg", "unattended-upgr")) for entry in busy):
        return Check("other load", "problem", found, "wait until it has installed: pgrep -a apt")
    return Check("other load", "problem", found, "end it, or wait for it: ps -eo pid,pcpu,args --sort=-pcpu | head")
