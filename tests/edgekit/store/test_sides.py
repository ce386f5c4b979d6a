import json
from pathlib import Path

import pytest

from edgekit.errors import BundleError, DataError, StoreError
from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.store.builds import mark_release, record_build
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.sides import find_side, read_bundle
from tests.edgekit.store.made import build_number, hours_before, profile_of


@pytest.fixture
def filled(store: ProfileStore) -> ProfileStore:
    """Two builds: 1 measured on two devices, 2 on one; and a profile of no build."""
    for number, device in ((1, "bench"), (1, "other"), (2, "bench")):
        key = store.add(
            profile_of(artifact_sha256=f"{number}a" * 32, device=device, measured_at=hours_before(9 - number)),
            Origin("kws", "pi"),
        )
        record_build(store.database, build_number(number), [key])
    store.add(profile_of(artifact_sha256="1b" * 32))
    mark_release(store.database, build_number(2), "v1.2")
    return store


@pytest.mark.parametrize(
    ("given", "label", "build", "profiles"),
    [
        ("3", "profile 3", None, [3]),
        ("111111", "build 111111111111", "1", [1, 2]),
        ("1" * 64, "build 111111111111", "1", [1, 2]),
        ("1A1A1A", "artifact 1a1a1a1a1a1a", None, [1, 2]),
        ("1b1b1b1b", "artifact 1b1b1b1b1b1b", None, [4]),
        ("c2c2c2c2", "build 222222222222", "2", [3]),
        ("v1.2", "release v1.2", "2", [3]),
        ("111111@other", "build 111111111111 on other", "1", [2]),
    ],
)
def test_what_a_word_may_mean(filled: ProfileStore, given: str, label: str, build: str | None, profiles: list[int]):
    side = find_side(filled, given)
    assert side.label == label
    assert (side.build.digest[0] if side.build else None) == build
    assert sorted(entry.key or 0 for entry in side.entries) == profiles
    assert side.entries[0].load() == filled.get(side.entries[0].key or 0)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("7", "nothing is known by the name '7'"),
        ("abc", "nothing is known by the name 'abc'"),
        ("abcdef", "no build, artifact or commit begins with abcdef"),
        ("v1.2@mars", "v1.2 was not measured on 'mars'"),
    ],
)
def test_what_means_nothing_is_refused(filled: ProfileStore, given: str, what: str):
    with pytest.raises(DataError) as caught:
        find_side(filled, given)
    assert caught.value.what == what


def test_a_digest_that_begins_several_is_refused_with_their_names(filled: ProfileStore):
    filled.add(profile_of(artifact_sha256="1" * 63 + "0"))
    with pytest.raises(DataError) as caught:
        find_side(filled, "111111")
    assert caught.value.what == f"111111 is the beginning of artifact {'1' * 16}, build {'1' * 16}"
    mark_release(filled.database, build_number(3, target="jetson"), "v1.2")
    with pytest.raises(DataError, match=r"kws for jetson, kws for pi"):
        find_side(filled, "v1.2")


def test_a_commit_that_two_builds_were_made_at_is_not_enough(filled: ProfileStore):
    record_build(filled.database, build_number(3, git_commit="c2" * 20))
    with pytest.raises(DataError) as caught:
        find_side(filled, "c2c2c2")
    assert caught.value.what == f"c2c2c2 is the beginning of build {'2' * 16}, build {'3' * 16}"


@pytest.fixture
def bundle(draft_of, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "dist", "quickstart", draft_of())


def test_a_bundle_is_compared_by_what_lies_in_it(store: ProfileStore, bundle: Path):
    side = find_side(store, str(bundle))
    assert side.label == f"bundle {bundle}"
    assert side.build is not None
    assert side.build.digest == read_manifest(bundle).content_digest
    assert [(entry.artifact, entry.key, entry.ships) for entry in side.entries] == [
        ("model.onnx", None, True),
        ("model.fp32.onnx", None, True),
    ]
    assert [len(entry.load().samples_ms) for entry in side.entries] == [2000, 500]


def test_a_bundle_built_without_measuring_has_what_was_measured_of_its_content(
    store: ProfileStore, draft_of, tmp_path: Path
):
    bundle = write_bundle(tmp_path / "dist", "quickstart", draft_of(measured=False, full_profiles=()))
    assert find_side(store, str(bundle)).entries == ()
    key = store.add(profile_of(), Origin(build=read_manifest(bundle).content_digest))
    assert [entry.key for entry in find_side(store, str(bundle)).entries] == [key]


def test_an_altered_profile_in_a_bundle_is_refused(bundle: Path):
    path = bundle / "evidence" / "profiles" / "local.json"
    documents = json.loads(path.read_text())
    documents[0]["samples_ms"][0] = 0.5
    path.write_text(json.dumps(documents))
    with pytest.raises(BundleError) as caught:
        read_bundle(bundle)
    assert caught.value.what == "a file of profiles was altered"


def test_a_folder_that_is_no_bundle_is_refused(store: ProfileStore, tmp_path: Path):
    with pytest.raises(BundleError) as caught:
        find_side(store, str(tmp_path))
    assert caught.value.where == str(tmp_path)


def test_a_store_that_cannot_be_read_says_so(filled: ProfileStore):
    with filled.database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE releases")
    with pytest.raises(StoreError):
        find_side(filled, "v1.2")
