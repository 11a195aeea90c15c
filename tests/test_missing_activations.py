"""Neurons that do not always fire (experts): every statistic of theirs is that of the rows on which they did."""

from __future__ import annotations

import numpy as np
import pytest
import skillneurons as sn
import torch
from scipy import stats
from skillneurons.exchange import exchange
from skillneurons.intervals import bootstrap_effects
from skillneurons.null import permutation_null, replicated
from skillneurons.spool import ActivationRows
from skillneurons.statistics import FEWEST_FIRED, PearsonAccumulator, products, standardised_where_fired


def rows_with_gaps(n: int = 120, neurons: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return activations of which the neurons fire on half to all rows, and values of which some are not scored."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(n, 3))
    a = 50 + rng.normal(size=(n, neurons)) + np.outer(v[:, 0], np.linspace(-1, 1, neurons))
    for neuron in range(1, neurons):
        a[rng.random(n) < neuron / (2 * neurons), neuron] = np.nan
    v[rng.random(n) < 0.2, 1] = np.nan
    return a, v


def scipys(a: np.ndarray, v: np.ndarray) -> np.ndarray:
    found = np.full((v.shape[1], a.shape[1]), np.nan)
    for c in range(v.shape[1]):
        for n in range(a.shape[1]):
            both = ~np.isnan(a[:, n]) & ~np.isnan(v[:, c])
            found[c, n] = stats.pearsonr(a[both, n], v[both, c]).statistic
    return found


def test_r_is_scipys_over_the_rows_where_both_are_there() -> None:
    a, v = rows_with_gaps()
    expected = scipys(a, v)
    whole = PearsonAccumulator(6, 3, missing=True).update(a, v)
    np.testing.assert_allclose(whole.result(), expected, rtol=1e-9)
    merged = PearsonAccumulator(6, 3, missing=True)
    for start in range(0, 120, 17):
        merged.merge(PearsonAccumulator(6, 3, missing=True).update(a[start : start + 17], v[start : start + 17]))
    np.testing.assert_allclose(merged.result(), expected, rtol=1e-9)
    tensors = PearsonAccumulator(6, 3, missing=True)
    for start in range(0, 120, 40):
        tensors.update(torch.from_numpy(a[start : start + 40]), torch.from_numpy(v[start : start + 40]))
    np.testing.assert_allclose(tensors.result(), expected, rtol=1e-9)


def test_a_neuron_seen_late_and_one_that_fires_too_rarely() -> None:
    rng = np.random.default_rng(1)
    a, v = rng.normal(size=(300, 3)) + 1e6, rng.normal(size=(300, 1))
    a[:150, 1] = np.nan  # fires in the second half alone
    a[FEWEST_FIRED - 1 :, 2] = np.nan
    found = PearsonAccumulator(3, 1, missing=True)
    for start in range(0, 300, 100):
        found.update(a[start : start + 100], v[start : start + 100])
        found.result()  # nothing waits: every part is merged
    expected = scipys(a[:, :2], v)
    np.testing.assert_allclose(found.result()[:, :2], expected, rtol=1e-6)
    assert np.isnan(found.result()[0, 2])


def test_nan_is_refused_where_every_neuron_must_fire() -> None:
    a, v = rows_with_gaps()
    with pytest.raises(sn.UserError, match="activations hold NaN or infinity"):
        PearsonAccumulator(6, 3).update(a, v)
    with pytest.raises(sn.UserError, match="a column has no single mean"):
        PearsonAccumulator(6, 3, missing=True).update(a, v).mean_and_sd()


def test_permuted_products_are_the_correlations_of_permuted_values() -> None:
    a, v = rows_with_gaps()
    form = PearsonAccumulator.linear_form(a, v[:, 0])
    assert form.fired is not None
    rng = np.random.default_rng(2)
    orders = np.stack([rng.permutation(120) for _ in range(5)])
    found = products(form.y[orders], form.x, form.fired)
    for row, order in zip(found, orders, strict=True):
        np.testing.assert_allclose(row, scipys(a, v[order, :1])[0], rtol=1e-9)
    x, fired = standardised_where_fired(a)
    assert np.array_equal(fired, ~np.isnan(a)) and (x[np.isnan(a)] == 0).all()


def test_the_null_is_that_of_single_correlations() -> None:
    a, v = rows_with_gaps(seed=3)
    kept = ActivationRows(120, 1, 6)
    kept.put(range(120), a.astype(np.float32))
    groups = [str(i) for i in range(120)]
    (null,) = permutation_null(
        kept, v[:, :1], groups, PearsonAccumulator.linear_form, n_permutations=99, seed=5, t_distribution=True
    )
    orders = exchange(v[:, 0], groups, 99, 5).orders
    by_order = np.abs(np.stack([scipys(a, v[order, :1])[0] for order in orders]))
    assert null.threshold == pytest.approx(np.quantile(by_order.max(axis=1), 0.95, method="higher"), abs=1e-5)
    observed = np.abs(scipys(a, v[:, :1])[0])
    expected = (1 + (by_order.max(axis=1)[:, None] >= observed - 2e-6).sum(axis=0)) / 100
    np.testing.assert_allclose(null.p_adjusted, expected)
    raw = [stats.pearsonr(a[~np.isnan(a[:, n]), n], v[~np.isnan(a[:, n]), 0]).pvalue for n in range(6)]
    np.testing.assert_allclose(null.p_raw, raw, rtol=1e-2, atol=1e-6)
    again = replicated(
        a.astype(np.float32),
        np.sign(scipys(a, v[:, :1])[0]),
        v[:, 0],
        groups,
        PearsonAccumulator.linear_form,
        n_permutations=99,
        seed=6,
    )
    assert again.n is not None and 1 <= again.n <= 6


def test_bootstrap_of_neurons_with_gaps_is_r_of_the_drawn_rows() -> None:
    a, v = rows_with_gaps(seed=4)
    groups = [str(i // 2) for i in range(120)]
    found = bootstrap_effects(a, v[:, 0], groups, n_resamples=60, seed=7)
    drawn = []
    from scipy.stats import bootstrap

    def keep(groups_drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn.append(groups_drawn.copy())
        return groups_drawn.mean(axis=axis)

    bootstrap(
        (np.arange(60),),
        keep,
        n_resamples=60,
        vectorized=True,
        method="percentile",
        batch=250,
        rng=np.random.default_rng(7),
    )
    resamples = next(one for one in drawn if one.ndim == 2 and len(one) == 60)
    for i, chosen in enumerate(resamples):
        rows = np.concatenate([[2 * group, 2 * group + 1] for group in chosen])
        np.testing.assert_allclose(found.resamples[:, i], scipys(a[rows], v[rows, :1])[0], rtol=1e-6)
