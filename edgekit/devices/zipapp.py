"""The agent as one file that any Python >= 3.8 runs: the same sources give the same bytes everywhere."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import edgekit
import edgekit.agent

_MAIN = """import sys

from edgekit.agent.main import main

sys.exit(main(sys.argv[1:]))
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


def agent_version() -> str:
    """edgekit's version and a digest of the agent's sources: changed measuring code is another version."""
    digest = hashlib.sha256()
    for name, content in sorted(_sources().items()):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return f"{edgekit.__version__}+{digest.hexdigest()[:12]}"


def build_zipapp() -> bytes:
    """edgekit/__init__.py (the version alone), edgekit/agent/** and __main__.py in one zip."""
    package = f'"""The part of edgekit that runs on a device."""\n\n__version__ = "{agent_version()}"\n'
    members = {
        "__main__.py": _MAIN.encode(),
        "edgekit/__init__.py": package.encode(),
        **_sources(),
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # stored: deflate differs between zlib versions
        for name, content in sorted(members.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()


def _sources() -> dict[str, bytes]:
    (folder,) = (Path(path) for path in edgekit.agent.__path__)
    return {f"edgekit/agent/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.py")}
