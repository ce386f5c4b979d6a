"""edgekit: from a trained network to a measured, gated, verifiable bundle for an edge board.

    import edgekit as ek
    result = ek.build("quickstart", "jetson")
    files = ek.quantize(network, samples, "raspberry-pi-5").export("shipped")

What is imported here is imported when it is first used, so `import edgekit` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.api import build as build
    from edgekit.api import compare as compare
    from edgekit.api import plan as plan
    from edgekit.api import profile as profile
    from edgekit.api import quantize as quantize
    from edgekit.api import verify as verify
    from edgekit.errors import EdgekitError as EdgekitError
    from edgekit.nets.model import Model as Model
    from edgekit.nets.saved import load_model as load_model
    from edgekit.pipeline.build import BuildResult as BuildResult
    from edgekit.pipeline.in_memory import Quantised as Quantised
    from edgekit.pipeline.profile import ProfileReport as ProfileReport
    from edgekit.release.bundle import read_manifest as read_manifest
    from edgekit.schema.load import load_recipe as load_recipe
    from edgekit.schema.load import load_target as load_target
    from edgekit.schema.profile import MeasureSettings as MeasureSettings
    from edgekit.store.compared import Compared as Compared

__version__ = "0.1.0"

# name -> module that holds it; the same as above, for type checkers read no table
_LAZY = {
    "BuildResult": "edgekit.pipeline.build",
    "Compared": "edgekit.store.compared",
    "EdgekitError": "edgekit.errors",
    "MeasureSettings": "edgekit.schema.profile",
    "Model": "edgekit.nets.model",
    "ProfileReport": "edgekit.pipeline.profile",
    "Quantised": "edgekit.pipeline.in_memory",
    "build": "edgekit.api",
    "compare": "edgekit.api",
    "load_model": "edgekit.nets.saved",
    "load_recipe": "edgekit.schema.load",
    "load_target": "edgekit.schema.load",
    "plan": "edgekit.api",
    "profile": "edgekit.api",
    "quantize": "edgekit.api",
    "read_manifest": "edgekit.release.bundle",
    "verify": "edgekit.api",
}

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
