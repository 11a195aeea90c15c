"""Statistics other than Pearson's: against scipy, against their written definition, in any split and order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skillneurons as sn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skillneurons.plugins.auroc import AurocAccumulator
from skillneurons.plugins.grad_x_activation import GradXActivationAccumulator
from skillneurons.plugins.mean_difference import MeanDifferenceAccumulator
from skillneurons.plugins.predictivity import PredictivityAccumulator
from skillneurons.plugins.spearman import SpearmanAccumulator

NAMES = ("mean_difference", "predictivity", "auroc", "spearman", "grad_x_activation")


def made(name: str, n_neurons: int, n_columns: int, baseline: np.ndarray | None = None) -> Any:
    accumulator = sn.get_attribution(name)(n_neurons, n_columns)
    if name == "predictivity":
        accumulator.set_baseline(np.zeros(n_neurons) if baseline is None else baseline)
    return accumulator


def data(seed: int = 0, rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Activations with ties and a constant neuron; columns of 0 and 1, with gaps, of one class, of numbers."""
    rng = np.random.default_rng(seed)
    a = np.round(rng.normal(size=(rows, 5)), 1)
    a[:, 4] = 0.25
    v = np.stack([rng.integers(0, 2, rows), rng.integers(0, 2, rows), np.ones(rows), rng.normal(size=rows)], axis=1)
    v[::6, 1] = np.nan
    a[:, 0] += v[:, 0]
    return a, v


def test_all_are_registered() -> None:
    assert {*NAMES, "pearson"} <= set(sn.load_registry().attributions)


@pytest.mark.parametrize("column", [0, 1])
def test_against_scipy_and_the_written_definitions(column: int) -> None:
    a, v = data()
    baseline = np.linspace(-0.2, 0.2, 5)
    found = {name: made(name, 5, 4, baseline).update(a, v).result()[column] for name in NAMES}
    used = ~np.isnan(v[:, column])
    x, y = a[used], v[used, column]
    for n in range(4):
        one, zero = x[y == 1, n], x[y == 0, n]
        pooled = np.sqrt(((len(one) - 1) * one.var(ddof=1) + (len(zero) - 1) * zero.var(ddof=1)) / (len(x) - 2))
        assert found["mean_difference"][n] == pytest.approx((one.mean() - zero.mean()) / pooled, abs=1e-10)
        area = stats.mannwhitneyu(one, zero).statistic / (len(one) * len(zero))
        assert found["auroc"][n] == pytest.approx(area, abs=1e-12)
        assert found["spearman"][n] == pytest.approx(stats.spearmanr(x[:, n], y).statistic, abs=1e-12)
        right = ((one > baseline[n]).mean() + (zero <= baseline[n]).mean()) / 2
        assert found["predictivity"][n] == pytest.approx(max(right, 1 - right), abs=1e-12)
        assert found["grad_x_activation"][n] == pytest.approx(x[:, n].mean(), abs=1e-12)


def test_spearman_of_numbers_is_scipys() -> None:
    a, v = data()
    rho = made("spearman", 5, 4).update(a, v).result()[3]
    for n in range(4):
        assert rho[n] == pytest.approx(stats.spearmanr(a[:, n], v[:, 3]).statistic, abs=1e-12)


def test_four_rows_by_hand() -> None:
    a, v = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[0.0], [1.0], [0.0], [1.0]])
    # pairs (1, 0): 2 > 1, 2 < 3, 4 > 1, 4 > 3, so three of four
    assert made("auroc", 1, 1).update(a, v).result()[0, 0] == 0.75
    assert made("auroc", 1, 1).update(a, v).effect()[0, 0] == 0.5
    # means 3 and 2, both variances 2
    assert made("mean_difference", 1, 1).update(a, v).result()[0, 0] == pytest.approx(1 / np.sqrt(2))
    # above 2.5: one of two ones, one of two zeros
    assert made("predictivity", 1, 1, np.array([2.5])).update(a, v).result()[0, 0] == 0.5
    # above 1.5: both ones, one of two zeros
    high = made("predictivity", 1, 1, np.array([1.5])).update(a, v)
    assert (high.result()[0, 0], high.effect()[0, 0]) == (0.75, 0.5)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), cuts=st.lists(st.integers(1, 59), max_size=5))
def test_any_split_and_order_gives_the_same(name: str, seed: int, cuts: list[int]) -> None:
    a, v = data(seed)
    edges = [0, *sorted(set(cuts)), 60]
    parts = [made(name, 5, 4).update(a[i:j], v[i:j]) for i, j in zip(edges, edges[1:], strict=False)]
    np.random.default_rng(seed).shuffle(parts)  # type: ignore[arg-type]
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    whole = made(name, 5, 4).update(a, v)
    np.testing.assert_allclose(merged.result(), whole.result(), atol=1e-9)
    np.testing.assert_array_equal(merged.counts, (~np.isnan(v)).sum(axis=0))


@pytest.mark.parametrize("name", ["mean_difference", "predictivity", "auroc"])
def test_one_class_and_other_values_are_undefined(name: str) -> None:
    a, v = data()
    found = made(name, 5, 4).update(a, v).result()
    assert np.isnan(found[2:]).all() and np.isfinite(found[:2, :4]).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "grad_x_activation"])
def test_a_constant_neuron_is_undefined(name: str) -> None:
    a, v = data()
    accumulator = made(name, 5, 4).update(a, v)
    assert np.isnan(accumulator.result()[:, 4]).all() and np.isnan(accumulator.effect()[:, 4]).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_and_no_scored_rows_are_undefined(name: str) -> None:
    assert np.isnan(made(name, 2, 3).result()).all()
    assert np.isnan(made(name, 2, 3).update(np.ones((4, 2)), np.full((4, 3), np.nan)).result()).all()


@pytest.mark.parametrize("name", NAMES)
def test_other_shapes_are_refused(name: str) -> None:
    with pytest.raises(sn.UserError, match=r"activations must be \(rows, 2\) and values \(rows, 1\)"):
        made(name, 2, 1).update(np.zeros((3, 2)), np.zeros((4, 1)))
    with pytest.raises(sn.UserError, match="cannot merge accumulators of 2 x 1 and 3 x 1"):
        made(name, 2, 1).merge(made(name, 3, 1))


@pytest.mark.parametrize("offset", [1, 1e4, 1e8])
def test_a_large_mean_costs_the_mean_difference_nothing(offset: float) -> None:
    a, v = data(3)
    a[:, :4] = np.random.default_rng(3).normal(size=(60, 4)) + offset
    found = MeanDifferenceAccumulator(5, 4)
    for start in range(0, 60, 7):
        found.update(a[start : start + 7], v[start : start + 7])
    x = a.astype(np.longdouble)
    one, zero = x[v[:, 0] == 1], x[v[:, 0] == 0]
    squares = ((one - one.mean(0)) ** 2).sum(0) + ((zero - zero.mean(0)) ** 2).sum(0)
    d = (one.mean(0) - zero.mean(0))[:4] / np.sqrt(squares[:4] / (len(x) - 2))
    np.testing.assert_allclose(found.result()[0, :4], d.astype(float), atol=1e-9)


def test_predictivity_needs_its_baseline() -> None:
    with pytest.raises(sn.UserError, match="predictivity needs the mean activations on train first: call set_baseline"):
        PredictivityAccumulator(1, 1).update([[1.0]], [[1.0]])
    with pytest.raises(sn.UserError, match=r"the baseline must have 2 means, got shape \(3,\)"):
        PredictivityAccumulator(2, 1).set_baseline(np.zeros(3))


def test_what_each_asks_of_the_harness() -> None:
    assert PredictivityAccumulator.baseline_split == "train"
    assert GradXActivationAccumulator.gradient and not hasattr(GradXActivationAccumulator, "linear_form")
    assert SpearmanAccumulator.t_distribution and not getattr(AurocAccumulator, "t_distribution", False)


@pytest.mark.parametrize("size", [1, 7, 101])
def test_perfect_separation_is_undefined_in_any_batching(size: int) -> None:
    label = np.r_[np.zeros(50), np.ones(51)]
    a = label[:, None] * np.array([0.1, 0.7, 1.3, 3.0, -2.1]) + np.array([1.0, 0.3, 17.0, 0.1, 5.0])
    sums = MeanDifferenceAccumulator(5, 1)
    for start in range(0, 101, size):
        sums.update(a[start : start + size], label[start : start + size, None])
    assert np.isnan(sums.result()).all()


def test_predictivity_of_two_baselines_does_not_merge() -> None:
    one, other = (made("predictivity", 1, 1, np.array([mean])) for mean in (0.0, 100.0))
    with pytest.raises(sn.UserError, match="cannot merge predictivity of two baselines"):
        one.merge(other)
