"""What a board says of itself, from files as boards have them, and what differs between two."""

from pathlib import Path

from edgekit.agent.engine_passport import (
    driver_version,
    explained,
    here,
    jetpack_version,
    l4t_version,
    passport_differences,
)

FACTS = {"gpu": "Orin", "sm": "8.7", "integrated": True, "cuda_runtime": "12.6", "cuda_driver": "12.6"}
DPKG = """Package: nvidia-jetpack-dev
Status: install ok installed
Version: 1

Package: nvidia-jetpack
Status: install ok installed
Architecture: arm64
Version: 6.2+b77
Depends: nvidia-jetpack-runtime (= 6.2+b77)
Description: NVIDIA Jetpack Meta Package
 Version: of a continued line

Package: zlib1g
Status: install ok installed
Version: 1:1.2.11
"""


def board(root: Path) -> Path:
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, ARCH\n# more\n",
        "sys/module/nvidia/version": "540.4.0\n",
        "var/lib/dpkg/status": DPKG,
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(content)
    return root


def test_a_jetson_tells_linux_jetpack_and_driver(tmp_path: Path):
    found = here(FACTS, "10.3.0", board(tmp_path))
    assert found["l4t"] == "36.4.3"
    assert found["jetpack"] == "6.2+b77"
    assert found["driver"] == "540.4.0"
    assert (found["gpu"], found["sm"], found["tensorrt"], found["cuda_runtime"]) == ("Orin", "8.7", "10.3.0", "12.6")


def test_a_desktop_gpus_driver_stands_in_proc(tmp_path: Path):
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC: 12\n"
    )
    assert driver_version(tmp_path) == "535.104.05"


def test_what_is_not_there_is_none(tmp_path: Path):
    assert (l4t_version(tmp_path), jetpack_version(tmp_path), driver_version(tmp_path)) == (None, None, None)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("something else\n")
    assert l4t_version(tmp_path) is None


def test_a_removed_jetpack_does_not_count(tmp_path: Path):
    root = board(tmp_path)
    status = root / "var/lib/dpkg/status"
    removed = "Package: nvidia-jetpack\nStatus: install ok installed"
    assert removed in DPKG
    status.write_text(DPKG.replace(removed, removed.replace("install ok installed", "deinstall ok config-files")))
    assert jetpack_version(root) is None


def test_the_same_machine_has_no_differences(tmp_path: Path):
    now = here(FACTS, "10.3.0", board(tmp_path))
    assert passport_differences({**now, "onnx_sha256": "a", "precision": "int8"}, now) == []


def test_every_field_that_differs_is_explained(tmp_path: Path):
    now = here(FACTS, "10.3.0", board(tmp_path))
    then = {**now, "tensorrt": "8.6.2", "l4t": "36.2.0", "jetpack": None}
    differences = passport_differences(then, now)
    assert differences == [
        {"field": "TensorRT", "then": "8.6.2", "now": "10.3.0"},
        {"field": "Jetson Linux (L4T)", "then": "36.2.0", "now": "36.4.3"},
        {"field": "JetPack", "then": None, "now": "6.2+b77"},
    ]
    assert explained(differences) == (
        "TensorRT was 8.6.2, is 10.3.0; Jetson Linux (L4T) was 36.2.0, is 36.4.3; JetPack was not available, is 6.2+b77"
    )


def test_an_engine_of_unknown_origin_fits_nowhere(tmp_path: Path):
    now = here(FACTS, "10.3.0", board(tmp_path))
    assert {row["field"] for row in passport_differences({}, now)} >= {"GPU", "TensorRT", "compute capability (SM)"}
