import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgekit.errors import StoreError
from edgekit.schema.profile import Conditions, MeasureSettings, Profile, Summary
from edgekit.store.profiles import ProfileStore

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
SETTINGS = MeasureSettings(threads=2)
KEY = ("a" * 64, "bench", "onnxruntime", "0.1.0+abc", SETTINGS)


def profile_of(**changes: object) -> Profile:
    fields: dict[str, object] = {
        "artifact": "model.onnx",
        "artifact_sha256": "a" * 64,
        "device": "bench",
        "stand_in": False,
        "runtime": "onnxruntime",
        "runtime_version": "1.2",
        "agent_version": "0.1.0+abc",
        "settings": SETTINGS,
        "samples_ms": (1.25, 0.1, 1 / 3),
        "summary": Summary(
            n=3,
            mean_ms=0.5,
            p50_ms=1 / 3,
            p50_low_ms=0.1,
            p50_high_ms=1.25,
            p90_ms=1.25,
            p95_ms=1.25,
            p99_ms=None,
            std_ms=0.5,
            cov_ratio=1.0,
        ),
        "conditions": Conditions(cpu="A Fine CPU", affinity=(0, 1), extra={"identity": "1f", "rounds": [1, 2]}),
        "valid": True,
        "measured_at": (NOON - timedelta(hours=1)).isoformat(),
    }
    return Profile.model_validate({**fields, **changes})


@pytest.fixture
def store(tmp_path: Path):
    with ProfileStore(tmp_path / "deep" / "profiles.db") as opened:
        yield opened


def test_what_is_found_is_what_was_added_to_the_last_bit_of_every_sample(store: ProfileStore):
    profile = profile_of()
    store.add(profile)
    assert store.find(*KEY, now=NOON) == profile


def test_a_profile_is_found_again_by_another_store_and_by_url(tmp_path: Path):
    path = tmp_path / "profiles.db"
    with ProfileStore(path) as first:
        first.add(profile_of())
    with ProfileStore(f"sqlite:///{path}") as second:
        assert second.find(*KEY, now=NOON) == profile_of()


@pytest.mark.parametrize(
    "changes",
    [
        {"artifact_sha256": "b" * 64},
        {"device": "other"},
        {"runtime": "litert"},
        {"agent_version": "0.1.0+abd"},
        {"settings": MeasureSettings(threads=1)},
        {"stand_in": True, "stand_in_for": "jetson-orin-nano", "valid": False, "reasons": ("stand-in",)},
        {"valid": False, "reasons": ("noisy",)},
        {"valid": False, "reasons": ("drifted", "stand-in")},
        {"measured_at": (NOON - timedelta(hours=24, seconds=1)).isoformat()},
        {"measured_at": (NOON + timedelta(hours=1)).isoformat()},
    ],
)
def test_a_profile_that_differs_in_one_thing_is_not_reused(store: ProfileStore, changes: dict[str, object]):
    store.add(profile_of(**changes))
    assert store.find(*KEY, now=NOON) is None
    assert len(store.all()) == 1


def test_the_newest_fresh_one_is_given(store: ProfileStore):
    for hours in (3, 1, 2):
        store.add(profile_of(measured_at=(NOON - timedelta(hours=hours)).isoformat()))
    found = store.find(*KEY, now=NOON)
    assert found is not None
    assert found.measured_at == (NOON - timedelta(hours=1)).isoformat()
    assert store.find(*KEY, 0.5, now=NOON) is None


def test_a_stand_ins_profile_is_for_its_target_only(store: ProfileStore):
    stand_in = profile_of(stand_in=True, stand_in_for="jetson-orin-nano", valid=False, reasons=("stand-in",))
    store.add(stand_in)
    assert store.find(*KEY, now=NOON, stand_in_for="jetson-orin-nano") == stand_in
    assert store.find(*KEY, now=NOON, stand_in_for="raspberry-pi-5") is None


def test_machines_of_one_name_can_be_told_apart(store: ProfileStore):
    store.add(profile_of())
    assert store.find(*KEY, now=NOON, identity="1f") is not None
    assert store.find(*KEY, now=NOON, identity="2e") is None


def test_all_of_an_artifact_or_a_device_oldest_first(store: ProfileStore):
    late = profile_of()
    early = profile_of(measured_at=(NOON - timedelta(days=9)).isoformat(), device="other")
    foreign = profile_of(artifact_sha256="b" * 64)
    for profile in (late, early, foreign):
        store.add(profile)
    assert store.all("a" * 64) == (early, late)
    assert store.all(device="other") == (early,)
    assert len(store.all()) == 3


WRITER = """
import sys
from edgekit.schema.profile import Profile
from edgekit.store.profiles import ProfileStore

text = sys.stdin.read()
with ProfileStore(sys.argv[1]) as store:
    for number in range(25):
        store.add(Profile.model_validate_json(text).model_copy(update={"device": f"{sys.argv[2]}-{number}"}))
"""


def test_processes_that_open_and_write_at_once_lose_nothing(tmp_path: Path):
    path, text = tmp_path / "profiles.db", profile_of().model_dump_json()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(index)], stdin=subprocess.PIPE, text=True)
        for index in range(3)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(text)
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    with ProfileStore(path) as store:
        assert {profile.device for profile in store.all()} == {f"{i}-{n}" for i in range(3) for n in range(25)}


def test_a_database_of_another_schema_version_is_refused(tmp_path: Path):
    path = tmp_path / "profiles.db"
    ProfileStore(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE profile_store_version SET version = 7")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError) as caught:
        ProfileStore(path)
    assert caught.value.what == "schema version 7, this edgekit knows 1"
    assert caught.value.where == str(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    path = tmp_path / "profiles.db"
    path.write_text("a letter, not a database, and rather longer than the header of one would be" * 20)
    with pytest.raises(StoreError) as caught:
        ProfileStore(path)
    assert caught.value.where == str(path)


def test_a_damaged_row_is_named_as_such(tmp_path: Path):
    path = tmp_path / "profiles.db"
    with ProfileStore(path) as store:
        store.add(profile_of())
        connection = sqlite3.connect(path)
        connection.execute("""UPDATE profiles SET document = '{"artifact": 3}'""")
        connection.commit()
        connection.close()
        with pytest.raises(StoreError) as caught:
            store.find(*KEY, now=NOON)
    assert caught.value.what.startswith("a stored profile cannot be read")


@pytest.mark.parametrize("url", ["nonsense://x/y", "postgresql+pg8000://user:secret@localhost:1/none"])
def test_what_cannot_be_opened_says_so_without_the_password(url: str):
    with pytest.raises(StoreError) as caught:
        ProfileStore(url)
    assert "secret" not in str(caught.value)
