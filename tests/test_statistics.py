from __future__ import annotations

import numpy as np
import pytest
import skillneurons as sn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skillneurons.statistics import ranking


def two_pass(a: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Correlate by the textbook formula in extended precision, NaN rows of a column dropped."""
    r = np.full((v.shape[1], a.shape[1]), np.nan)
    for c in range(v.shape[1]):
        rows = ~np.isnan(v[:, c])
        x = v[rows, c].astype(np.longdouble)
        x -= x.mean()
        y = a[rows].astype(np.longdouble)
        y -= y.mean(axis=0)
        r[c] = (x @ y) / np.sqrt((x @ x) * (y * y).sum(axis=0))
    return r


def test_three_rows_by_hand() -> None:
    # a = 1, 2, 3 and v = 1, 3, 2: cov = 1/3, sd^2 = 2/3 and 2/3, so r = 1/2
    r = sn.PearsonAccumulator(1, 1).update([[1.0], [2.0], [3.0]], [[1.0], [3.0], [2.0]]).result()
    assert r == pytest.approx(np.array([[0.5]]), abs=1e-15)


def test_equals_scipy_and_point_biserial() -> None:
    rng = np.random.default_rng(0)
    a, v = rng.normal(size=(200, 5)), rng.normal(size=(200, 3))
    v[:, 2] = v[:, 2] > 0
    r = sn.PearsonAccumulator(5, 3).update(a, v).result()
    for c in range(3):
        for n in range(5):
            assert r[c, n] == pytest.approx(stats.pearsonr(v[:, c], a[:, n]).statistic, abs=1e-12)
    assert r[2, 0] == pytest.approx(stats.pointbiserialr(v[:, 2], a[:, 0]).statistic, abs=1e-12)


@pytest.mark.parametrize("ratio", [1, 1e2, 1e4, 1e6, 1e8])
def test_large_mean_over_sd_keeps_nine_digits(ratio: float) -> None:
    rng = np.random.default_rng(1)
    v = rng.normal(size=(500, 2))
    a = rng.normal(size=(500, 6)) + v[:, :1] + ratio
    accumulator = sn.PearsonAccumulator(6, 2)
    for start in range(0, 500, 37):
        accumulator.update(a[start : start + 37], v[start : start + 37])
    np.testing.assert_allclose(accumulator.result(), two_pass(a, v), atol=1e-9, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    cuts=st.lists(st.integers(1, 119), max_size=8),
    drift=st.floats(0, 1e6),
    missing=st.floats(0, 0.6),
)
def test_any_split_and_merge_tree_gives_the_same(seed: int, cuts: list[int], drift: float, missing: float) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(120, 4)) + np.linspace(0, drift, 120)[:, None]
    v = rng.normal(size=(120, 3)) + a[:, :3] / (1 + drift)
    v[rng.random((120, 3)) < missing] = np.nan
    edges = [0, *sorted(set(cuts)), 120]
    parts = [sn.PearsonAccumulator(4, 3).update(a[i:j], v[i:j]) for i, j in zip(edges, edges[1:], strict=False)]
    rng.shuffle(parts)  # type: ignore[arg-type]
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    np.testing.assert_allclose(merged.result(), two_pass(a, v), atol=1e-9, rtol=0)
    np.testing.assert_array_equal(merged.counts, (~np.isnan(v)).sum(axis=0))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    cuts=st.lists(st.integers(1, 119), max_size=30),
    ratio=st.floats(0, 8),
    drift=st.floats(0, 5),
    tree=st.integers(0, 2**16),
)
def test_mean_over_sd_up_to_1e8_in_any_merge_tree(
    seed: int, cuts: list[int], ratio: float, drift: float, tree: int
) -> None:
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(120, 3)) + 10**ratio
    a = rng.normal(size=(120, 4)) + np.linspace(0, drift, 120)[:, None] + v[:, :1]
    edges = [0, *sorted(set(cuts)), 120]
    parts = [sn.PearsonAccumulator(4, 3).update(a[i:j], v[i:j]) for i, j in zip(edges, edges[1:], strict=False)]
    order = np.random.default_rng(tree)
    while len(parts) > 1:  # merge two at random until one is left: any tree
        one, two = sorted(order.choice(len(parts), size=2, replace=False))
        other = parts.pop(two)
        parts[one].merge(other)
    np.testing.assert_allclose(parts[0].result(), two_pass(a, v), atol=1e-9, rtol=0)


def test_merging_into_an_empty_one_and_with_unseen_columns() -> None:
    rng = np.random.default_rng(3)
    a, v = rng.normal(size=(30, 2)) + 1e8, rng.normal(size=(30, 2)) + 1e8
    v[:10, 0] = v[20:, 1] = np.nan
    merged = sn.PearsonAccumulator(2, 2)
    for start in (0, 10, 20):
        merged.merge(sn.PearsonAccumulator(2, 2).update(a[start : start + 10], v[start : start + 10]))
    merged.merge(sn.PearsonAccumulator(2, 2))
    np.testing.assert_allclose(merged.result(), two_pass(a, v), atol=1e-9, rtol=0)
    assert np.isnan(sn.PearsonAccumulator(2, 2).result()).all()
    mean, sd = merged.mean_and_sd()
    np.testing.assert_allclose([mean, sd], [np.nanmean(v, axis=0), np.nanstd(v, axis=0)], rtol=1e-12)


def test_not_scored_rows_count_for_their_column_alone() -> None:
    a = np.array([[1.0], [2.0], [3.0], [40.0]])
    v = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [np.nan, -9.0]])
    accumulator = sn.PearsonAccumulator(1, 2).update(a, v)
    r = accumulator.result()
    assert r[0, 0] == pytest.approx(1.0) and r[1, 0] < 0
    assert accumulator.counts.tolist() == [3, 4]


def test_no_variance_is_nan_and_never_ranked() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(50, 3))
    a[:, 1] = np.float32(0.1)
    v = np.stack([rng.normal(size=50), np.full(50, 0.7)], axis=1)
    r = sn.PearsonAccumulator(3, 2).update(a, v).result()
    assert np.isnan(r[0, 1]) and np.isnan(r[1]).all() and np.isfinite(r[0, [0, 2]]).all()
    assert ranking(r[0], 10).tolist() == sorted([0, 2], key=lambda n: -abs(r[0, n]))
    assert ranking(r[1], 10).size == 0


def test_one_scored_row_gives_nan() -> None:
    assert np.isnan(sn.PearsonAccumulator(1, 1).update([[1.0]], [[2.0]]).result()).all()


def test_ranking_breaks_ties_by_index() -> None:
    assert ranking(np.array([0.5, -0.9, 0.9, np.nan, 0.5]), 4).tolist() == [1, 2, 0, 4]


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(sn.UserError) as error:
        sn.PearsonAccumulator(2, 1).update(np.zeros((3, 2)), np.zeros((4, 1)))
    assert str(error.value) == (
        "activations must be (rows, 2) and values (rows, 1) of the same rows, got (3, 2) and (4, 1)"
    )


def test_overflowed_activations_are_refused() -> None:
    with pytest.raises(sn.UserError, match="load it in float32"):
        sn.PearsonAccumulator(1, 1).update([[np.inf], [1.0]], [[0.0], [1.0]])


def test_merging_other_shapes_is_refused() -> None:
    with pytest.raises(sn.UserError, match="cannot merge accumulators of 1 x 1 and 2 x 1"):
        sn.PearsonAccumulator(1, 1).merge(sn.PearsonAccumulator(2, 1))


def test_two_rows_are_too_few() -> None:
    accumulator = sn.PearsonAccumulator(2, 1).update(np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([[0.0], [1.0]]))
    assert np.isnan(accumulator.result()).all()


def test_the_last_place_of_float32_is_no_variance() -> None:
    a = np.full((40, 1), 0.3, dtype=np.float32)
    v = (np.arange(40) % 2).astype(np.float64)[:, None]
    a[1::2] = np.nextafter(np.float32(0.3), np.float32(1))
    assert np.isnan(sn.PearsonAccumulator(1, 1).update(a, v).result()).all()
    assert np.isnan(sn.PearsonAccumulator.linear_form(a, v[:, 0]).x).all()
    assert sn.PearsonAccumulator(1, 1).update(a.astype(np.float64), v).result() == pytest.approx(
        1.0
    )  # told apart there
    merged = sn.PearsonAccumulator(1, 1).merge(sn.PearsonAccumulator(1, 1).update(a, v))
    assert np.isnan(merged.result()).all()
