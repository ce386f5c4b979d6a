"""What has been measured, one line a profile: read from columns, so no record is parsed for it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from sqlalchemy import Select, or_, select
from sqlalchemy.engine import Row

from edgekit.errors import SchemaError
from edgekit.store.database import Database
from edgekit.store.tables import PROFILES, has_prefix

LEAST_PREFIX = 6  # digits of a digest that are taken for one
_DIGEST = re.compile(rf"[0-9a-fA-F]{{{LEAST_PREFIX},64}}")
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class ProfileLine:
    """A profile in one line. Times in ms, `measured_s` in seconds since 1970, `energy_mj` of one inference.

    Attributes:
        ships, precision, recipe, target, build, git_commit: as in `Origin`.
    """

    id: int
    measured_at: str
    measured_s: float
    artifact: str
    artifact_sha256: str
    precision: str | None
    ships: bool | None
    recipe: str | None
    target: str | None
    build: str | None
    git_commit: str | None
    device: str
    identity: str | None
    stand_in: bool
    stand_in_for: str | None
    runtime: str
    runtime_version: str
    agent_version: str
    threads: int
    batch: int
    samples: int
    mean_ms: float
    p50_ms: float
    p50_low_ms: float
    p50_high_ms: float
    p90_ms: float
    p99_ms: float | None
    valid: bool
    reasons: tuple[str, ...]
    peak_rss_bytes: int | None
    energy_mj: float | None


@dataclass(frozen=True)
class Wanted:
    """Which profiles. None: any.

    Attributes:
        artifact: file name, or the first digits of its sha256.
        build: content digest, whole.
        sha256s: of artifacts, whole; empty: any.
        since_s: measured then or later, in seconds since 1970.
        shipped_only: leave out versions that were only compared with; what is not known to be one stays.
        limit: the newest so many; None: all.
    """

    device: str | None = None
    artifact: str | None = None
    recipe: str | None = None
    target: str | None = None
    runtime: str | None = None
    build: str | None = None
    sha256s: tuple[str, ...] = ()
    since_s: float | None = None
    valid_only: bool = False
    shipped_only: bool = False
    limit: int | None = None


def read_history(database: Database, wanted: Wanted | None = None) -> tuple[ProfileLine, ...]:
    """The profiles that are wanted, newest first.

    Raises:
        StoreError: the database cannot be read.
    """
    return read_lines(database, history_query(wanted or Wanted()))


def history_query(wanted: Wanted) -> Select[Row]:  # type: ignore[type-arg]  # columns are taken by their names
    """The question that `read_history` asks."""
    query = LINES
    if wanted.sha256s:
        query = query.where(PROFILES.c.artifact_sha256.in_(wanted.sha256s))
    for name in ("device", "recipe", "target", "runtime", "build"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(PROFILES.c[name] == value)
    if wanted.artifact is not None:
        named = PROFILES.c.artifact == wanted.artifact
        digest = has_prefix(PROFILES.c.artifact_sha256, wanted.artifact)
        query = query.where(or_(named, digest) if is_digest(wanted.artifact) else named)
    if wanted.since_s is not None:
        query = query.where(PROFILES.c.measured_s >= wanted.since_s)
    if wanted.valid_only:
        query = query.where(PROFILES.c.valid)
    if wanted.shipped_only:
        query = query.where(PROFILES.c.ships.is_distinct_from(False))
    return query if wanted.limit is None else query.limit(wanted.limit)


def read_lines(database: Database, query: Select) -> tuple[ProfileLine, ...]:  # type: ignore[type-arg]
    """The lines that a question made from `LINES` gives.

    Raises:
        StoreError: the database cannot be read.
    """
    with database.reading() as connection:
        rows: Sequence[Row] = connection.execute(query).all()  # type: ignore[type-arg]
    return tuple(ProfileLine(**{**row._mapping, "reasons": tuple(json.loads(row.reasons))}) for row in rows)


def is_digest(text: str) -> bool:
    """Whether `text` can be the beginning of a digest: six hexadecimal digits or more."""
    return _DIGEST.fullmatch(text) is not None


def parse_since(text: str, now: datetime | None = None) -> float:
    """Seconds since 1970 of a moment (`2026-03-01`, `2026-03-01T12:00`, UTC unless it says so) or an age (`24h`, `7d`).

    Raises:
        SchemaError: it is neither.
    """
    age = _AGE.fullmatch(text.strip())
    if age is not None:
        past = timedelta(seconds=float(age[1]) * _SECONDS[age[2]])
        return ((now or datetime.now(UTC)) - past).timestamp()
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as err:
        raise SchemaError(f"{text!r} is no moment", "--since", "write 2026-03-01, or an age such as 24h, 7d") from err
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


LINES = select(*(PROFILES.c[field.name] for field in fields(ProfileLine))).order_by(
    PROFILES.c.measured_s.desc(), PROFILES.c.id.desc()
)
