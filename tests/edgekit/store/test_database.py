import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from edgekit.errors import StoreError
from edgekit.schema.profile import Profile
from edgekit.store import migrations
from edgekit.store.database import Database, _write_ahead
from edgekit.store.history import read_history
from edgekit.store.profiles import ProfileStore
from edgekit.store.tables import TABLES
from tests.edgekit.store.made import NOON, SETTINGS, hours_before, profile_of, stand_in, timed

KEY = ("a" * 64, "bench", "onnxruntime", "0.1.0+abc", SETTINGS)
# the tables as version 1 made them, before there were migrations
FIRST = (
    "CREATE TABLE profile_store_version (version INTEGER NOT NULL PRIMARY KEY)",
    "CREATE TABLE profiles (id {serial}, artifact_sha256 VARCHAR(64) NOT NULL, device TEXT NOT NULL, identity TEXT, "
    "stand_in_for TEXT, runtime TEXT NOT NULL, agent_version TEXT NOT NULL, settings TEXT NOT NULL, "
    "reasons TEXT NOT NULL, measured_s FLOAT NOT NULL, document TEXT NOT NULL)",
    "CREATE INDEX profiles_by_artifact ON profiles (artifact_sha256, measured_s)",
)


def make_version_1(url: str, profiles: list[Profile], version: int | None = 1) -> None:
    """A database as the first edgekit left it."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    serial = "INTEGER NOT NULL PRIMARY KEY" if url.startswith("sqlite") else "SERIAL NOT NULL PRIMARY KEY"
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in FIRST:
            connection.execute(text(statement.format(serial=serial)))
        if version is not None:
            connection.execute(text(f"INSERT INTO profile_store_version VALUES ({version})"))
        for profile in profiles:
            row = {
                "artifact_sha256": profile.artifact_sha256,
                "device": profile.device,
                "identity": profile.conditions.extra.get("identity"),
                "stand_in_for": profile.stand_in_for,
                "runtime": profile.runtime,
                "agent_version": profile.agent_version,
                "settings": json.dumps(profile.settings.model_dump(mode="json"), sort_keys=True),
                "reasons": json.dumps(profile.reasons),
                "measured_s": (NOON.fromisoformat(profile.measured_at)).timestamp(),
                "document": profile.model_dump_json(),
            }
            names = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            connection.execute(text(f"INSERT INTO profiles ({names}) VALUES ({values})"), row)
    engine.dispose()


@pytest.mark.parametrize("version", [1, None], ids=["whole", "killed before its version was written"])
def test_a_database_of_version_1_is_upgraded_without_losing_a_row(url: str, version: int | None):
    profiles = [
        profile_of(timed(2.0, 0, 1200), peak_rss_bytes=61_000_000, measured_at=hours_before(3)),
        profile_of(measured_at=hours_before(2), **stand_in(artifact="model.tflite")),
        profile_of(timed(1.0, 1), valid=False, reasons=("noisy", "drifted")),
    ]
    make_version_1(url, profiles, version)
    with ProfileStore(url) as store:
        assert store.all() == tuple(profiles)
        lines = read_history(store.database)[::-1]
        assert [line.artifact for line in lines] == ["model.onnx", "model.tflite", "model.onnx"]
        for line, profile in zip(lines, profiles, strict=True):
            assert store.get(line.id) == profile
            assert (line.p50_ms, line.p99_ms, line.samples) == (
                profile.summary.p50_ms,
                profile.summary.p99_ms,
                profile.summary.n,
            )
            assert (line.valid, line.stand_in, line.reasons) == (profile.valid, profile.stand_in, profile.reasons)
            assert (line.recipe, line.build, line.ships) == (None, None, None)
        assert lines[0].peak_rss_bytes == 61_000_000
        newest = profile_of(timed(3.0, 2))
        assert store.add(newest) > max(line.id for line in lines)
        assert store.find(*KEY, now=NOON) == newest


def test_an_upgraded_database_is_as_a_new_one(url: str):
    make_version_1(url, [profile_of()])
    ProfileStore(url).close()
    assert differences(url) == []


def test_the_migrations_make_the_tables_that_the_code_asks_for(url: str):
    ProfileStore(url).close()
    assert differences(url) == []
    ProfileStore(url).close()  # again: nothing to do


def differences(url: str) -> list[object]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            options = {"version_table": migrations.REVISION_TABLE, "compare_type": True}
            context = MigrationContext.configure(connection, opts=options)
            return list(compare_metadata(context, TABLES))
    finally:
        engine.dispose()


def test_the_difference_between_tables_is_seen(url: str):
    ProfileStore(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX profiles_by_time"))
        connection.execute(text("ALTER TABLE builds ADD COLUMN more TEXT"))
    engine.dispose()
    assert len(differences(url)) == 2


def test_the_list_of_revisions_is_that_of_the_files():
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert [row.revision for row in script.walk_revisions()][::-1] == list(migrations.REVISIONS)
    assert script.get_current_head() == migrations.NEWEST


def test_a_database_of_a_newer_revision_is_refused_and_left_as_it_is(url: str):
    with ProfileStore(url) as store:
        store.add(profile_of())
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {migrations.REVISION_TABLE} SET version_num = '0099'"))
    with pytest.raises(StoreError) as caught:
        ProfileStore(url)
    assert caught.value.what == "schema revision 0099, this edgekit knows up to 0002"
    assert "EDGEKIT_DB" in caught.value.fix
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM profiles")).scalar() == 1
    engine.dispose()


def test_an_unknown_version_from_before_the_revisions_is_refused(url: str):
    make_version_1(url, [], version=7)
    with pytest.raises(StoreError) as caught:
        ProfileStore(url)
    assert caught.value.what.startswith("schema version 7, this edgekit knows 1")


def test_an_edgekit_from_before_the_revisions_sees_that_it_cannot_read_it(url: str):
    ProfileStore(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version FROM profile_store_version")).scalars().all()
    engine.dispose()
    assert found == [2]  # it knows 1 alone


def test_an_upgrade_that_fails_changes_nothing(url: str):
    make_version_1(url, [profile_of()])
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("""UPDATE profiles SET document = '{"artifact": 3}'"""))
    with pytest.raises(StoreError) as caught:
        ProfileStore(url)
    assert caught.value.what.startswith("a profile of an older schema cannot be read")
    assert set(inspect(engine).get_table_names()) == {"profile_store_version", "profiles"}
    with engine.connect() as connection:
        assert connection.execute(text("SELECT document FROM profiles")).scalar() == '{"artifact": 3}'
    engine.dispose()


OPENER = """
import sys
from edgekit.store.profiles import ProfileStore
sys.stdin.readline()
ProfileStore(sys.argv[1]).close()
"""


@pytest.mark.parametrize("older", [False, True], ids=["fresh", "version 1"])
def test_processes_that_open_it_at_once_all_succeed(url: str, older: bool):
    if older:
        make_version_1(url, [profile_of(timed(1.0, seed)) for seed in range(5)])
    openers = [
        subprocess.Popen([sys.executable, "-c", OPENER, url], stdin=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write("\n")
        opener.stdin.close()
    assert [opener.wait() for opener in openers] == [0, 0, 0, 0]
    assert differences(url) == []
    with ProfileStore(url) as store:
        assert len(store.all()) == (5 if older else 0)


def test_opening_what_is_up_to_date_imports_no_alembic(url: str):
    ProfileStore(url).close()
    program = f"""
import sys
from edgekit.store.database import Database, _write_ahead
Database({url!r}).close()
heavy = [name for name in ("alembic", "numpy", "torch") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    path = tmp_path / "profiles.db"
    path.write_text("a letter, not a database, and rather longer than the header of one would be" * 20)
    with pytest.raises(StoreError) as caught:
        Database(path)
    assert caught.value.where == str(path)


def test_a_path_may_hold_what_means_something_in_a_url(tmp_path: Path):
    path = tmp_path / "50% of #1?mode=ro" / "profiles.db"
    with ProfileStore(path) as store:
        store.add(profile_of())
    assert path.is_file()


@pytest.mark.parametrize(
    "url",
    ["nonsense://x/y", "postgresql://user:secret@localhost:1/none", "mysql://user:secret@localhost/none"],
)
def test_what_cannot_be_opened_says_so_without_the_password(url: str):
    with pytest.raises(StoreError) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


class Refusing:
    """A connection that refuses so often; real ones do so when two processes change the mode of a new file at once."""

    def __init__(self, code: int, times: int) -> None:
        self.code, self.left, self.asked = code, times, 0
        self.real = sqlite3.connect(":memory:")

    def execute(self, statement: str) -> sqlite3.Cursor:
        self.asked += 1
        if self.asked <= self.left:
            error = sqlite3.OperationalError("refused")
            error.sqlite_errorcode = self.code
            raise error
        return self.real.execute(statement)


def test_a_mode_that_cannot_be_changed_just_now_is_asked_for_again():
    connection = Refusing(sqlite3.SQLITE_BUSY, 2)
    _write_ahead(connection)
    connection.real.close()
    assert connection.asked == 3
    broken = Refusing(sqlite3.SQLITE_NOTADB, 2)
    with pytest.raises(sqlite3.OperationalError):
        _write_ahead(broken)
    broken.real.close()
    assert broken.asked == 1
