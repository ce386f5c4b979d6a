"""Choosing samples: what each method promises, on clusters of which two are rare."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from edgekit.data.selection import (
    choose_indices,
    class_balanced,
    dataset_bins,
    greedy_graph_cut,
    k_centre,
    normalised,
    sample_bins,
    similarity_sums,
    with_range_guard,
)
from edgekit.errors import DataError
from edgekit.schema.calibration import Choose

Floats = NDArray[np.float64]


def _clusters(sizes: tuple[int, ...] = (900, 90, 10), seed: int = 0) -> Floats:
    """Directions around as many centres, in eight dimensions."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(len(sizes), 8)) * 2
    rows = [centre + generator.normal(size=(size, 8)) * 0.5 for centre, size in zip(centres, sizes, strict=True)]
    return np.concatenate(rows)


def _similarity(one: Floats, other: Floats) -> float:
    return float(0.5 + 0.5 * one @ other)


def test_bins_are_disjoint_and_cover_all() -> None:
    for count, bins in ((1000, 10), (103, 10), (10, 10), (7, 10)):
        found = dataset_bins(_clusters()[:count], bins)
        assert len(found) == bins
        assert sorted(np.concatenate(found).tolist()) == list(range(count))
        assert [len(members) for members in found[:-1]] == [count // bins] * (bins - 1)


def test_every_sample_is_as_likely_as_every_other() -> None:
    bins = dataset_bins(_clusters((90, 9, 4)), 10)  # 103 samples and a share of 17 that is whole in no bin
    draws = 2000
    hits = np.bincount(np.concatenate([sample_bins(bins, 17, seed) for seed in range(draws)]), minlength=103)
    expected = draws * 17 / 103
    # a sample is in a set or not: its count has variance expected * (1 - 17 / 103), below a Poisson's
    statistic = ((hits - expected) ** 2 / (expected * (1 - 17 / 103))).sum()
    assert 0.001 < stats.chi2.sf(statistic, 103 - 1) < 0.999


def test_sums_of_similarities_are_those_of_all_pairs() -> None:
    features = normalised(_clusters((40, 5, 2)))
    wanted = [sum(_similarity(a, b) for b in features) for a in features]
    np.testing.assert_allclose(similarity_sums(features), wanted, atol=1e-6)


def test_each_pick_has_the_largest_gain_computed_anew() -> None:
    features = normalised(_clusters((40, 5, 2)))
    picks = greedy_graph_cut(features, 12).tolist()
    for turn, pick in enumerate(picks):
        taken = picks[:turn]
        gains = {
            x: sum(_similarity(features[p], features[x]) for p in range(len(features)))
            - 2 * sum(_similarity(features[q], features[x]) for q in taken)
            for x in range(len(features))
            if x not in taken
        }
        assert gains[pick] == pytest.approx(max(gains.values()), abs=1e-9)


def test_a_bin_is_filled_from_what_the_bins_before_left() -> None:
    features = normalised(_clusters((40, 5, 2)))
    first, second, *_ = dataset_bins(features, 4)
    assert first.tolist() == greedy_graph_cut(features, 11).tolist()
    rest = np.delete(np.arange(47), first)
    assert second.tolist() == rest[greedy_graph_cut(features[rest], 11)].tolist()


def test_the_first_sample_is_the_most_central_and_the_last_bin_holds_the_rare() -> None:
    bins = dataset_bins(_clusters((900, 90, 10)), 10)
    assert bins[0][0] < 900
    rare = [np.isin(members, np.arange(990, 1000)).sum() for members in bins]
    assert rare[0] == 0


def test_one_bin_is_plain_random_sampling() -> None:
    (whole,) = dataset_bins(_clusters(), 1)
    assert whole.tolist() == list(range(1000))
    generator = np.random.default_rng(5)
    generator.random()  # what the rounding of shares draws
    assert sample_bins([whole], 30, 5).tolist() == generator.permutation(1000)[:30].tolist()


def test_a_choice_is_the_same_for_a_seed_and_another_for_another() -> None:
    features, labels = _clusters(), np.arange(1000) % 7
    for method in ("random", "class-balanced", "k-centre", "dataset-quantization"):
        one, again, other = (
            choose_indices(Choose(method=method, count=40, seed=seed), features, labels).tolist() for seed in (1, 1, 2)
        )
        assert one == again, method
        assert one != other, method
        assert len(set(one)) == 40, method


def test_any_prefix_takes_bins_in_proportion() -> None:
    bins = [np.arange(0, 40), np.arange(40, 60), np.arange(60, 100)]
    chosen = sample_bins(bins, 50, 3)
    for length in range(1, 51):
        counts = np.histogram(chosen[:length], [0, 40, 60, 100])[0]
        assert np.abs(counts - length * np.array([0.4, 0.2, 0.4])).max() <= 1.0, length


def _distance_to_nearest(features: Floats, chosen: NDArray[np.int64]) -> float:
    unit = normalised(features)
    return float((1 - unit @ unit[chosen].T).min(1).mean())


def test_bins_cover_better_than_chance_on_average() -> None:
    """Stratified sampling: slightly below, and only averaged over many seeds."""
    features = _clusters()
    bins = dataset_bins(features, 10)
    binned = [_distance_to_nearest(features, sample_bins(bins, 30, seed)) for seed in range(200)]
    random = [
        _distance_to_nearest(features, choose_indices(Choose(count=30, seed=seed), None, np.zeros(1000, np.int64)))
        for seed in range(200)
    ]
    assert 0.9 * np.mean(random) < np.mean(binned) < np.mean(random)


def test_k_centre_reaches_every_cluster_and_its_radius_is_within_twice_the_best() -> None:
    features = _clusters((900, 90, 10))
    chosen = k_centre(features, 5, 0)
    assert {int(np.searchsorted([900, 990], index, side="right")) for index in chosen} == {0, 1, 2}
    small = normalised(_clusters((12, 3, 2)))
    distances = np.linalg.norm(small[:, None] - small[None], axis=2)
    greedy = distances[:, k_centre(small, 3, 0)].min(1).max()
    best = min(
        distances[:, [a, b, c]].min(1).max() for a in range(17) for b in range(a + 1, 17) for c in range(b + 1, 17)
    )
    assert best <= greedy <= 2 * best + 1e-12


def test_k_centre_takes_always_what_lies_farthest() -> None:
    unit = normalised(_clusters((30, 3)))
    chosen = k_centre(unit, 8, 4)
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    for turn in range(1, 8):
        nearest = distances[:, chosen[:turn]].min(1)
        assert nearest[chosen[turn]] == pytest.approx(nearest.max(), abs=1e-7)


def test_copies_are_chosen_once_each() -> None:
    features = np.repeat(_clusters((5,)), 4, axis=0)
    assert sorted(k_centre(features, 20, 0).tolist()) == list(range(20))


def test_features_of_zeros_are_no_nan() -> None:
    features = np.zeros((10, 3))
    features[3] = 1.0
    assert np.isfinite(similarity_sums(normalised(features))).all()
    assert sorted(np.concatenate(dataset_bins(features, 3)).tolist()) == list(range(10))


def test_classes_get_equal_shares_and_a_small_one_gives_all() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 4])
    chosen = class_balanced(labels, 30, 0)
    assert np.bincount(labels[chosen]).tolist() == [13, 13, 4]
    assert len(set(chosen.tolist())) == 30
    for length in range(1, 13):
        shares = np.bincount(labels[chosen[:length]], minlength=3)
        assert shares.max() - shares.min() <= 1


def test_a_class_balanced_choice_is_random_within_a_class() -> None:
    labels = np.repeat([0, 1], [100, 100])
    hits = np.bincount(np.concatenate([class_balanced(labels, 20, seed) for seed in range(1000)]), minlength=200)
    assert 0.001 < stats.chi2.sf((((hits - 100) ** 2) / (100 * 0.9)).sum(), 198) < 0.999


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        choose_indices(Choose(count=11), None, np.zeros(10, np.int64))
    assert "11" in caught.value.what
    assert "10" in caught.value.what


def test_a_guard_is_the_sample_at_the_quantile_and_takes_the_place_of_the_last() -> None:
    magnitudes = np.tile(np.arange(2000.0)[:, None], (1, 3))  # every activation grows with the index
    magnitudes[7, 1] = 1e6  # a freak: it is above the 99.9th percentile and is left out
    chosen = with_range_guard(np.arange(100), magnitudes)
    # of 2,000 sorted values the one at place 1,998 (of 1 to 2,000): 1,997, and 1,998 where the freak took a place
    assert chosen.tolist() == [*range(98), 1997, 1998]


def test_guards_are_few_and_not_doubled() -> None:
    generator = np.random.default_rng(0)
    magnitudes = generator.normal(size=(500, 60))
    chosen = with_range_guard(np.arange(40), magnitudes)
    assert len(set(chosen.tolist())) == 40
    assert chosen[:38].tolist() == list(range(38))
    guards = np.bincount(np.argsort(magnitudes, axis=0)[499], minlength=500)
    assert sorted(guards[chosen[38:]]) == sorted(np.sort(guards)[-2:])
    whole = with_range_guard(np.arange(500), magnitudes)
    assert sorted(whole.tolist()) == list(range(500))
