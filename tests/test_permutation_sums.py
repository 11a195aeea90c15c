"""Permutation sums of parts against numpy over all rows: any partition, any order, NaN, constant columns."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import skillneurons as sn
from hypothesis import given, settings
from hypothesis import strategies as st
from skillneurons.exchange import exchange
from skillneurons.null import permutation_null
from skillneurons.permutation_sums import Permutations, PermutationSums
from skillneurons.spool import ActivationRows
from skillneurons.statistics import FEWEST_FIRED, PearsonAccumulator, products, standardised

B = 19


def parts_of(n_rows: int, seed: int, n_parts: int) -> list[np.ndarray]:
    """Return a partition of the rows, parts in any order, some of them perhaps empty."""
    of = np.random.default_rng(seed).integers(0, n_parts, n_rows)
    return [np.flatnonzero(of == part) for part in np.random.default_rng(seed + 1).permutation(n_parts)]


def from_parts(a: np.ndarray, permutations: Permutations, parts: list[np.ndarray]) -> list[PermutationSums]:
    found = [permutations.sums(a[rows], rows, permutations.of_rows(rows)) for rows in parts]
    first, *rest = found
    for other in rest:
        for mine, theirs in zip(first, other, strict=True):
            mine.merge(theirs)
    return first


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.sampled_from([1.0, 1e-3, 1e4]), st.booleans())
def test_any_partition_gives_numpys_r(seed: int, n_parts: int, offset: float, grouped: bool) -> None:
    rng = np.random.default_rng(seed)
    n, neurons = int(rng.integers(20, 90)), 5
    a = (rng.normal(size=(n, neurons)) + offset * rng.normal(size=neurons)).astype(np.float32)
    a[:, 3] = np.float32(offset)  # constant
    values = rng.normal(size=(n, 3)) + 100
    values[rng.random(n) < 0.3, 1] = np.nan
    groups = [str(i // 2 if grouped else i) for i in range(n)]
    permutations = Permutations(values, groups, B, seed)
    sums = from_parts(a, permutations, parts_of(n, seed, n_parts))
    for (scored, columns), one in zip(permutations.shares, sums, strict=True):
        found = one.result().reshape(len(columns), -1, neurons)
        assert one.rows_fired().tolist() == [scored.sum()] * neurons
        for column, r in zip(columns, found, strict=True):
            v = values[scored, column]
            kept = [group for group, used in zip(groups, scored, strict=True) if used]
            orders = exchange(v, kept, B, seed).orders
            assert len(r) == 1 + len(orders)
            for own, order in zip(r, [np.arange(len(v)), *orders], strict=True):
                for neuron in range(neurons):
                    if neuron == 3:
                        assert np.isnan(own[neuron])
                        continue
                    x = a[scored, neuron].astype(np.float64)
                    assert own[neuron] == pytest.approx(np.corrcoef(x, v[order])[0, 1], abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_experts_that_did_not_fire_are_left_out_pair_by_pair(seed: int, n_parts: int) -> None:
    rng = np.random.default_rng(seed)
    n, neurons = 120, 4
    a = rng.normal(size=(n, neurons)).astype(np.float32)
    a[rng.random((n, neurons)) < 0.4] = np.nan
    a[:, 1] = np.where(np.arange(n) < FEWEST_FIRED - 1, a[:, 2], np.nan)  # too rare
    a[:, 3] = rng.normal(size=n)  # always there
    values = rng.normal(size=(n, 1))
    permutations = Permutations(values, [str(i) for i in range(n)], B, seed)
    (sums,) = from_parts(a, permutations, parts_of(n, seed, n_parts))
    form = PearsonAccumulator.linear_form(a, values[:, 0])
    orders = exchange(values[:, 0], permutations.groups, B, seed).orders
    with np.errstate(invalid="ignore"):
        expected = products(np.concatenate([form.y[None], form.y[orders]]), form.x, form.fired)
    np.testing.assert_allclose(sums.result(), expected, atol=1e-12)
    assert np.isnan(sums.result()[:, 1]).all() and not np.isnan(sums.result()[:, 3]).any()
    assert sums.rows_fired().tolist() == (~np.isnan(a)).sum(axis=0).tolist()


def test_values_that_are_constant_where_a_neuron_fired_have_no_relation_to_it() -> None:
    a = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    a[40:, 0] = np.nan
    y = np.r_[np.zeros(40), np.arange(40.0)]
    found = PermutationSums(2, 1).update(a, standardised(y[:, None])).result()
    assert found[0, 0] == 0 and abs(found[0, 1]) > 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(5)))
def test_the_order_of_merging_does_not_matter(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    a, y = rng.normal(size=(50, 3)).astype(np.float32), standardised(rng.normal(size=(50, 4)))
    parts = np.array_split(rng.permutation(50), 5)

    def merged(numbers: list[int]) -> np.ndarray:
        sums = PermutationSums(3, 4)
        for i in numbers:
            sums.merge(PermutationSums(3, 4).update(a[parts[i]], y[parts[i]]))
        return sums.result()

    np.testing.assert_allclose(merged(order), merged(list(range(5))), atol=1e-13)
    np.testing.assert_allclose(merged(order), PermutationSums(3, 4).update(a, y).result(), atol=1e-13)


def test_nothing_and_one_row_are_no_relation() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(PermutationSums(2, 3).result()).all()
        one = PermutationSums(2, 3).update(np.ones((1, 2), np.float32), np.ones((1, 3)))
        assert np.isnan(one.merge(PermutationSums(2, 3)).result()).all()
    with pytest.raises(
        sn.UserError, match="^cannot merge permutation sums of 2 neurons x 3 orders and 2 neurons x 4$|and 2 x 4$"
    ):
        PermutationSums(2, 3).merge(PermutationSums(2, 4))


def test_columns_scored_on_the_same_rows_share_their_sums_and_names_tell_permutations_apart() -> None:
    values = np.arange(12.0).reshape(4, 3)
    values[1, 1] = np.nan
    permutations = Permutations(values, list("abcd"), B, 0)
    assert [(mask.tolist(), columns) for mask, columns in permutations.shares] == [
        ([True] * 4, [0, 2]),
        ([True, False, True, True], [1]),
    ]
    others = [
        Permutations(values + 1, list("abcd"), B, 0),
        Permutations(values, list("abce"), B, 0),
        Permutations(values, list("abcd"), B + 1, 0),
        Permutations(values, list("abcd"), B, 1),
    ]
    names = {one.name for one in [permutations, *others]}
    assert len(names) == 5 and Permutations(values.copy(), list("abcd"), B, 0).name in names


def test_the_observed_effect_of_a_null_of_rows_is_within_float32_of_the_sums() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=(200, 1, 30)).astype(np.float32)
    v = rng.normal(size=(200, 1))
    rows = ActivationRows(*a.shape)
    rows.put(range(200), a[:, 0])
    groups = [str(i) for i in range(200)]
    (null,) = permutation_null(rows, v, groups, PearsonAccumulator.linear_form, n_permutations=B, seed=0)
    permutations = Permutations(v, groups, B, 0)
    (sums,) = from_parts(a[:, 0], permutations, parts_of(200, 0, 3))
    np.testing.assert_allclose(null.largest, np.abs(sums.result()[1:]).max(axis=1), atol=1e-6)
