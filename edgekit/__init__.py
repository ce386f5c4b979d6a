"""edgekit: from a trained network to a measured, gated, verifiable bundle for an edge board.

    import edgekit as ek
    result = ek.build("quickstart", "jetson")

What is imported here is imported when it is first used, so `import edgekit` stays light.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.pipeline.build import BuildResult
    from edgekit.pipeline.plan import Plan
    from edgekit.pipeline.progress import Reporter

__version__ = "0.1.0"

# name -> module that holds it
_LAZY = {
    "BuildRequest": "edgekit.pipeline.request",
    "BuildResult": "edgekit.pipeline.build",
    "EdgekitError": "edgekit.errors",
    "Model": "edgekit.nets.model",
    "load_model": "edgekit.nets.saved",
    "load_recipe": "edgekit.schema.load",
    "load_target": "edgekit.schema.load",
    "read_manifest": "edgekit.release.bundle",
    "verify_bundle": "edgekit.release.verify",
}

__all__ = ["__version__", "build", "plan", *sorted(_LAZY)]


def build(recipe: str | Path, target: str | Path, reporter: Reporter | None = None, **options: Any) -> BuildResult:
    """Turn a recipe into a bundle, as `edgekit build` does.

    Args:
        recipe: a name, a file, or package.module:function.
        target: a name, an alias or a file.
        reporter: told what is being done; None: nobody is.
        options: fields of `BuildRequest`.

    Raises:
        EdgekitError: see `edgekit.pipeline.build.build`.
    """
    from edgekit.pipeline.build import build as run_build
    from edgekit.pipeline.request import BuildRequest

    return run_build(BuildRequest(recipe, target, **options), reporter)


def plan(recipe: str | Path, target: str | Path, *, explain: bool = False, **options: Any) -> Plan:
    """What `build` would do with the same arguments; imports no torch and runs nothing.

    Raises:
        EdgekitError: what was asked cannot be done.
    """
    from edgekit.pipeline.request import BuildRequest, plan_build
    from edgekit.store.steps import StepStore

    request = BuildRequest(recipe, target, **options)
    return plan_build(request, StepStore(request.home / "steps"), explain=explain)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
