"""Facts of boards as they come, for the tests of advice."""

from typing import Any

from edgekit.schema.facts import Facts

PYTHON = "/usr/bin/python3"


def runtime(version: str = "", **changes: Any) -> dict[str, Any]:
    state = "ok" if version else "absent"
    fields = {
        "state": state,
        "version": version,
        "file": "",
        "providers": (),
        "python": PYTHON,
        "error": "",
    }
    return {**fields, **changes}


def facts(**changes: Any) -> Facts:
    """A Raspberry Pi 5 as it is installed: bookworm, nothing but numpy. Changes are merged one level deep."""
    fields: dict[str, Any] = {
        "agent_version": "0.1.0",
        "python": {
            "version": "3.11.2",
            "executable": "/usr/bin/python3",
            "bits": 64,
            "virtual": False,
            "externally_managed": True,
            "pip": True,
            "venv": True,
        },
        "packages": {"numpy": "1.24.2"},
        "imports": {
            "numpy": runtime("1.24.2"),
            "onnxruntime": runtime(),
            "litert": runtime(),
            "tflite-runtime": runtime(),
            "tensorrt": runtime(),
        },
        "system": {
            "name": "Debian GNU/Linux 12 (bookworm)",
            "id": "debian",
            "version": "12",
            "kernel": "6.6.31+rpt-rpi-2712",
            "architecture": "aarch64",
            "libc": "glibc 2.36",
            "board": "Raspberry Pi 5 Model B Rev 1.0",
        },
        "jetson": None,
        "power": {
            "processors": [
                {
                    "governor": "ondemand",
                    "governors": ("ondemand", "performance"),
                    "min_khz": 1500000,
                    "max_khz": 2400000,
                    "limit_khz": 2400000,
                }
            ],
            "gpu": None,
            "online": "0-3",
            "count": 4,
            "temp_c": 48.5,
            "throttle_flags": 0,
        },
        "memory": {"total_bytes": 8 * 10**9, "available_bytes": 7 * 10**9, "swaps": ()},
        "disk": {"folder": "/tmp/edgekit-1", "total_bytes": 64 * 10**9, "free_bytes": 40 * 10**9},
        "access": {
            "user": "pi",
            "home": "/home/pi",
            "root": False,
            "groups": ("pi", "video"),
            "files": [
                {"need": "firmware", "path": "/dev/vcio", "group": "video", "usable": True, "group_may": True},
            ],
            "known": ("video", "render", "gpio", "i2c"),
        },
        "identity": {"machine_id": "aa" * 8, "serial": "bb" * 8, "profile": "cc" * 8},
        "leftovers": (),
        "load": {"average": 0.1, "busiest": ()},
    }
    for key, value in changes.items():
        merge = isinstance(value, dict) and isinstance(fields[key], dict)
        fields[key] = {**fields[key], **value} if merge else value
    return Facts.model_validate(fields)


def orin(**changes: Any) -> Facts:
    """A Jetson Orin Nano with JetPack 6.2, everything installed and pinned."""
    fields: dict[str, Any] = {
        "python": {"version": "3.10.12", "externally_managed": False},
        "imports": {
            "tensorrt": runtime("10.3.0"),
            "onnxruntime": runtime("1.23.2", providers=("CPUExecutionProvider",)),
        },
        "system": {
            "name": "Ubuntu 22.04.5 LTS",
            "id": "ubuntu",
            "version": "22.04",
            "kernel": "5.15.148-tegra",
            "libc": "glibc 2.35",
            "board": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        },
        "jetson": {
            "l4t": "36.4.3",
            "packages": {
                "nvidia-jetpack": "6.2+b77",
                "libnvinfer10": "10.3.0.30-1+cuda12.5",
                "python3-libnvinfer": "10.3.0",
            },
            "mode": "2",
            "modes": {"0": "15W", "1": "25W", "2": "MAXN_SUPER"},
            "trtexec": "/usr/src/tensorrt/bin/trtexec",
            "cuda": "12.6.68",
        },
        "power": {
            "processors": [
                {
                    "governor": "schedutil",
                    "governors": ("performance", "schedutil"),
                    "min_khz": 1728000,
                    "max_khz": 1728000,
                    "limit_khz": 1728000,
                }
            ],
            "gpu": {
                "path": "/sys/class/devfreq/17000000.gpu",
                "governor": "x",
                "min_hz": 1020000000,
                "max_hz": 1020000000,
            },
            "throttle_flags": None,
        },
    }
    base = facts(**fields)
    return facts(**{**fields, **{key: _over(base, key, value) for key, value in changes.items()}})


def _over(base: Facts, key: str, value: Any) -> Any:
    own = base.model_dump()[key]
    return {**own, **value} if isinstance(own, dict) and isinstance(value, dict) else value
