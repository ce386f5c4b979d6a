"""Where what outlives a build lies: a folder of files, and a database. Nothing here opens either."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_FILE = "profiles.sqlite"


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The store's folder: EDGEKIT_HOME, else `.edgekit` in the working directory."""
    return Path(environ.get("EDGEKIT_HOME") or ".edgekit")


def profile_database(home: Path | None = None, environ: Mapping[str, str] = os.environ) -> str | Path:
    """What `ProfileStore` opens: EDGEKIT_DB, an SQLAlchemy URL or a path, else `profiles.sqlite` in the store's folder.

    Args:
        home: the store's folder; None: `default_home`.
    """
    return environ.get("EDGEKIT_DB") or (default_home(environ) if home is None else home) / _FILE
