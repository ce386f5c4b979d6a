from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Select, text

from edgekit.errors import SchemaError
from edgekit.store.history import Wanted, history_query, parse_since, read_history
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.tables import BUILDS, PROFILES, has_prefix
from tests.edgekit.store.made import NOON, hours_before, profile_of, stand_in

ROWS = {
    "old": ({"measured_at": hours_before(200)}, Origin("kws", "pi", "b" * 64, ships=True)),
    "other device": ({"measured_at": hours_before(9), "device": "other"}, Origin("kws", "jetson")),
    "compared with": (
        {"measured_at": hours_before(8), "artifact": "model.float.onnx"},
        Origin("kws", "pi", ships=False),
    ),
    "stand-in": (stand_in(measured_at=hours_before(7), runtime="litert"), None),
    "noisy": ({"measured_at": hours_before(6), "valid": False, "reasons": ("noisy",)}, Origin("vision", "pi")),
    "newest": ({"artifact_sha256": "abcdef" + "0" * 58}, Origin("kws", "pi", "c" * 64, ships=True)),
}


@pytest.fixture
def filled(store: ProfileStore) -> ProfileStore:
    for changes, origin in ROWS.values():
        store.add(profile_of(**changes), origin)
    return store


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), "newest, noisy, stand-in, compared with, other device, old"),
        (Wanted(limit=2), "newest, noisy"),
        (Wanted(device="other"), "other device"),
        (Wanted(recipe="kws"), "newest, compared with, other device, old"),
        (Wanted(recipe="kws", target="pi"), "newest, compared with, old"),
        (Wanted(runtime="litert"), "stand-in"),
        (Wanted(artifact="model.float.onnx"), "compared with"),
        (Wanted(artifact="ABCdef"), "newest"),
        (Wanted(artifact="abcde"), ""),
        (Wanted(build="b" * 64), "old"),
        (Wanted(sha256s=("abcdef" + "0" * 58, "b" * 64)), "newest"),
        (Wanted(valid_only=True), "newest, compared with, other device, old"),
        (Wanted(shipped_only=True), "newest, noisy, stand-in, other device, old"),
        (Wanted(since_s=(NOON - timedelta(hours=7)).timestamp()), "newest, noisy, stand-in"),
    ],
)
def test_filters_and_newest_first(filled: ProfileStore, wanted: Wanted, found: str):
    names = list(ROWS)
    assert ", ".join(names[line.id - 1] for line in read_history(filled.database, wanted)) == found


def test_a_line_says_what_its_profile_does(filled: ProfileStore):
    (line,) = read_history(filled.database, Wanted(runtime="litert"))
    assert (line.valid, line.stand_in, line.stand_in_for, line.reasons) == (
        False,
        True,
        "jetson-orin-nano",
        ("stand-in",),
    )
    assert line.measured_at == hours_before(7)
    assert (line.recipe, line.ships) == (None, None)


PLANS = {
    "newest": (history_query(Wanted(limit=5)), "profiles_by_time"),
    "device": (history_query(Wanted(device="d7", limit=5)), "profiles_by_device"),
    "recipe": (history_query(Wanted(recipe="r7", target="pi", device="d7", runtime="x")), "profiles_by_recipe"),
    "build": (history_query(Wanted(build="7" * 64)), "profiles_by_build"),
    "digest": (PROFILES.select().where(has_prefix(PROFILES.c.artifact_sha256, "00000000007")), "profiles_by_artifact"),
    "builds": (
        BUILDS.select().where(BUILDS.c.recipe == "r7", BUILDS.c.target == "pi").order_by(BUILDS.c.made_s),
        "builds_by_recipe",
    ),
}
FILL = {
    "profiles": "INSERT INTO profiles (artifact, artifact_sha256, recipe, target, build, device, stand_in, runtime, "
    "runtime_version, agent_version, settings, threads, batch, samples, mean_ms, p50_ms, p50_low_ms, p50_high_ms, "
    "p90_ms, valid, reasons, measured_at, measured_s) VALUES (:a, :sha, :recipe, 'pi', :build, :device, false, :a, "
    "'1', '1', '{}', 1, 1, 1, 1, 1, 1, 1, 1, true, '[]', '', :at)",
    "builds": "INSERT INTO builds (digest, recipe, target, verdict, made_s, artifacts) "
    "VALUES (:sha, :recipe, 'pi', 'pass', :at, '[]')",
}


@pytest.mark.parametrize("case", PLANS)
def test_questions_are_answered_from_an_index(store: ProfileStore, case: str):
    query, index = PLANS[case]
    rows = [
        {
            "a": f"a{n % 3}",
            "sha": f"{n:012d}" + "0" * 52,
            "recipe": f"r{n % 50}",
            "build": f"{n:x}" * (64 // len(f"{n:x}")),
            "device": f"d{n % 40}",
            "at": n,
        }
        for n in range(4000)
    ]
    with store.database.writing() as connection:
        for statement in FILL.values():
            names = [name for name in rows[0] if f":{name}" in statement]
            connection.execute(text(statement), [{name: row[name] for name in names} for row in rows])
    with store.database.writing() as connection:
        connection.execute(text("ANALYZE"))
    assert index in explained(store, query)


def explained(store: ProfileStore, query: Select) -> str:
    with store.database.reading() as connection:
        compiled = query.compile(connection.engine, compile_kwargs={"literal_binds": True})
        word = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        return str(connection.execute(text(f"{word} {compiled}")).all())


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T12:30", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01T12:30+02:00", datetime(2026, 3, 1, 10, 30, tzinfo=UTC)),
        ("24h", NOON - timedelta(hours=24)),
        ("1.5 d", NOON - timedelta(hours=36)),
        ("2w", NOON - timedelta(days=14)),
    ],
)
def test_since_is_a_moment_or_an_age(given: str, moment: datetime):
    assert parse_since(given, NOON) == moment.timestamp()


@pytest.mark.parametrize("given", ["yesterday", "7", "7y", ""])
def test_what_is_no_moment_is_refused(given: str):
    with pytest.raises(SchemaError) as caught:
        parse_since(given)
    assert caught.value.where == "--since"
