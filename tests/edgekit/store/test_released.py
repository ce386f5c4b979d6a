from pathlib import Path
from typing import Any

import pytest

from edgekit.profiling.compare import compare
from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.schema.gates import NO_RELEASE
from edgekit.schema.profile import MeasureSettings
from edgekit.store.builds import mark_release, record_build
from edgekit.store.history import read_history
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.released import against_release, mark_bundle
from tests.edgekit.store.made import build_number, hours_before, profile_of, stand_in, timed

NEW = profile_of(timed(1.2, 9))


def release(store: ProfileStore, level_ms: float = 1.0, number: int = 1, name: str = "v1", **changes: Any) -> None:
    key = store.add(profile_of(timed(level_ms, number), **changes), Origin("kws", "pi", ships=True))
    record_build(store.database, build_number(number), [key])
    mark_release(store.database, build_number(number), name)


def test_a_profile_is_held_against_the_newest_of_the_last_release(store: ProfileStore):
    release(store, 5.0, 1, "v1")
    release(store, 3.0, 2, "v2", measured_at=hours_before(9))
    release(store, 1.0, 2, "v2", measured_at=hours_before(2))
    key = store.add(profile_of(timed(4.0, 4), measured_at=hours_before(1)), Origin("kws", "pi", ships=False))
    record_build(store.database, build_number(2), [key])
    assert against_release(store, "kws", "pi", NEW) == compare(profile_of(timed(1.0, 2)), NEW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (None, NO_RELEASE),
        (stand_in(), "release v1 was measured on a stand-in"),
        ({"valid": False, "reasons": ("noisy",)}, "release v1: profile INVALID: noisy"),
        (
            {"settings": MeasureSettings(threads=3)},
            "release v1 was measured otherwise: threads: 3, 2",
        ),
        ({"device": "other"}, "release v1: model.onnx was not measured on bench in onnxruntime"),
        ({"artifact": "other.onnx"}, "release v1: model.onnx was not measured on bench in onnxruntime"),
    ],
)
def test_what_cannot_be_held_against_it_says_why(store: ProfileStore, changes: dict[str, Any] | None, reason: str):
    if changes is not None:
        release(store, **changes)
    assert against_release(store, "kws", "pi", NEW) == reason
    assert against_release(store, "other", "pi", NEW) == NO_RELEASE


def test_a_release_of_a_file_that_was_measured_in_an_earlier_build(store: ProfileStore):
    build = build_number(1)
    store.add(profile_of(timed(1.0, 1), artifact_sha256=build.sha256s[0]), Origin("kws", "pi", "9" * 64, ships=True))
    mark_release(store.database, build, "v1")
    found = against_release(store, "kws", "pi", NEW)
    assert found == compare(profile_of(timed(1.0, 1)), NEW)


@pytest.fixture
def bundle(draft_of, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "dist", "quickstart", draft_of())


def test_marking_a_bundle_keeps_its_profiles_once(store: ProfileStore, bundle: Path):
    found, added = mark_bundle(store, bundle, "v1.2")
    digest = read_manifest(bundle).content_digest
    assert (found.name, found.build, added) == ("v1.2", digest, 2)
    assert mark_bundle(store, bundle, "v1.2") == (found, 0)
    lines = read_history(store.database)
    assert [(line.artifact, line.precision, line.build, line.recipe, line.ships) for line in lines[::-1]] == [
        ("model.onnx", "int8", digest, "quickstart", True),
        ("model.fp32.onnx", "fp32", digest, "quickstart", True),
    ]
    assert len(store.get(lines[1].id).samples_ms) == 2000


def test_a_profile_that_is_there_already_is_told_its_build(store: ProfileStore, draft_of, bundle: Path):
    key = store.add(draft_of().full_profiles[0], Origin("quickstart", "jetson-orin-nano"))
    found, added = mark_bundle(store, bundle)
    assert added == 1
    assert found.name == found.build[:12]
    assert {line.build for line in read_history(store.database) if line.id == key} == {found.build}
