"""Bootstrap intervals against a plain loop on the drawn rows, and their coverage on known truth."""

from __future__ import annotations

import numpy as np
import pytest
from skillneurons.intervals import bootstrap_effects, percentiles
from skillneurons.plugins.spearman import SpearmanAccumulator
from skillneurons.statistics import PearsonAccumulator


def data(n_groups: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), size)
    shared = rng.normal(size=n_groups)[groups]
    v = shared + rng.normal(size=len(groups))
    a = np.stack([v + rng.normal(size=len(groups)), rng.normal(size=len(groups)) + 1e3], axis=1)
    return a, v, [str(group) for group in groups]


@pytest.mark.parametrize("size", [1, 4])
def test_resamples_equal_corrcoef_on_their_rows(size: int) -> None:
    a, v, groups = data(24, size)
    found = bootstrap_effects(a, v, groups, n_resamples=40, seed=7)
    # scipy draws group numbers with this generator, in batches; a resample is the rows of its groups
    drawn = np.random.default_rng(7).integers(0, 24, (40, 24))
    for b, choice in enumerate(drawn):
        rows = np.concatenate([np.flatnonzero(np.array(groups) == str(group)) for group in choice])
        for n in range(2):
            assert found.resamples[n, b] == pytest.approx(np.corrcoef(a[rows, n], v[rows])[0, 1], abs=1e-9)
    low, high = np.quantile(found.resamples, [0.025, 0.975], axis=1)
    np.testing.assert_allclose([found.low, found.high], [low, high])


def test_any_other_statistic_is_taken_anew() -> None:
    a, v, groups = data(20, 2)
    again = bootstrap_effects(a, v, groups, SpearmanAccumulator, n_resamples=30, seed=1)
    drawn = np.random.default_rng(1).integers(0, 20, (30, 20))
    rows = np.concatenate([np.flatnonzero(np.array(groups) == str(group)) for group in drawn[3]])
    expected = SpearmanAccumulator(2, 1).update(a[rows], v[rows, None]).result()[0]
    np.testing.assert_allclose(again.resamples[:, 3], expected)


def test_rows_without_a_value_are_left_out() -> None:
    a, v, groups = data(30, 2)
    missing = v.copy()
    missing[::7] = np.nan
    used = ~np.isnan(missing)
    one = bootstrap_effects(a, missing, groups, n_resamples=50, seed=3)
    two = bootstrap_effects(
        a[used], v[used], [g for g, u in zip(groups, used, strict=True) if u], n_resamples=50, seed=3
    )
    np.testing.assert_array_equal(one.resamples, two.resamples)


def test_the_groups_and_the_seed_alone_decide_what_is_drawn() -> None:
    """So that the mean over prompt seeds has an interval: other activations, the same resamples."""
    a, v, groups = data(25, 3)
    one = bootstrap_effects(a, v, groups, n_resamples=60, seed=3)
    two = bootstrap_effects(a[:, ::-1] * 5 + 2, v, groups, n_resamples=60, seed=3)
    np.testing.assert_allclose(one.resamples, two.resamples[::-1], atol=1e-10)


def test_grouped_data_need_wider_intervals_than_rows_would_have() -> None:
    rng = np.random.default_rng(4)
    shared, other = rng.normal(size=(2, 15))
    groups = np.repeat(np.arange(15), 20)
    v, a = shared[groups], other[groups, None] + 0.1 * rng.normal(size=(300, 1))
    by_group = bootstrap_effects(a, v, [str(g) for g in groups], n_resamples=300, seed=0)
    by_row = bootstrap_effects(a, v, [str(i) for i in range(300)], n_resamples=300, seed=0)
    assert (by_group.high - by_group.low)[0] > 2 * (by_row.high - by_row.low)[0]


def test_coverage_is_near_95_percent() -> None:
    truth, hits = 0.5, 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        v = rng.normal(size=150)
        a = truth * v + np.sqrt(1 - truth**2) * rng.normal(size=150)
        found = bootstrap_effects(a[:, None], v, [str(i) for i in range(150)], n_resamples=300, seed=seed)
        hits += found.low[0] <= truth <= found.high[0]
    assert 88 <= hits <= 99


def test_too_little_says_how_much_would_do() -> None:
    a, v, groups = data(4, 3)
    assert bootstrap_effects(a, v, groups, n_resamples=50, seed=0).reason == (
        "4 groups on heldout: an interval needs at least 5"
    )
    a, v, groups = data(9, 3)
    assert bootstrap_effects(a, v, groups, n_resamples=0, seed=0).reason == (
        "0 resamples: 1000 are usual (attribution.bootstrap)"
    )


def test_a_constant_neuron_and_rare_values_are_undefined() -> None:
    a, v, groups = data(20, 1)
    a[:, 1] = 0.1
    found = bootstrap_effects(a, v, groups, n_resamples=50, seed=0)
    assert np.isnan(found.low[1]) and np.isfinite(found.low[0])
    rare = np.zeros(20)
    rare[3] = 1  # a third of the resamples misses it
    assert np.isnan(bootstrap_effects(a, rare, groups, n_resamples=200, seed=0).low).all()


def test_percentiles_pass_over_a_few_undefined_resamples() -> None:
    resamples = np.arange(100.0)
    resamples[::25] = np.nan
    low, high = percentiles(resamples[None])
    assert (low[0], high[0]) == pytest.approx(np.nanquantile(resamples, [0.025, 0.975]))
    resamples[::10] = np.nan
    assert np.isnan(percentiles(resamples[None])[0])


def test_large_offsets_cost_no_precision() -> None:
    a, v, groups = data(40, 2)
    one = bootstrap_effects(a, v, groups, PearsonAccumulator, n_resamples=50, seed=0)
    two = bootstrap_effects(a + 1e8, v + 1e8, groups, PearsonAccumulator, n_resamples=50, seed=0)
    np.testing.assert_allclose(one.resamples, two.resamples, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("high", [0.7, 1.0])
def test_undefined_resamples_are_found_as_by_taking_each_anew(seed: int, high: float) -> None:
    rng = np.random.default_rng(seed)
    groups = [f"g{i // 5}" for i in range(150)]
    values = np.zeros(150)
    values[:10] = high  # two groups of thirty: some resamples have neither
    a = rng.normal(3, 1, size=(150, 2))
    a[:, 1] = np.where(np.arange(150) < 5, 2.0, 0.1)  # a neuron that differs in one group
    fast = bootstrap_effects(a, values, groups, n_resamples=200, seed=seed)

    class Anew(PearsonAccumulator):
        pass

    slow = bootstrap_effects(a, values, groups, Anew, n_resamples=200, seed=seed)
    assert (np.isnan(fast.resamples) == np.isnan(slow.resamples)).all() and np.isnan(fast.resamples).any()
    np.testing.assert_allclose(fast.low, slow.low, atol=1e-9)
