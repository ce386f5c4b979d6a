"""What the root of a test board holds: Debian's packages, Python wheels, users. No code that makes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

_BASE = (
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "gawk",
    "grep",
    "hostname",
    "libc-bin",
    "libfaketime",
    "libgomp1",
    "libstdc++6",
    "openssh-server",
    "procps",
    "python3",
    "sed",
    "tar",
    "util-linux",
)


@dataclass(frozen=True)
class Wheels:
    """Python packages of one folder of a root, each pinned; what they need is named too, so nothing is resolved."""

    into: str
    requirements: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """One root.

    Attributes:
        name: Debian's code name of the release, also the board's.
        python: version of its python3, as "3.11".
        glibc: minor version of its C library, 2.x: newer wheels do not load.
        packages: of Debian, without those that they need, which apt adds.
        wheels: of Python.
        virtual: folders with a Python of their own (`bin/python3`), beside the system's.
        imports: what each Python of the root is made to import once. That compiles the modules, so that tests need not
            wait for it, and shows that the root works.
    """

    name: str
    python: str
    glibc: int
    packages: tuple[str, ...]
    wheels: tuple[Wheels, ...]
    virtual: tuple[str, ...]
    imports: tuple[tuple[str, str], ...]

    def digest(self) -> str:
        """Changes with the recipe and with the code that follows it, and names the cached root."""
        here = Path(__file__).parent
        code = [(here / name).read_bytes() for name in ("packages.py", "root.py")]
        told = json.dumps(asdict(self), sort_keys=True).encode()
        return hashlib.sha256(b"\0".join([told, *code])).hexdigest()[:16]

    def platforms(self) -> tuple[str, ...]:
        """Tags of wheels that this root can load."""
        return (*(f"manylinux_2_{minor}_aarch64" for minor in range(17, self.glibc + 1)), "manylinux2014_aarch64")


BOOKWORM = Recipe(
    name="bookworm",
    python="3.11",
    glibc=36,
    packages=_BASE,
    wheels=(
        Wheels(
            "usr/local/lib/python3.11/dist-packages",
            (
                "onnxruntime==1.31.1",
                "ai-edge-litert==2.3.0",
                "numpy==2.4.6",
                "backports.strenum==1.2.8",
                "flatbuffers==25.12.19",
                "ml_dtypes==0.6.0",
                "packaging==26.3",
                "protobuf==7.36.2",
                "tqdm==4.70.1",
                "typing_extensions==4.12.2",
            ),
        ),
        # beside them and apart: it was built for numpy 1
        Wheels("opt/tflite/lib/python3.11/site-packages", ("tflite-runtime==2.14.0", "numpy==1.26.4")),
    ),
    virtual=("opt/tflite",),
    imports=(
        ("/usr/bin/python3", "onnxruntime, ai_edge_litert.interpreter"),
        ("/opt/tflite/bin/python3", "tflite_runtime.interpreter"),
    ),
)

# An old board: the Python and the ONNX Runtime of 2023, which know nothing of the operator sets since.
BULLSEYE = Recipe(
    name="bullseye",
    python="3.9",
    glibc=31,
    packages=_BASE,
    wheels=(
        Wheels(
            "usr/local/lib/python3.9/dist-packages",
            (
                "onnxruntime==1.16.3",
                "tflite-runtime==2.13.0",
                "numpy==1.26.4",
                "coloredlogs==15.0.1",
                "flatbuffers==25.12.19",
                "humanfriendly==10.0",
                "packaging==24.2",
                "protobuf==4.25.8",
            ),
        ),
    ),
    virtual=(),
    imports=(("/usr/bin/python3", "onnxruntime, tflite_runtime.interpreter"),),
)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (BOOKWORM, BULLSEYE)}
