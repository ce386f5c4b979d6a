"""The database of profiles: SQLite in a file by default, PostgreSQL by URL. Raw samples are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError
from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex, CreateTable

from edgekit.errors import StoreError
from edgekit.schema.profile import MeasureSettings, Profile

SCHEMA_VERSION = 1
_LOCK_TIMEOUT_S = 30

_TABLES = MetaData()
_VERSIONS = Table("profile_store_version", _TABLES, Column("version", Integer, primary_key=True))
_PROFILES = Table(
    "profiles",
    _TABLES,
    Column("id", Integer, primary_key=True),
    Column("artifact_sha256", String(64), nullable=False),
    Column("device", Text, nullable=False),
    Column("identity", Text),
    Column("stand_in_for", Text),
    Column("runtime", Text, nullable=False),
    Column("agent_version", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("measured_s", Float, nullable=False),
    Column("document", Text, nullable=False),
)
_BY_ARTIFACT = Index("profiles_by_artifact", _PROFILES.c.artifact_sha256, _PROFILES.c.measured_s)


class ProfileStore:
    """Profiles in a SQL database. Several processes may read and write at once.

    Args:
        url_or_path: a path of a SQLite file, made if absent, or an SQLAlchemy URL such as
            `postgresql+psycopg://user@host/database`.

    Raises:
        StoreError: the database cannot be opened, or was made by another version of its schema.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        text = str(url_or_path)
        if "://" in text:
            try:
                self._where = make_url(text).render_as_string(hide_password=True)
            except ArgumentError as err:
                raise StoreError(f"not a database URL: {err}", "profile database", "write dialect://host/name") from err
        else:
            self._where = text
            text = f"sqlite:///{Path(text).absolute()}"
            try:
                Path(self._where).absolute().parent.mkdir(parents=True, exist_ok=True)
            except OSError as err:
                raise StoreError(
                    f"cannot make its folder: {err}", self._where, "name a path that can be written"
                ) from err
        with self._errors():
            self._engine = _engine(text)
            self._prepare()

    def __enter__(self) -> ProfileStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    def add(self, profile: Profile) -> None:
        """Keep a profile.

        Raises:
            StoreError: the database cannot be written.
        """
        row = {
            "artifact_sha256": profile.artifact_sha256,
            "device": profile.device,
            "identity": profile.conditions.extra.get("identity"),
            "stand_in_for": profile.stand_in_for,
            "runtime": profile.runtime,
            "agent_version": profile.agent_version,
            "settings": _settings_key(profile.settings),
            "reasons": json.dumps(profile.reasons),
            "measured_s": datetime.fromisoformat(profile.measured_at).timestamp(),
            "document": profile.model_dump_json(),
        }
        with self._errors(), self._engine.begin() as connection:
            connection.execute(insert(_PROFILES), row)

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
        columns = _PROFILES.c
        present_s = (now or datetime.now(UTC)).timestamp()
        query = (
            select(columns.document)
            .where(columns.artifact_sha256 == artifact_sha256, columns.device == device, columns.runtime == runtime)
            .where(columns.agent_version == agent_version, columns.settings == _settings_key(settings))
            .where(columns.measured_s >= present_s - max_age_hours * 3600, columns.measured_s <= present_s)
            .where(columns.stand_in_for.is_not_distinct_from(stand_in_for))
            .where(columns.reasons.in_([json.dumps([]), json.dumps(["stand-in"])]))
            .order_by(columns.measured_s.desc(), columns.id.desc())
            .limit(1)
        )
        if identity is not None:
            query = query.where(columns.identity == identity)
        with self._errors(), self._engine.connect() as connection:
            document = connection.execute(query).scalar()
        return None if document is None else self._parse(document)

    def all(self, artifact_sha256: str | None = None, device: str | None = None) -> tuple[Profile, ...]:
        """Every profile, or those of one artifact or one device; oldest first.

        Raises:
            StoreError: the database cannot be read.
        """
        query = select(_PROFILES.c.document).order_by(_PROFILES.c.measured_s, _PROFILES.c.id)
        if artifact_sha256 is not None:
            query = query.where(_PROFILES.c.artifact_sha256 == artifact_sha256)
        if device is not None:
            query = query.where(_PROFILES.c.device == device)
        with self._errors(), self._engine.connect() as connection:
            documents = connection.execute(query).scalars().all()
        return tuple(self._parse(document) for document in documents)

    def _prepare(self) -> None:
        try:
            with self._engine.begin() as connection:
                _create(connection)
        except IntegrityError:  # another process made the tables or the version's row a moment ago
            with self._engine.begin() as connection:
                _create(connection)
        with self._engine.connect() as connection:
            found = connection.execute(select(_VERSIONS.c.version)).scalars().all()
        if found != [SCHEMA_VERSION]:
            raise StoreError(
                f"schema version {', '.join(map(str, found))}, this edgekit knows {SCHEMA_VERSION}",
                self._where,
                "use the edgekit that made it, or name another database",
            )

    def _parse(self, document: str) -> Profile:
        try:
            return Profile.model_validate_json(document)
        except ValidationError as err:
            raise StoreError(
                f"a stored profile cannot be read: {err}", self._where, "name another database, or remove this one"
            ) from err

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError) as err:  # ImportError: the driver of another database
            raise StoreError(
                f"the profile database failed: {err}",
                self._where,
                "check that it is a database, can be written and is reachable; PostgreSQL needs the extra `postgres`",
            ) from err


def _engine(url: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    # no pool: a connection that outlives its use would hold the file open, and must not cross a fork
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _LOCK_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _write_ahead(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")  # readers and one writer at a time, none of them refused
        cursor.close()

    return engine


def _create(connection: Connection) -> None:
    connection.execute(CreateTable(_VERSIONS, if_not_exists=True))
    connection.execute(CreateTable(_PROFILES, if_not_exists=True))
    connection.execute(CreateIndex(_BY_ARTIFACT, if_not_exists=True))
    if connection.execute(select(_VERSIONS.c.version).limit(1)).scalar() is None:
        connection.execute(insert(_VERSIONS), {"version": SCHEMA_VERSION})


def _settings_key(settings: MeasureSettings) -> str:
    return json.dumps(settings.model_dump(mode="json"), sort_keys=True)
