import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from edgekit.errors import StoreError
from edgekit.schema.profile import Energy, MeasureSettings
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.tables import PROFILES
from tests.edgekit.store.made import NOON, SETTINGS, profile_of, stand_in, timed

KEY = ("a" * 64, "bench", "onnxruntime", "0.1.0+abc", SETTINGS)


def test_what_is_found_is_what_was_added_to_the_last_bit_of_every_sample(store: ProfileStore):
    profile = profile_of()
    store.add(profile)
    assert store.find(*KEY, now=NOON) == profile


def test_a_profile_is_found_again_by_another_store_and_by_path(tmp_path: Path):
    path = tmp_path / "profiles.db"
    with ProfileStore(path) as first:
        first.add(profile_of())
    with ProfileStore(f"sqlite:///{path}") as second:
        assert second.find(*KEY, now=NOON) == profile_of()


def test_what_lists_are_made_from_stands_in_columns(store: ProfileStore):
    profile = profile_of(timed(2.0, 0, 1500), peak_rss_bytes=3 * 2**31, energy=Energy(energy_per_inference_mj=1.5))
    origin = Origin("kws", "pi", "b" * 64, "c" * 40, "int8", True)
    key = store.add(profile, origin)
    with store.database.reading() as connection:
        row = dict(connection.execute(PROFILES.select()).mappings().one())
    assert row == {
        "id": key,
        "artifact": "model.onnx",
        "artifact_sha256": "a" * 64,
        "precision": "int8",
        "ships": True,
        "recipe": "kws",
        "target": "pi",
        "build": "b" * 64,
        "git_commit": "c" * 40,
        "device": "bench",
        "identity": "1f",
        "stand_in": False,
        "stand_in_for": None,
        "runtime": "onnxruntime",
        "runtime_version": "1.2",
        "agent_version": "0.1.0+abc",
        "settings": row["settings"],
        "threads": 2,
        "batch": 1,
        "samples": 1500,
        "mean_ms": profile.summary.mean_ms,
        "p50_ms": profile.summary.p50_ms,
        "p50_low_ms": profile.summary.p50_low_ms,
        "p50_high_ms": profile.summary.p50_high_ms,
        "p90_ms": profile.summary.p90_ms,
        "p99_ms": profile.summary.p99_ms,
        "valid": True,
        "reasons": "[]",
        "peak_rss_bytes": 3 * 2**31,
        "energy_mj": 1.5,
        "measured_at": profile.measured_at,
        "measured_s": (NOON - timedelta(hours=1)).timestamp(),
    }
    assert store.get(key) == profile


def test_a_number_that_no_profile_has_is_refused(store: ProfileStore):
    key = store.add(profile_of())
    with pytest.raises(StoreError) as caught:
        store.get(key + 1)
    assert caught.value.what == f"no profile has the number {key + 1}"
    assert caught.value.where == store.database.where


@pytest.mark.parametrize(
    "changes",
    [
        {"artifact_sha256": "b" * 64},
        {"device": "other"},
        {"runtime": "litert"},
        {"agent_version": "0.1.0+abd"},
        {"settings": MeasureSettings(threads=1)},
        stand_in(),
        {"settings": MeasureSettings(threads=2, fps=30)},
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
    profile = profile_of(**stand_in())
    store.add(profile)
    assert store.find(*KEY, now=NOON, stand_in_for="jetson-orin-nano") == profile
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


def test_processes_that_open_and_write_at_once_lose_nothing(url: str):
    lines = profile_of().model_dump_json()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, str(index)], stdin=subprocess.PIPE, text=True)
        for index in range(3)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(lines)
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    with ProfileStore(url) as store:
        assert {profile.device for profile in store.all()} == {f"{i}-{n}" for i in range(3) for n in range(25)}


@pytest.mark.parametrize(
    "damage",
    [
        """UPDATE profile_documents SET document = '{"artifact": 3}'""",
        "UPDATE profile_documents SET document = '{'",
        "UPDATE profile_documents SET samples = document",
    ],
)
def test_a_damaged_row_is_named_as_such(tmp_path: Path, damage: str):
    path = tmp_path / "profiles.db"
    with ProfileStore(path) as store:
        store.add(profile_of())
        with create_engine(f"sqlite:///{path}").begin() as connection:
            connection.execute(text(damage))
        with pytest.raises(StoreError) as caught:
            store.find(*KEY, now=NOON)
    assert caught.value.what.startswith("a stored profile cannot be read")
    assert caught.value.where == str(path)
