"""An artifact as a job names it: checked by digest, opened in its runtime; and the libraries around it."""

from __future__ import annotations

import hashlib
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Mapping

from edgekit.agent.errors import AgentError

_LIBRARIES = ("numpy", "onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime", "tensorrt", "torch")


def checked_path(case: Mapping[str, Any], folder: Path) -> Path:
    """Where the artifact of `case` lies, once its digest is the one that the job names.

    Raises:
        AgentError: the file is absent or has another digest.
    """
    path = folder / str(case["artifact"]["path"])
    expected = str(case["artifact"]["sha256"])
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            for chunk in iter(lambda: stream.read(1 << 20), b""):
                digest.update(chunk)
    except OSError as err:
        raise AgentError(f"the artifact cannot be read: {err}", path.name, "send the artifact again") from err
    if digest.hexdigest() != expected:
        raise AgentError(
            f"sha256 is {digest.hexdigest()}, expected {expected}",
            path.name,
            "the file was altered or is another one; build or copy it again",
        )
    return path


def library_versions() -> dict[str, str]:
    """Python's version and those of the installed libraries that may run an artifact."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
