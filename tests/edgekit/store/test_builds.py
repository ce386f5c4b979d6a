from datetime import datetime

import pytest

from edgekit.errors import StoreError
from edgekit.schema.manifest import ArtifactMetric, BoardMetricRow
from edgekit.store.builds import (
    BuiltArtifact,
    build_of,
    mark_release,
    read_build,
    read_build_lines,
    read_builds,
    read_releases,
    record_build,
)
from edgekit.store.history import Wanted, read_history
from edgekit.store.profiles import Origin, ProfileStore
from tests.edgekit.store.made import build_number, profile_of

METRIC = ArtifactMetric(value=0.98, runtime="onnxruntime 1.2", stand_in=True)


def test_a_build_is_read_as_it_was_recorded_and_its_profiles_know_it(store: ProfileStore):
    mine, other = store.add(profile_of(), Origin("kws", "pi")), store.add(profile_of())
    artifacts = (BuiltArtifact("model.onnx", "a" * 64, 3 * 2**31, "int8", {"top1": METRIC}),)
    build = build_number(1, artifacts=artifacts, git_commit=None)
    record_build(store.database, build, [mine])
    assert read_build(store.database, build.digest) == build
    assert read_build(store.database, "f" * 64) is None
    assert [line.id for line in read_history(store.database, Wanted(build=build.digest))] == [mine]
    assert read_history(store.database)[0].id == other


def test_the_same_content_built_again_is_the_same_build(store: ProfileStore):
    first = build_number(1)
    record_build(store.database, first)
    key = store.add(profile_of())
    record_build(store.database, build_number(5, digest=first.digest), [key])
    assert read_builds(store.database) == (first,)
    assert read_history(store.database)[0].build == first.digest


def test_builds_of_a_recipe_for_a_target_oldest_first(store: ProfileStore):
    for build in (build_number(3), build_number(1), build_number(2, target="jetson"), build_number(4, recipe="x")):
        record_build(store.database, build)
    numbers = [int(build.digest[0]) for build in read_builds(store.database, recipe="kws", target="pi")]
    assert numbers == [1, 3]
    assert len(read_builds(store.database)) == 4


def test_a_file_that_did_not_change_keeps_its_profile(store: ProfileStore):
    same = (
        BuiltArtifact("model.onnx", "a" * 64, 1, "int8", {}),
        BuiltArtifact("model.tflite", "b" * 64, 1, "int8", {}),
    )
    first = store.add(profile_of(), Origin("kws", "pi"))
    record_build(store.database, build_number(1, artifacts=same), [first])
    second = store.add(profile_of(artifact="model.tflite", artifact_sha256="b" * 64), Origin("kws", "pi"))
    record_build(store.database, build_number(2, artifacts=same), [second])
    assert {line.id for line in read_build_lines(store.database, "2" * 64)} == {first, second}
    again = store.add(profile_of(), Origin("kws", "pi", "2" * 64))
    assert {line.id for line in read_build_lines(store.database, "2" * 64)} == {again, second}
    assert read_build_lines(store.database, "3" * 64) == ()


def test_a_manifest_in_short(draft_of, tmp_path):
    from edgekit.release.bundle import read_manifest, write_bundle

    fields = {"device": "pi5", "stand_in": False, "runtime": "litert 2", "host_value": 0.9, "agreement_ratio": 1.0}
    row = BoardMetricRow(artifact="model.onnx", value=0.8, samples=40, max_abs_error=0.1, **fields)
    draft = draft_of(board_metrics=(row,))
    manifest = read_manifest(write_bundle(tmp_path / "dist", "quickstart", draft))
    build = build_of(manifest, "c" * 40, 5.0)
    assert (build.digest, build.recipe, build.target) == (manifest.content_digest, "quickstart", "jetson-orin-nano")
    assert (build.git_commit, build.verdict, build.made_s) == ("c" * 40, "fail", 5.0)
    assert [(row.path, row.size_bytes, row.precision) for row in build.artifacts] == [
        (row.path, row.size_bytes, row.precision) for row in manifest.artifacts
    ]
    assert build.artifacts[2].metrics["top1"].stand_in
    assert {name: metric.value for name, metric in build.artifacts[0].metrics.items()} == {
        "top1": 0.9811,
        "top1 on pi5, 40 samples": 0.8,
    }
    assert manifest.created_at is not None
    assert build_of(manifest).made_s == datetime.fromisoformat(manifest.created_at).timestamp()
    assert build_of(manifest.model_copy(update={"created_at": None})).made_s > 1e9


def test_the_last_release_is_the_one_that_was_marked_last(store: ProfileStore):
    for number, name in ((2, "v1"), (1, "v2"), (3, "v1")):
        mark_release(store.database, build_number(number, target="pi" if number < 3 else "jetson"), name)
    releases = read_releases(store.database, recipe="kws", target="pi")
    assert [(row.name, row.build[0]) for row in releases] == [("v2", "1"), ("v1", "2")]
    assert {row.target for row in read_releases(store.database, name="v1")} == {"pi", "jetson"}
    assert read_releases(store.database, recipe="other") == ()


def test_a_name_is_given_once(store: ProfileStore):
    first = mark_release(store.database, build_number(1), "v1")
    assert mark_release(store.database, build_number(1), "v1") == first
    with pytest.raises(StoreError) as caught:
        mark_release(store.database, build_number(2), "v1")
    assert caught.value.what == f"release 'v1' of kws for pi is build {'1' * 12}"
    assert len(read_releases(store.database)) == 1
