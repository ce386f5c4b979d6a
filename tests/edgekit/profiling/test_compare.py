import numpy as np
import pytest

from edgekit.profiling.compare import compare, differences
from edgekit.profiling.statistics import summarise
from edgekit.schema.profile import Conditions, MeasureSettings, Profile

AT = "2026-01-02T03:04:05.678+00:00"


def profile_of(samples: np.ndarray, **extra: object) -> Profile:
    stand_in_for = extra.pop("stand_in_for", None)
    return Profile(
        artifact="a.onnx",
        artifact_sha256="0" * 64,
        device="bench",
        stand_in=stand_in_for is not None,
        stand_in_for=stand_in_for,
        runtime="onnxruntime",
        runtime_version="1",
        agent_version="1",
        settings=MeasureSettings(),
        samples_ms=tuple(samples.tolist()),
        summary=summarise(samples.tolist()),
        conditions=Conditions(extra=dict(extra)),
        valid=stand_in_for is None,
        measured_at=AT,
    )


def noise(level: float, seed: int, count: int = 600, spread: float = 0.02) -> np.ndarray:
    return level * np.random.default_rng(seed).normal(1.0, spread, count)


def test_faster_slower_and_by_how_much():
    slow, fast = profile_of(noise(3.0, 0)), profile_of(noise(2.0, 1))
    found = compare(slow, fast)
    assert found.verdict == "faster"
    assert found.speedup == pytest.approx(1.5, abs=0.01)
    assert found.low < 1.5 < found.high
    back = compare(fast, slow)
    assert (back.verdict, back.speedup) == ("slower", pytest.approx(1 / found.speedup))


def test_the_speedup_is_the_ratio_of_the_p50s_shown():
    first, second = profile_of(noise(3.0, 2)), profile_of(noise(2.9, 3))
    assert compare(first, second).speedup == first.summary.p50_ms / second.summary.p50_ms


def test_no_significant_change_is_an_answer():
    assert compare(profile_of(noise(1.0, 4)), profile_of(noise(1.0, 5))).verdict == "no significant change"


def test_a_certain_change_of_one_per_cent_is_not_worth_a_word():
    found = compare(profile_of(noise(1.01, 6, spread=0.001)), profile_of(noise(1.0, 7, spread=0.001)))
    assert found.low > 1.0
    assert found.verdict == "no significant change"


def test_an_uncertain_change_is_none():
    """Half the blocks at each of two levels, in both: the medians differ by chance alone."""
    levels = np.repeat(np.random.default_rng(8).choice([1.0, 1.4], 30), 20)
    others = np.repeat(np.random.default_rng(9).choice([1.0, 1.4], 30), 20)
    found = compare(profile_of(noise(1.0, 8) * levels), profile_of(noise(1.0, 9) * others))
    assert found.verdict == "no significant change"
    assert found.high / found.low > 1.3


def test_rounds_of_one_job_are_compared_in_pairs_so_that_shared_drift_cancels():
    drift = np.repeat(np.linspace(1.0, 2.0, 15), 40)
    rounds = {"rounds": [40] * 15, "interleaved": ["a", "b"]}
    first, second = noise(1.1, 10) * drift, noise(1.0, 11) * drift
    paired = compare(profile_of(first, **rounds), profile_of(second, **rounds))
    alone = compare(profile_of(first), profile_of(second))
    assert (paired.interleaved, alone.interleaved) == (True, False)
    assert (paired.verdict, alone.verdict) == ("faster", "no significant change")
    assert paired.low < 1.1 < paired.high


def test_profiles_of_two_jobs_are_not_paired():
    rounds = {"rounds": [300, 300], "interleaved": ["a", "b"]}
    first, second = profile_of(noise(1.0, 12), **rounds), profile_of(noise(1.0, 13), **rounds)
    other = second.model_copy(update={"measured_at": "2026-01-02T04:00:00+00:00"})
    assert compare(first, second).interleaved
    assert not compare(first, other).interleaved


def test_a_stand_in_stays_labelled():
    real, stand_in = profile_of(noise(2.0, 14)), profile_of(noise(1.0, 15), stand_in_for="jetson-orin-nano")
    assert compare(real, stand_in).stand_in
    assert not compare(real, real).stand_in


def test_the_answer_is_the_same_every_time():
    first, second = profile_of(noise(1.0, 16)), profile_of(noise(1.05, 17))
    assert compare(first, second) == compare(first, second)


def test_change_is_the_other_side_of_speedup():
    found = compare(profile_of(noise(2.0, 18)), profile_of(noise(2.5, 19)))
    low, high = found.change_interval
    assert found.change == pytest.approx(0.25, abs=0.01)
    assert low < found.change < high
    assert (1 + low) * found.high == pytest.approx(1.0)


def test_a_tail_can_be_compared_where_the_median_has_not_moved():
    first, second = noise(1.0, 20, 3000), noise(1.0, 21, 3000)
    second[::20] *= 1.5  # one in twenty
    assert compare(profile_of(first), profile_of(second)).verdict == "no significant change"
    tail = compare(profile_of(first), profile_of(second), p=99)
    assert tail.verdict == "slower"
    assert tail.change == pytest.approx(0.45, abs=0.05)


def test_the_interval_covers_what_it_should():
    """Of 200 pairs drawn from two known distributions about 95 in 100 intervals hold their true ratio."""
    generator = np.random.default_rng(22)
    held = 0
    for _ in range(200):
        first, second = generator.normal(1.2, 0.05, (2, 300)) / np.array([[1.0], [1.2]])
        found = compare(profile_of(first), profile_of(second))
        held += found.low <= 1.2 <= found.high
    assert 0.88 <= held / 200 <= 0.99


@pytest.mark.parametrize(
    ("changes", "forbidding"),
    [
        ({"device": "other"}, ("device: bench, other",)),
        ({"runtime": "litert"}, ("runtime: onnxruntime, litert",)),
        ({"settings": MeasureSettings(threads=2)}, ("threads: 1, 2",)),
        ({"settings": MeasureSettings(batch=2, fps=30)}, ("batch: 1, 2", "fps: None, 30.0")),
        ({"stand_in_for": "jetson"}, ("stand-in for: nothing, jetson",)),
        ({"conditions": Conditions(extra={"identity": "2"})}, ("machine: 1, 2",)),
        ({"conditions": Conditions(power_mode="15W", extra={"identity": "1"})}, ("power mode: MAXN, 15W",)),
        ({"runtime_version": "2", "agent_version": "2"}, ()),
        ({"settings": MeasureSettings(duration_s=9, warmup_runs=1)}, ()),
        ({"conditions": Conditions()}, ()),
        ({"artifact": "b.onnx", "artifact_sha256": "1" * 64}, ()),
    ],
)
def test_what_forbids_a_comparison(changes: dict[str, object], forbidding: tuple[str, ...]):
    conditions = Conditions(power_mode="MAXN", extra={"identity": "1"})
    first = profile_of(noise(1.0, 23)).model_copy(update={"conditions": conditions})
    found = differences(first, first.model_copy(update=changes))
    assert found.forbidding == forbidding


def test_what_else_differs_is_noted():
    first = profile_of(noise(1.0, 24)).model_copy(update={"conditions": Conditions(governor="performance")})
    changes = {
        "runtime_version": "2",
        "settings": MeasureSettings(duration_s=9),
        "conditions": Conditions(governor="powersave"),
    }
    found = differences(first, first.model_copy(update=changes))
    assert found.noted == (
        "onnxruntime version: 1, 2",
        "governor: performance, powersave",
        "duration_s: 3.0, 9.0",
    )
