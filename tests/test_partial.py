"""Partial r against the correlation of residuals (numpy's least squares), and streaming against one go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skillneurons.errors import UserError
from skillneurons.partial import PartialCorrelationAccumulator


def of_residuals(a: np.ndarray, v: np.ndarray, z: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(v)), z])
    left_v = v - design @ np.linalg.lstsq(design, v, rcond=None)[0]
    left_a = a - design @ np.linalg.lstsq(design, a, rcond=None)[0]
    return np.array([np.corrcoef(left_v, left_a[:, n])[0, 1] for n in range(a.shape[1])])


def data(seed: int = 0, rows: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    v = rng.normal(size=(rows, 4))
    v[:, 1] += v[:, 0]
    a = rng.normal(size=(rows, 5)) + v[:, :1] - 0.5 * v[:, 2:3]
    return a, v


CONTROLS = [(1, 2), (2,), (), (0, 1, 2)]


def test_equals_the_correlation_of_residuals() -> None:
    a, v = data()
    found = PartialCorrelationAccumulator(5, CONTROLS).update(a, v).result()
    for column, own in enumerate(CONTROLS):
        np.testing.assert_allclose(found[column], of_residuals(a, v[:, column], v[:, own]), atol=1e-12)


def test_three_variables_by_hand() -> None:
    # r_av = .5, r_az = .5, r_vz = .5 give (.5 - .25) / (1 - .25) = 1/3
    z = np.array([1.0, 1, -1, -1, 0, 0, 0, 0])
    basis = np.linalg.qr(np.column_stack([np.ones(8), z, np.arange(8.0) ** 2, np.arange(8.0) ** 3]))[0][:, 1:]
    e, f, g = basis.T
    v = 0.5 * e + np.sqrt(0.75) * f
    a = 0.5 * e + 0.25 / np.sqrt(0.75) * f + np.sqrt(0.75 - 1 / 12) * g
    found = PartialCorrelationAccumulator(1, [(1,), ()]).update(a[:, None], np.column_stack([v, e])).result()
    assert found[0, 0] == pytest.approx(1 / 3, abs=1e-12)


def test_rows_are_those_on_which_the_column_and_its_controls_are_scored() -> None:
    a, v = data()
    v[::5, 0] = np.nan
    v[1::7, 2] = np.nan
    found = PartialCorrelationAccumulator(5, CONTROLS).update(a, v).result()
    used = ~np.isnan(v[:, [0, 1, 2]]).any(axis=1)
    np.testing.assert_allclose(found[0], of_residuals(a[used], v[used, 0], v[used][:, [1, 2]]), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 89), max_size=6), offset=st.floats(0, 1e6), seed=st.integers(0, 99))
def test_any_split_and_order_gives_the_same(cuts: list[int], offset: float, seed: int) -> None:
    a, v = data(seed)
    a, v = a + offset, v + offset / 7
    edges = [0, *sorted(set(cuts)), 90]
    parts = [
        PartialCorrelationAccumulator(5, CONTROLS).update(a[i:j], v[i:j])
        for i, j in zip(edges, edges[1:], strict=False)
    ]
    np.random.default_rng(seed).shuffle(parts)  # type: ignore[arg-type]
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    whole = PartialCorrelationAccumulator(5, CONTROLS).update(a, v).result()
    np.testing.assert_allclose(merged.result(), whole, atol=1e-8)


def test_controls_that_repeat_each_other_do_no_harm() -> None:
    a, v = data()
    v[:, 3] = 3 * v[:, 1] - 1
    one = PartialCorrelationAccumulator(5, [(1,), (), (), ()]).update(a, v).result()[0]
    two = PartialCorrelationAccumulator(5, [(1, 3), (), (), ()]).update(a, v).result()[0]
    np.testing.assert_allclose(one, two, atol=1e-8)


def test_what_the_controls_determine_is_undefined() -> None:
    a, v = data()
    v[:, 0] = 2 * v[:, 1] + v[:, 2]
    a[:, 1] = v[:, 1]
    a[:, 2] = 0.3
    v[:, 3] = np.random.default_rng(1).normal(size=90)
    found = PartialCorrelationAccumulator(5, [(1, 2), (), (), (1,)]).update(a, v).result()
    assert np.isnan(found[0]).all()
    assert np.isnan(found[3, [1, 2]]).all() and np.isfinite(found[3, [0, 3, 4]]).all()


def test_too_few_rows_are_undefined() -> None:
    a, v = data(rows=4)
    assert np.isnan(PartialCorrelationAccumulator(5, CONTROLS).update(a, v).result()[0]).all()


def test_a_column_is_no_control_of_itself() -> None:
    with pytest.raises(UserError, match=r"column 1 has the controls \(1,\): each is the index of another of the 2"):
        PartialCorrelationAccumulator(3, [(), (1,)])
