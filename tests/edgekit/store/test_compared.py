from typing import Any

import pytest

from edgekit.errors import DataError
from edgekit.profiling.compare import compare
from edgekit.schema.manifest import ArtifactMetric
from edgekit.store.builds import BuiltArtifact, record_build
from edgekit.store.compared import Compared, compare_sides
from edgekit.store.profiles import Origin, ProfileStore
from edgekit.store.sides import find_side
from tests.edgekit.store.made import build_number, hours_before, profile_of, stand_in, timed

FAST, SLOW = timed(1.0, 0), timed(1.2, 1)


def add(store: ProfileStore, number: int, samples: object = FAST, *, ships: bool = True, **changes: Any) -> int:
    """A profile of build `number`."""
    key = store.add(profile_of(samples, **changes), Origin("kws", "pi", ships=ships))
    record_build(store.database, build_number(number), [key])
    return key


def compared(store: ProfileStore, a: object, b: object, **options: Any) -> Compared:
    return compare_sides(find_side(store, str(a)), find_side(store, str(b)), **options)


def test_two_profiles_are_compared_by_their_samples(store: ProfileStore):
    first, second = add(store, 1), add(store, 2, SLOW)
    found = compared(store, first, second)
    (pair,) = found.latency
    assert pair.comparison == compare(profile_of(FAST), profile_of(SLOW))
    assert pair.comparison is not None
    assert pair.comparison.verdict == "slower"
    assert (pair.reference_id, pair.candidate_id, pair.not_judged) == (first, second, "")
    assert pair.slower_than(0.15)
    assert not pair.slower_than(0.2)  # 20 % lies inside the interval
    assert found.sizes == ()


def test_builds_are_compared_artifact_by_artifact_and_what_one_lacks_is_told(store: ProfileStore):
    add(store, 1)
    add(store, 1, artifact="model.tflite", runtime="litert")
    add(store, 1, device="other")
    add(store, 2, SLOW)
    add(store, 2, SLOW, artifact="model.tflite", runtime="litert")
    add(store, 2, artifact="model.float.onnx", ships=False)
    found = compared(store, "1" * 64, "2" * 64)
    assert [(pair.artifact, pair.candidate.runtime) for pair in found.latency] == [
        ("model.onnx", "onnxruntime"),
        ("model.tflite", "litert"),
    ]
    assert found.unpaired == (
        "only A has model.onnx on other in onnxruntime",
        "only B has model.float.onnx on bench in onnxruntime",
    )


def test_of_several_the_newest_valid_one_of_what_ships_counts(store: ProfileStore):
    add(store, 1, timed(3.0, 1), measured_at=hours_before(9))
    best = add(store, 1, measured_at=hours_before(5))
    add(store, 1, timed(5.0, 2), measured_at=hours_before(1), valid=False, reasons=("noisy",))
    add(store, 1, timed(7.0, 2), measured_at=hours_before(0.5), ships=False)
    other = add(store, 2)
    (pair,) = compared(store, "111111", other).latency
    assert pair.reference_id == best


def test_one_artifact_on_each_side_is_compared_whatever_it_is_called(store: ProfileStore):
    store.add(profile_of(FAST, artifact_sha256="d" * 64))
    store.add(profile_of(SLOW, artifact_sha256="e" * 64, artifact="model.float.onnx"))
    store.add(profile_of(SLOW, artifact_sha256="e" * 64, artifact="model.float.onnx", device="other"))
    found = compared(store, "dddddd", "eeeeee")
    assert [pair.artifact for pair in found.latency] == ["model.onnx, model.float.onnx"]
    assert found.unpaired == ("only B has model.float.onnx on other in onnxruntime",)


def test_what_differs_forbids_a_comparison_unless_one_insists(store: ProfileStore):
    first, second = add(store, 1), add(store, 2, SLOW, device="other", runtime="litert")
    (pair,) = compared(store, first, second).latency
    assert pair.comparison is None
    assert pair.forbidding == ("device: bench, other", "runtime: onnxruntime, litert")
    assert pair.not_judged == "not compared: device: bench, other; runtime: onnxruntime, litert"
    assert not pair.slower_than(0)
    (pair,) = compared(store, first, second, across=True).latency
    assert pair.comparison is not None
    assert pair.forbidding == ("device: bench, other", "runtime: onnxruntime, litert")
    assert not pair.slower_than(0)  # shown, but no ground to fail on


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (stand_in(), "B was measured on a stand-in"),
        ({"valid": False, "reasons": ("noisy",)}, "B is INVALID: noisy"),
    ],
)
def test_stand_ins_and_invalid_ones_are_not_judged(store: ProfileStore, changes: dict[str, Any], reason: str):
    first, second = add(store, 1), add(store, 2, SLOW, **changes)
    (pair,) = compared(store, first, second, across=True).latency
    assert pair.not_judged == reason
    assert not pair.slower_than(0)


def test_sizes_and_metrics_of_two_builds(store: ProfileStore):
    def artifacts(size: int, value: float | None, name: str = "model.onnx") -> BuiltArtifact:
        metrics = {} if value is None else {"top1": ArtifactMetric(value=value, runtime="ort", stand_in=False)}
        return BuiltArtifact(name, "a" * 64, size, "int8", metrics)

    before = (artifacts(100, 0.9), artifacts(7, None, "model.tflite"))
    record_build(store.database, build_number(1, artifacts=before))
    record_build(store.database, build_number(2, artifacts=(artifacts(80, 0.8),)))
    found = compared(store, "111111", "222222")
    assert found.latency == ()
    rows = [
        (row.artifact, row.reference_bytes, row.candidate_bytes, row.metric, row.reference_value, row.candidate_value)
        for row in found.sizes
    ]
    assert rows == [
        ("model.onnx", 100, 80, "top1", 0.9, 0.8),
        ("model.tflite", 7, None, "", None, None),
    ]


def test_sides_with_nothing_in_common_are_refused(store: ProfileStore):
    for sha, device in (("d", "bench"), ("d", "third"), ("e", "other"), ("e", "fourth")):
        store.add(profile_of(artifact_sha256=sha * 64, device=device))
    with pytest.raises(DataError) as caught:
        compared(store, "dddddd", "eeeeee")
    assert "model.onnx on bench in onnxruntime" in caught.value.what
    assert "model.onnx on other in onnxruntime" in caught.value.what
