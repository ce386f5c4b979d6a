"""What a build leaves in the history, and what a later build is told from it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekit.pipeline.measure import Measured
from edgekit.pipeline.remember import find_regressions, remember_build, remember_profiles
from edgekit.profiling.compare import compare
from edgekit.release.bundle import read_manifest, write_bundle
from edgekit.schema.gates import NO_RELEASE, Bound, Gates
from edgekit.store.builds import read_builds
from edgekit.store.history import read_history
from edgekit.store.profiles import ProfileStore
from edgekit.store.released import mark_bundle
from tests.edgekit.store.made import hours_before, profile_of, timed

INT8, FLOAT = "a" * 64, "f" * 64


@pytest.fixture
def history(tmp_path: Path):
    with ProfileStore(tmp_path / "profiles.sqlite") as store:
        yield store


def plan(**gates: Bound) -> Any:
    return SimpleNamespace(
        recipe=SimpleNamespace(recipe=SimpleNamespace(name="quickstart")),
        target=SimpleNamespace(target=SimpleNamespace(name="jetson-orin-nano")),
        gates=Gates(**gates),
    )


def exported(sha256: str, precision: str) -> Any:
    return SimpleNamespace(row=SimpleNamespace(sha256=sha256, precision=precision))


def measured(level_ms: float = 1.0, hours: float = 1) -> Measured:
    at = hours_before(hours)
    mine = profile_of(timed(level_ms, 0), artifact_sha256=INT8, measured_at=at)
    other = profile_of(timed(2.0, 1), artifact="model.float.onnx", artifact_sha256=FLOAT, measured_at=at)
    return Measured(profiles=(mine,), references=(other,))


def test_profiles_know_where_they_come_from_and_which_build_they_are_of(history, draft_of, tmp_path: Path):
    variants = [exported(INT8, "int8"), exported(FLOAT, "fp32")]
    keys = remember_profiles(history, plan(), variants, measured(), "c" * 40)
    assert {line.build for line in read_history(history.database)} == {None}
    manifest = read_manifest(write_bundle(tmp_path / "dist", "quickstart", draft_of()))
    remember_build(history, manifest, keys, "c" * 40)
    lines = {line.artifact: line for line in read_history(history.database)}
    for name, precision, ships in (("model.onnx", "int8", True), ("model.float.onnx", "fp32", False)):
        line = lines[name]
        assert (line.precision, line.ships) == (precision, ships)
        assert (line.recipe, line.target) == ("quickstart", "jetson-orin-nano")
        assert (line.build, line.git_commit) == (manifest.content_digest, "c" * 40)
    (build,) = read_builds(history.database)
    assert (build.digest, build.git_commit) == (manifest.content_digest, "c" * 40)


def test_what_was_measured_is_held_against_the_last_release(history, draft_of, tmp_path: Path):
    asking = plan(latency_regression=Bound(at_most=0.05))
    assert find_regressions(history, plan(), measured()) == {}
    assert find_regressions(history, asking, measured()) == {"model.onnx": NO_RELEASE}
    keys = remember_profiles(history, asking, [], measured(hours=5), None)
    bundle = write_bundle(tmp_path / "dist", "quickstart", draft_of(full_profiles=()))
    remember_build(history, read_manifest(bundle), keys, None)
    mark_bundle(history, bundle, "v1")
    slower = measured(1.3)
    remember_profiles(history, asking, [], slower, None)  # as a build does, before it asks
    found = find_regressions(history, asking, slower)
    assert found == {"model.onnx": compare(measured().profiles[0], slower.profiles[0])}
    assert found["model.onnx"].change == pytest.approx(0.3)
