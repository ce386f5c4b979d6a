"""Which release a board can have. The table is data; these are boards that people have."""

import pytest

from edgekit.devices.wheels import WHEELS, Wheel, install, newest
from tests.edgekit.devices.boards import facts

TABLE = {("lib", "aarch64"): (Wheel("3.0", 11, 13, 28), Wheel("2.0", 8, 13, 27), Wheel("1.0", 8, 9, 17))}


@pytest.mark.parametrize(
    ("python", "libc", "expected"),
    [
        ("3.12.1", "glibc 2.39", "3.0"),
        ("3.11.2", "glibc 2.27", "2.0"),
        ("3.10.12", "glibc 2.35", "2.0"),
        ("3.8.10", "glibc 2.26", "1.0"),
        ("3.7.3", "glibc 2.28", None),
        ("3.14.0", "glibc 2.41", None),
        ("3.12.1", None, None),
    ],
)
def test_python_and_c_library_decide(python, libc, expected):
    assert newest("lib", facts(python={"version": python}, system={"libc": libc}), TABLE) == expected


def test_another_architecture_or_word_size_has_none():
    assert newest("lib", facts(system={"architecture": "x86_64"}), TABLE) is None
    assert newest("lib", facts(python={"bits": 32}), TABLE) is None


@pytest.mark.parametrize(
    ("python", "libc", "expected"),
    [
        ("3.8.10", "glibc 2.31", ("1.19.2", None, "2.13.0")),  # JetPack 5
        ("3.10.12", "glibc 2.35", ("1.23.2", "2.3.0", "2.14.0")),  # JetPack 6
        ("3.9.2", "glibc 2.31", ("1.19.2", "2.1.0", "2.13.0")),  # Debian 11
        ("3.11.2", "glibc 2.36", ("1.31.1", "2.3.0", "2.14.0")),  # Debian 12
    ],
)
def test_the_systems_of_boards_have_what_pip_found(python, libc, expected):
    board = facts(python={"version": python}, system={"libc": libc})
    assert tuple(newest(name, board) for name in ("onnxruntime", "ai-edge-litert", "tflite-runtime")) == expected


def test_every_row_lists_newer_releases_first():
    for wheels in WHEELS.values():
        numbers = [tuple(map(int, wheel.version.split("."))) for wheel in wheels]
        assert numbers == sorted(numbers, reverse=True)


def test_the_command_suits_the_python():
    assert install(
        facts(python={"virtual": True, "externally_managed": False, "executable": "/v/bin/python"}), "x==1"
    ) == ("/v/bin/python -m pip install x==1")
    without = facts(python={"externally_managed": False, "pip": False})
    assert install(without, "x") == "sudo apt install -y python3-pip && /usr/bin/python3 -m pip install x"
