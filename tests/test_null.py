"""The null against a plain loop over permutations with numpy.corrcoef, and against scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from skillneurons.exchange import exchange
from skillneurons.null import benjamini_hochberg, permutation_null, replicated, smallest_useful, t_p_values
from skillneurons.plugins.auroc import AurocAccumulator
from skillneurons.plugins.mean_difference import MeanDifferenceAccumulator
from skillneurons.plugins.predictivity import PredictivityAccumulator
from skillneurons.plugins.spearman import SpearmanAccumulator
from skillneurons.spool import ActivationRows
from skillneurons.statistics import PearsonAccumulator

B = 99


def kept(activations: np.ndarray, **options: Any) -> ActivationRows:
    """Keep (rows, positions, neurons), put in two batches out of order."""
    rows = ActivationRows(*activations.shape, **options)
    order = np.random.default_rng(0).permutation(len(activations))
    for part in np.array_split(order, 2):
        rows.put(part.tolist(), activations[part].reshape(len(part), -1))
    return rows


def plain_null(a: np.ndarray, v: np.ndarray, groups: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return observed |r| (neurons,) and the largest |r| of each permutation, one corrcoef at a time."""
    used = ~np.isnan(v)
    a, v = a[used], v[used]
    orders = exchange(v, [g for g, u in zip(groups, used, strict=True) if u], B, seed).orders
    observed = np.array([abs(np.corrcoef(a[:, n], v)[0, 1]) for n in range(a.shape[1])])
    largest = [max(abs(np.corrcoef(a[:, n], v[order])[0, 1]) for n in range(a.shape[1])) for order in orders]
    return observed, np.array(largest)


@pytest.mark.parametrize("scheme", ["rows", "rows within groups", "whole groups", "whole groups and rows within them"])
def test_equals_a_plain_loop(scheme: str) -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(80, 1, 7)).astype(np.float32)
    groups = [str(i) for i in range(80)] if scheme == "rows" else [str(i // 4) for i in range(80)]
    if scheme == "rows within groups":  # sizes 5 to 11 and 24: no group has a partner
        groups = [str(i) for i, size in enumerate([*range(5, 12), 24]) for _ in range(size)]
    v = rng.normal(size=(80, 2))
    if scheme == "whole groups":
        v = np.repeat(v[:20], 4, axis=0)
    a[:, 0, 3] += 2 * v[:, 0].astype(np.float32)
    if scheme == "rows":
        v[::9, 1] = np.nan
    nulls = permutation_null(
        kept(a), v, groups, PearsonAccumulator.linear_form, n_permutations=B, seed=5, thresholds=(0.1, 0.3)
    )
    for column, null in enumerate(nulls):
        observed, largest = plain_null(a[:, 0], v[:, column], groups, 5)
        assert null.scheme == scheme and null.n_permutations == B
        np.testing.assert_allclose(null.largest, largest, atol=1e-6)
        p = (1 + (largest[:, None] >= observed - 1e-6).sum(axis=0)) / (B + 1)
        np.testing.assert_allclose(null.p_adjusted, p, atol=1e-12)
        assert null.n_fwer == (p <= 0.05).sum()
        assert null.threshold == pytest.approx(np.quantile(largest, 0.95, method="higher"), abs=1e-6)
    assert nulls[0].p_adjusted is not None and nulls[0].p_adjusted.argmin() == 3


def test_several_positions_count_by_their_strongest() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(60, 3, 4)).astype(np.float32)
    v = rng.normal(size=(60, 1))
    groups = [str(i) for i in range(60)]
    (null,) = permutation_null(kept(a), v, groups, PearsonAccumulator.linear_form, n_permutations=B, seed=1)
    observed, largest = plain_null(a.reshape(60, 12), v[:, 0], groups, 1)
    np.testing.assert_allclose(null.largest, largest, atol=1e-6)
    strongest = observed.reshape(3, 4).max(axis=0)
    np.testing.assert_allclose(null.p_adjusted, (1 + (largest[:, None] >= strongest - 1e-6).sum(0)) / (B + 1))


def test_counts_above_a_level_are_means_over_permutations() -> None:
    rng = np.random.default_rng(4)
    a, v = rng.normal(size=(40, 1, 6)).astype(np.float32), rng.normal(size=(40, 1))
    groups = [str(i) for i in range(40)]
    (null,) = permutation_null(
        kept(a), v, groups, PearsonAccumulator.linear_form, n_permutations=B, seed=1, thresholds=(0.2,)
    )
    orders = exchange(v[:, 0], groups, B, 1).orders
    counts = [sum(abs(np.corrcoef(a[:, 0, n], v[order, 0])[0, 1]) >= 0.2 for n in range(6)) for order in orders]
    assert null.above == [pytest.approx(np.mean(counts))]


def test_raw_p_values_are_scipys() -> None:
    rng = np.random.default_rng(5)
    a, v = rng.normal(size=(50, 1, 5)).astype(np.float32), rng.normal(size=(50, 1))
    groups = [str(i) for i in range(50)]
    (null,) = permutation_null(
        kept(a), v, groups, PearsonAccumulator.linear_form, n_permutations=B, seed=1, t_distribution=True
    )
    expected = [stats.pearsonr(a[:, 0, n], v[:, 0]).pvalue for n in range(5)]
    np.testing.assert_allclose(null.p_raw, expected, rtol=1e-4)
    assert null.n_fdr == (stats.false_discovery_control(expected) <= 0.05).sum()
    assert t_p_values(np.array([1.0, 0.0]), 10).tolist() == [0.0, 1.0]


def test_benjamini_hochberg_is_scipys() -> None:
    for seed in range(20):
        p = np.random.default_rng(seed).beta(0.3, 2, size=40)
        assert benjamini_hochberg(p) == (stats.false_discovery_control(p) <= 0.05).sum()
    assert benjamini_hochberg(np.array([])) == 0


def test_a_pooled_p_counts_the_null_of_all_neurons() -> None:
    rng = np.random.default_rng(6)
    a = rng.normal(size=(60, 1, 5)).astype(np.float32)
    v, groups = np.tile([0.0, 1.0, 2.0], 20)[:, None], [str(i // 3) for i in range(60)]
    (null,) = permutation_null(
        kept(a), v, groups, PearsonAccumulator.linear_form, n_permutations=B, seed=1, t_distribution=True
    )
    orders = exchange(v[:, 0], groups, B, 1).orders
    pooled = np.array([[abs(np.corrcoef(a[:, 0, n], v[order, 0])[0, 1]) for n in range(5)] for order in orders])
    observed = np.array([abs(np.corrcoef(a[:, 0, n], v[:, 0])[0, 1]) for n in range(5)])
    expected = (1 + (pooled.ravel()[:, None] >= observed).sum(axis=0)) / (1 + pooled.size)
    np.testing.assert_allclose(null.p_raw, expected, atol=2 / pooled.size)  # a bin is 1/16384 wide


FORMS: list[tuple[str, Any, Callable[..., Any]]] = [
    ("pearson", PearsonAccumulator, lambda a, v, b: PearsonAccumulator(a.shape[1], 1).update(a, v).effect()),
    ("spearman", SpearmanAccumulator, lambda a, v, b: SpearmanAccumulator(a.shape[1], 1).update(a, v).effect()),
    ("auroc", AurocAccumulator, lambda a, v, b: AurocAccumulator(a.shape[1], 1).update(a, v).effect()),
    (
        "mean_difference",
        MeanDifferenceAccumulator,
        lambda a, v, b: MeanDifferenceAccumulator(a.shape[1], 1).update(a, v).effect(),
    ),
    ("predictivity", PredictivityAccumulator, lambda a, v, b: with_baseline(a, v, b).effect()),
]


def with_baseline(a: np.ndarray, v: np.ndarray, b: np.ndarray) -> PredictivityAccumulator:
    accumulator = PredictivityAccumulator(a.shape[1], 1)
    accumulator.set_baseline(b)
    return accumulator.update(a, v)


@pytest.mark.parametrize(("name", "factory", "effect"), FORMS, ids=[form[0] for form in FORMS])
def test_every_statistic_is_its_linear_form_under_any_permutation(name: str, factory: Any, effect: Any) -> None:
    rng = np.random.default_rng(7)
    a = np.round(rng.normal(size=(41, 6)), 1)
    a[:, 4] = 0.5  # constant: no effect is defined
    v = (rng.random((41, 1)) > 0.4).astype(float)
    b = a.mean(axis=0)
    form = factory.linear_form(a, v[:, 0], b)
    for _ in range(5):
        order = rng.permutation(41)
        expected = effect(a, v[order], b)[0]
        found = form.link(form.x.T @ form.y[order])
        np.testing.assert_allclose(found, expected, atol=1e-12)
        assert np.isnan(found[4]) and np.isfinite(found[[0, 1, 2, 3, 5]]).all()


@pytest.mark.parametrize("name", ["auroc", "mean_difference", "predictivity"])
def test_a_statistic_of_two_classes_says_where_it_is_undefined(name: str) -> None:
    factory = {form[0]: form[1] for form in FORMS}[name]
    a, v = np.random.default_rng(8).normal(size=(30, 1, 3)).astype(np.float32), np.arange(30.0)[:, None]
    groups = [str(i) for i in range(30)]
    (null,) = permutation_null(kept(a), v, groups, factory.linear_form, n_permutations=B, seed=0, baseline=np.zeros(3))
    assert null.reason == "the statistic is defined for no neuron" and null.n_fwer is None


def test_what_cannot_be_tested_says_why() -> None:
    a = np.random.default_rng(9).normal(size=(10, 1, 3)).astype(np.float32)
    groups = [str(i) for i in range(10)]
    v = np.full((10, 3), np.nan)
    v[:2, 0] = [0, 1]
    v[:, 1] = 1.0
    v[:, 2] = np.arange(10)

    def reasons(n: int) -> list[str]:
        form = PearsonAccumulator.linear_form
        return [null.reason for null in permutation_null(kept(a), v, groups, form, n_permutations=n, seed=0)]

    assert reasons(99) == ["2 scored examples: a null needs at least 3", "the column is constant", ""]
    zero = "0 permutations: at least 19 are needed for p = 0.05; 200 are usual (attribution.permutations)"
    assert reasons(0) == [zero] * 3
    assert smallest_useful() == 19


def test_a_column_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(10)
    a, v = rng.normal(size=(70, 1, 1500)).astype(np.float32), rng.normal(size=(70, 5))
    groups = [str(i) for i in range(70)]

    def null_of(columns: list[int]) -> Any:
        form = PearsonAccumulator.linear_form
        return permutation_null(kept(a), v[:, columns], groups, form, n_permutations=B, seed=0)[-1]

    one, many = null_of([4]), null_of([0, 1, 2, 3, 4])
    assert one.largest.tobytes() == many.largest.tobytes() and one.p_raw.tobytes() == many.p_raw.tobytes()


def test_a_file_holds_the_rows_where_memory_does_not() -> None:
    rng = np.random.default_rng(11)
    a, v = rng.normal(size=(40, 2, 30)).astype(np.float32), rng.normal(size=(40, 1))
    groups = [str(i) for i in range(40)]
    small, large = (
        permutation_null(kept(a, **o), v, groups, PearsonAccumulator.linear_form, n_permutations=B, seed=0)[0]
        for o in ({"in_memory": 0}, {})
    )
    assert small.largest is not None and large.largest is not None
    assert small.largest.tobytes() == large.largest.tobytes()


def test_replication_is_one_sided_and_among_the_chosen_alone() -> None:
    rng = np.random.default_rng(12)
    v = rng.normal(size=100)
    a = rng.normal(size=(100, 3)).astype(np.float32)
    a[:, 0] += v
    a[:, 1] -= v  # strong, but with the other sign than on discovery
    groups = [str(i) for i in range(100)]
    form = PearsonAccumulator.linear_form
    again = replicated(a, np.array([1.0, 1.0, 1.0]), v, groups, form, n_permutations=B, seed=0)
    assert again.n == 1
    assert replicated(a, np.array([1.0, -1.0, 1.0]), v, groups, form, n_permutations=B, seed=0).n == 2
    assert replicated(a[:, :0], np.empty(0), v, groups, form, n_permutations=B, seed=0).n == 0
    refused = replicated(
        a, np.ones(3), np.repeat([0.0, 1.0], 50), ["a"] * 50 + ["b"] * 50, form, n_permutations=B, seed=0
    )
    assert refused.n is None and refused.reason.startswith("heldout: 2 distinct arrangements of whole groups")


def test_without_survivors_a_refusal_is_still_told() -> None:
    values = np.repeat([0.0, 1.0], [4, 4])
    groups = [str(i // 4) for i in range(8)]
    found = replicated(
        np.empty((8, 0), dtype=np.float32),
        np.empty(0),
        values,
        groups,
        PearsonAccumulator.linear_form,
        n_permutations=99,
        seed=0,
    )
    assert found.n is None
    assert found.reason == "heldout: 2 distinct arrangements of whole groups of one size, fewer than 99 permutations"
