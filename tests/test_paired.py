"""Paired means: against scipy, by hand, and how often equal models are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from skillneurons.paired import PairedMean, paired_means

ALONE = [f"g{i}" for i in range(20)]


def differences(n: int = 20, k: int = 1, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (n, k))


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    d = differences(shift=0.4)
    (found,) = paired_means(d, ALONE, n_resamples=2000, seed=7)
    ours = stats.bootstrap(
        (d[:, 0],),
        np.mean,
        n_resamples=2000,
        method="percentile",
        batch=500,
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert found.difference == pytest.approx(d.mean())
    assert (found.low, found.high) == pytest.approx((ours.low, ours.high))
    assert (found.n, found.groups, found.reason) == (20, 20, "")


def test_p_is_that_of_all_sign_flips() -> None:
    d = differences(10, shift=0.5)
    zero = np.zeros(10)
    exact = stats.permutation_test(
        (d[:, 0], zero),
        lambda x, y, axis: (x - y).mean(axis=axis),
        vectorized=True,
        permutation_type="samples",
        n_resamples=np.inf,
    ).pvalue
    (found,) = paired_means(d, ALONE[:10], n_resamples=20000, seed=0)
    assert found.p == pytest.approx(exact, abs=0.008)


def test_whole_groups_change_places_and_are_drawn() -> None:
    # five groups of four equal examples: sums are +-4, and of the 32 sign patterns only the two of one sign reach 20
    d = np.ones((20, 1))
    groups = [f"g{i // 4}" for i in range(20)]
    (found,) = paired_means(d, groups, n_resamples=9999, seed=0)
    assert (found.difference, found.low, found.high, found.groups) == (1.0, 1.0, 1.0, 5)
    assert found.p == pytest.approx(2 / 32, abs=0.01)
    (alone,) = paired_means(d, ALONE, n_resamples=9999, seed=0)
    assert alone.p is not None and alone.p <= 0.001  # rows alone would claim far more


def test_a_resampled_mean_weighs_examples_not_groups() -> None:
    d = np.array([[1.0], [0.0], [0.0], [0.0], [0.0], [0.0]])
    (found,) = paired_means(d, ["a", "b", "b", "c", "d", "e"], n_resamples=500, seed=3)
    rng = np.random.default_rng(3)
    sums, sizes = np.array([1.0, 0, 0, 0, 0]), np.array([1, 2, 1, 1, 1])
    drawn = rng.integers(0, 5, (500, 5))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_examples_that_one_model_has_not_scored_are_left_out() -> None:
    d = differences(k=3)
    d[:5, 1], d[:, 2] = np.nan, np.nan
    whole, part, none = paired_means(d, ALONE, n_resamples=300, seed=0)
    assert whole == paired_means(d[:, :1], ALONE, n_resamples=300, seed=0)[0]
    assert part == paired_means(d[5:, 1:2], ALONE[5:], n_resamples=300, seed=0)[0]
    assert none == PairedMean(None, None, None, None, 0, 0, "no example is scored for both models")


def test_few_groups_give_a_difference_and_no_interval() -> None:
    (found,) = paired_means(np.ones((8, 1)), list("aabbccdd"), n_resamples=300, seed=0)
    assert found == PairedMean(1.0, None, None, None, 8, 4, "4 groups: a comparison needs at least 5")


def test_the_smallest_p_is_one_in_resamples_plus_one() -> None:
    (found,) = paired_means(np.ones((40, 1)), [f"g{i}" for i in range(40)], n_resamples=199, seed=0)
    assert found.p == 1 / 200


def test_equal_models_differ_in_five_of_a_hundred() -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{i // 3}" for i in range(120)]
    shared = np.repeat(rng.normal(size=(40, 400)), 3, axis=0)  # what examples of a group have in common
    apart = shared + rng.normal(size=(120, 400))
    found = paired_means(apart, groups, n_resamples=499, seed=0)
    by_p = sum(one.p <= 0.05 for one in found if one.p is not None)
    by_interval = sum(not one.low <= 0 <= one.high for one in found if one.low is not None and one.high is not None)
    assert stats.binomtest(by_p, 400, 0.05).pvalue > 0.01, by_p
    assert by_interval / 400 < 0.09  # the percentile interval of 40 groups is a little short
    naive = paired_means(apart, [str(i) for i in range(120)], n_resamples=499, seed=0)
    assert sum(one.p <= 0.05 for one in naive if one.p is not None) > 2 * by_p  # rows alone are not exchangeable
