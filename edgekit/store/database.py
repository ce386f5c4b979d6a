"""A SQL database that is brought to the newest revision when it is opened: SQLite in a file, PostgreSQL by URL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from edgekit.errors import StoreError
from edgekit.store.migrations import NEWEST, REVISION_TABLE, REVISIONS

_LOCK_TIMEOUT_S = 30
_WAIT_S = 0.01
_ADVISORY_LOCK = 0x65646765  # any number that others do not lock
_FIRST_VERSIONS: tuple[list[int], ...] = ([], [1])  # of a database from before the migrations
_KNOWN_DIALECTS = ("sqlite", "postgresql")
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}


class Database:
    """A database at the newest revision. Several processes may read and write at once.

    Args:
        url_or_path: a path of a SQLite file, made if absent, or an SQLAlchemy URL such as
            `postgresql+psycopg://user@host/database`.

    Attributes:
        where: for messages; without the password.

    Raises:
        StoreError: it cannot be opened, or was made by a newer edgekit.
    """

    def __init__(self, url_or_path: str | Path) -> None:
        url = _url(str(url_or_path))
        shown = str(url_or_path) if "://" not in str(url_or_path) else url.render_as_string(hide_password=True)
        self.where = shown
        with self._errors():
            self._engine = _engine(url)
            try:
                self._bring_up_to_date()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to read with.

        Raises:
            StoreError: the database cannot be read.
        """
        with self._errors(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection whose changes are kept when the `with` ends without an error, and undone otherwise.

        Raises:
            StoreError: the database cannot be written.
        """
        with self._errors(), self._engine.connect().execution_options(write=True) as connection, connection.begin():
            yield connection

    def _bring_up_to_date(self) -> None:
        with self._engine.connect() as connection:
            if _revision(connection) == NEWEST:
                return
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE lets one process in as well
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
            found = _revision(connection)
            if found != NEWEST:
                self._refuse_unknown(found, connection)
                self._upgrade(connection)

    def _refuse_unknown(self, found: str | None, connection: Connection) -> None:
        fix = "use the edgekit that made it, or name another database with EDGEKIT_DB"
        if found is not None:
            if found not in REVISIONS:
                raise StoreError(f"schema revision {found}, this edgekit knows up to {NEWEST}", self.where, fix)
            return
        if inspect(connection).has_table("profile_store_version"):
            versions = list(connection.execute(text("SELECT version FROM profile_store_version")).scalars())
            if versions not in _FIRST_VERSIONS:
                told = ", ".join(map(str, versions))
                known = f"this edgekit knows 1, and its revisions up to {NEWEST}"
                raise StoreError(f"schema version {told}, {known}", self.where, fix)

    def _upgrade(self, connection: Connection) -> None:
        # most databases are up to date, and a list of profiles should not wait for this import
        from alembic import command
        from alembic.config import Config

        config = Config(attributes={"connection": connection})
        folder = str(Path(__file__).with_name("migrations"))
        config.set_main_option("script_location", folder.replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            command.upgrade(config, "head")
        except (KeyError, TypeError, ValueError) as err:
            raise StoreError(
                f"a profile of an older schema cannot be read: {err!r}",
                self.where,
                "nothing was changed: repair or remove the row, or name another database with EDGEKIT_DB",
            ) from err

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ImportError) as err:  # ImportError: the driver of another database
            # the driver's own words, without SQLAlchemy's links
            said = err.orig if isinstance(err, DBAPIError) and err.orig is not None else err
            raise StoreError(
                f"the profile database failed: {said}",
                self.where,
                "check that its disk has space and that it is a database, can be written and is reachable; PostgreSQL "
                "needs the extra: pip install 'edgekit[postgres]'",
            ) from err


def _revision(connection: Connection) -> str | None:
    """The revision of the database; None: empty, or from before there were revisions."""
    if not inspect(connection).has_table(REVISION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {REVISION_TABLE}")).scalar()
    return found


def _url(given: str) -> URL:
    if "://" not in given:
        url = URL.create("sqlite", database=str(Path(given).absolute()))
    else:
        try:
            url = make_url(given)
        except ArgumentError as err:
            raise StoreError(f"not a database URL: {err}", "profile database", "write dialect://host/name") from err
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() not in _KNOWN_DIALECTS or (url.get_backend_name() == "sqlite" and not url.database):
        what = f"profiles are not kept in {url.drivername!r}" if url.database else "no database is named"
        raise StoreError(what, shown, "name a SQLite file or a postgresql+psycopg:// URL")
    if url.get_backend_name() == "sqlite":
        try:
            Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise StoreError(f"cannot make its folder: {err}", shown, "name a path that can be written") from err
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    # no pool: a connection that outlives its use would hold the file open, and must not cross a fork
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _LOCK_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, so that CREATE and ALTER are in them
        _write_ahead(connection)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # a transaction that reads first and writes later is refused if another wrote in between
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Let many read beside one writer. The file remembers it; the first time, nobody else may have it open.

    SQLite refuses that at once, whatever timeout it was given, so waiting for others is done here.
    """
    end_s = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
        except sqlite3.OperationalError as err:
            if err.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end_s:
                raise
            time.sleep(_WAIT_S)
        else:
            return
