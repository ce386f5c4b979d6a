"""Advice on memory, disk, rights, clock, identity and other work."""

import pytest

from edgekit.devices.advice_system import advise_system
from edgekit.schema.load import load_target
from tests.edgekit.devices.boards import facts, orin


def advice(found, target="raspberry-pi-5", *, clock_error_s=0.0, others=None, on_host=False):
    checks = advise_system(
        found, load_target(target).target, clock_error_s=clock_error_s, others=others or {}, on_host=on_host
    )
    return {check.name: check for check in checks}


def test_a_healthy_board_has_no_complaint():
    checks = advice(facts())
    assert {check.state for check in checks.values()} == {"ok"}
    assert set(checks) == {
        "memory",
        "swap",
        "disk",
        "access to throttle flags (vcgencmd)",
        "date",
        "identity",
        "leftovers",
        "other load",
    }
    assert "date" not in advice(facts(), on_host=True)


def test_little_memory_and_a_full_disk_are_problems():
    assert advice(facts(memory={"available_bytes": 200 * 10**6}))["memory"].state == "problem"
    assert advice(facts(memory={"available_bytes": None}))["memory"].state == "absent"
    full = advice(facts(disk={"free_bytes": 400 * 10**6}))["disk"]
    assert (full.state, full.found) == ("problem", "0.4 of 64.0 GB free where jobs run")


def test_swap_is_room_for_engines_unless_it_is_zram():
    small = {"total_bytes": 4 * 10**9, "swaps": ({"path": "/dev/zram0", "bytes": 2 * 10**9, "used_bytes": 0},)}
    check = advice(orin(memory=small), "jetson-orin-nano")["swap"]
    assert check.state == "problem"
    assert check.fix.startswith("sudo fallocate -l 4G /swapfile && sudo chmod 600 /swapfile && sudo mkswap")
    disk = {"total_bytes": 4 * 10**9, "swaps": ({"path": "/swapfile", "bytes": 4 * 10**9, "used_bytes": 0},)}
    assert advice(orin(memory=disk), "jetson-orin-nano")["swap"].state == "ok"
    assert advice(facts(memory={"total_bytes": 10**9}))["swap"].state == "ok"  # no engine is built on a Raspberry Pi
    used = {"swaps": ({"path": "/var/swap", "bytes": 512 * 10**6, "used_bytes": 300 * 10**6},)}
    assert advice(facts(memory=used))["swap"].fix.endswith("sudo swapoff -a && sudo swapon -a")


def file(need, path, **changes):
    return {"need": need, "path": path, "group": "render", "usable": False, "group_may": True, **changes}


def test_a_group_is_named_by_the_file_that_it_may_use():
    files = [
        file("gpu", "/dev/nvmap", group="video"),
        file("gpu", "/dev/dri/renderD128"),
        file("i2c", "/dev/i2c-1", group="i2c"),
    ]
    checks = advice(orin(access={"files": files, "groups": ("pi",)}), "jetson-orin-nano")
    assert checks["access to GPU"].state == "problem"
    assert checks["access to GPU"].fix == "sudo usermod -aG render,video pi, then log in again"
    assert checks["access to meters on i2c"].state == "absent"  # of use to those alone who wired one
    closed = [file("gpu", "/dev/nvmap", group="root", group_may=False)]
    assert "udev" in advice(orin(access={"files": closed}), "jetson-orin-nano")["access to GPU"].fix


@pytest.mark.parametrize(
    ("error_s", "state", "part"),
    [(2.0, "ok", "+2.0 s"), (-61.0, "problem", "-61 s"), (-40 * 86400.0, "problem", "(-40 days)")],
)
def test_a_wrong_date_is_a_problem(error_s, state, part):
    check = advice(facts(), clock_error_s=error_s)["date"]
    assert check.state == state
    assert part in check.found


def test_a_copied_card_shows_in_the_identity():
    check = advice(facts(), others={"cc" * 8: "pi5-b"})["identity"]
    assert (check.state, check.found) == ("problem", "pi5-b has the same machine id: was its card copied?")
    assert "/var/lib/dbus/machine-id" in check.fix
    assert advice(facts(), others={"dd" * 8: "pi5-b"})["identity"].state == "ok"
    none = {"machine_id": None, "serial": None, "profile": None}
    assert advice(facts(identity=none))["identity"].state == "problem"


def test_only_old_folders_are_leftovers():
    left = ({"path": "/tmp/edgekit-a", "age_s": 60.0}, {"path": "/tmp/edgekit-b", "age_s": 30 * 3600.0})
    check = advice(facts(leftovers=left))["leftovers"]
    assert (check.state, check.found) == ("problem", "1 folders, up to 30 hours old")
    assert check.fix == "rm -rf /tmp/edgekit-b"
    assert advice(facts(leftovers=left[:1]))["leftovers"].state == "ok"


@pytest.mark.parametrize(
    ("name", "fix"),
    [("labwc", "isolate multi-user.target"), ("apt-get", "wait until"), ("chromium", "ps -eo pid,pcpu,args")],
)
def test_other_work_is_named(name, fix):
    load = {"average": 1.25, "busiest": ({"name": name, "processors": 0.8}, {"name": "sshd", "processors": 0.01})}
    check = advice(facts(load=load))["other load"]
    assert (check.state, check.found) == ("problem", f"load average 1.25; {name} 80%")
    assert fix in check.fix
