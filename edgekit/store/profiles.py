"""Profiles in a SQL database: every record whole with its raw samples, and columns that lists are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Select, insert, select

from edgekit.errors import StoreError
from edgekit.schema.profile import MeasureSettings, Profile
from edgekit.store.database import Database
from edgekit.store.samples import pack_samples, unpack_samples
from edgekit.store.tables import DOCUMENTS, PROFILES

_WORTH_KEEPING = [json.dumps([]), json.dumps(["stand-in"])]


@dataclass(frozen=True)
class Origin:
    """What an artifact that was measured comes from. None: not known.

    Attributes:
        recipe: its name.
        target: its name.
        build: content digest of the bundle.
        git_commit: of the user's project, `-dirty` at its end where files differ from it.
        precision: of the artifact, as in the manifest.
        ships: False for a version that was only compared with.
    """

    recipe: str | None = None
    target: str | None = None
    build: str | None = None
    git_commit: str | None = None
    precision: str | None = None
    ships: bool | None = None


class ProfileStore:
    """Profiles in a SQL database. Several processes may read and write at once.

    Args:
        url_or_path: a path of a SQLite file, made if absent, or an SQLAlchemy URL such as
            `postgresql+psycopg://user@host/database`.

    Attributes:
        database: for `history` and `builds`, which ask the same tables for more.

    Raises:
        StoreError: the database cannot be opened, or was made by a newer edgekit.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        self.database = Database(url_or_path)

    def __enter__(self) -> ProfileStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back every connection."""
        self.database.close()

    def add(self, profile: Profile, origin: Origin | None = None) -> int:
        """Keep a profile; its number is what `get` and the commands know it by.

        Raises:
            StoreError: the database cannot be written.
        """
        document = profile.model_dump_json(exclude={"samples_ms"})
        row = {**asdict(origin or Origin()), **_columns(profile)}
        with self.database.writing() as connection:
            key = int(connection.execute(insert(PROFILES).returning(PROFILES.c.id), row).scalar_one())
            packed = pack_samples(profile.samples_ms)
            connection.execute(insert(DOCUMENTS), {"profile_id": key, "document": document, "samples": packed})
        return key

    def number_of(self, profile: Profile) -> int | None:
        """The number of a profile that is kept already; None: it is not.

        Raises:
            StoreError: the database cannot be read.
        """
        wanted, columns = _columns(profile), PROFILES.c
        same = ("artifact_sha256", "device", "runtime", "settings", "measured_s")
        query = select(columns.id).where(*(columns[name] == wanted[name] for name in same)).limit(1)
        with self.database.reading() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else int(found)

    def get(self, key: int) -> Profile:
        """The profile of a number.

        Raises:
            StoreError: there is none, or the database cannot be read.
        """
        found = self._read(_WHOLE.where(PROFILES.c.id == key))
        if not found:
            raise StoreError(f"no profile has the number {key}", self.database.where, "`edgekit history` lists them")
        return found[0]

    def find(
        self,
        artifact_sha256: str,
        device: str,
        runtime: str,
        agent_version: str,
        settings: MeasureSettings,
        max_age_hours: float = 24,
        *,
        stand_in_for: str | None = None,
        identity: str | None = None,
        now: datetime | None = None,
    ) -> Profile | None:
        """The newest profile of exactly this, if it is fresh and worth keeping; else None, and one should measure.

        A throttled, drifted, noisy or short profile is never given: measuring again may do better. A stand-in's is,
        where the stand-in is what was asked for.

        Args:
            artifact_sha256: of the artifact's file.
            device: its name.
            runtime: name of the runtime.
            agent_version: `edgekit.devices.zipapp.agent_version()`.
            settings: how it would be measured now.
            max_age_hours: older ones do not count.
            stand_in_for: target that the device stands in for; None: none.
            identity: `conditions.extra["identity"]` of the machine, where a database is shared by machines of one name;
                None: the name is enough.
            now: the present; None: the clock.

        Raises:
            StoreError: the database cannot be read.
        """
        columns = PROFILES.c
        present_s = (now or datetime.now(UTC)).timestamp()
        query = (
            _WHOLE.where(
                columns.artifact_sha256 == artifact_sha256, columns.device == device, columns.runtime == runtime
            )
            .where(columns.agent_version == agent_version, columns.settings == _settings_key(settings))
            .where(columns.measured_s >= present_s - max_age_hours * 3600, columns.measured_s <= present_s)
            .where(columns.stand_in_for.is_not_distinct_from(stand_in_for))
            .where(columns.reasons.in_(_WORTH_KEEPING))
            .order_by(columns.measured_s.desc(), columns.id.desc())
            .limit(1)
        )
        if identity is not None:
            query = query.where(columns.identity == identity)
        return next(iter(self._read(query)), None)

    def all(self, artifact_sha256: str | None = None, device: str | None = None) -> tuple[Profile, ...]:
        """Every profile, or those of one artifact or one device; oldest first.

        Raises:
            StoreError: the database cannot be read.
        """
        query = _WHOLE.order_by(PROFILES.c.measured_s, PROFILES.c.id)
        if artifact_sha256 is not None:
            query = query.where(PROFILES.c.artifact_sha256 == artifact_sha256)
        if device is not None:
            query = query.where(PROFILES.c.device == device)
        return self._read(query)

    def _read(self, query: Select[Any]) -> tuple[Profile, ...]:
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        try:
            return tuple(_profile(document, samples) for document, samples in rows)
        except (ValidationError, ValueError) as err:
            raise StoreError(
                f"a stored profile cannot be read: {err}",
                self.database.where,
                "name another database, or remove this one",
            ) from err


_WHOLE = select(DOCUMENTS.c.document, DOCUMENTS.c.samples).join(PROFILES, PROFILES.c.id == DOCUMENTS.c.profile_id)


def _profile(document: str, samples: bytes) -> Profile:
    fields: Mapping[str, Any] = json.loads(document)
    return Profile.model_validate({**fields, "samples_ms": unpack_samples(samples)})


def _columns(profile: Profile) -> dict[str, Any]:
    """What lists are made from, but the origin."""
    summary = profile.summary
    return {
        "artifact": profile.artifact,
        "artifact_sha256": profile.artifact_sha256,
        "device": profile.device,
        "identity": profile.conditions.extra.get("identity"),
        "stand_in": profile.stand_in,
        "stand_in_for": profile.stand_in_for,
        "runtime": profile.runtime,
        "runtime_version": profile.runtime_version,
        "agent_version": profile.agent_version,
        "settings": _settings_key(profile.settings),
        "threads": profile.settings.threads,
        "batch": profile.settings.batch,
        "samples": summary.n,
        "mean_ms": summary.mean_ms,
        "p50_ms": summary.p50_ms,
        "p50_low_ms": summary.p50_low_ms,
        "p50_high_ms": summary.p50_high_ms,
        "p90_ms": summary.p90_ms,
        "p99_ms": summary.p99_ms,
        "valid": profile.valid,
        "reasons": json.dumps(profile.reasons),
        "peak_rss_bytes": profile.peak_rss_bytes,
        "energy_mj": profile.energy.energy_per_inference_mj if profile.energy else None,
        "measured_at": profile.measured_at,
        "measured_s": datetime.fromisoformat(profile.measured_at).timestamp(),
    }


def _settings_key(settings: MeasureSettings) -> str:
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True)
