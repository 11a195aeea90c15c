"""What changes places: checked by reading the drawn orders, and the counts by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skillneurons.exchange import _log_arrangements, exchange


def groups_of(*sizes: int) -> list[str]:
    return [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]


def test_single_rows_change_places_freely() -> None:
    drawn = exchange(np.arange(30.0), groups_of(*[1] * 30), 200, seed=1)
    assert drawn.scheme == "rows" and drawn.orders.shape == (200, 30)
    assert all(sorted(order) == list(range(30)) for order in drawn.orders.tolist())
    assert len({tuple(order) for order in drawn.orders.tolist()}) == 200


def test_rows_stay_in_their_group_where_the_column_varies_there() -> None:
    groups = groups_of(*[4] * 10)
    drawn = exchange(np.tile([0.0, 1.0, 2.0, 3.0], 10), groups, 200, seed=1)
    assert drawn.scheme == "rows within groups"
    names = np.array(groups)
    assert (names[drawn.orders] == names).all()
    assert (drawn.orders != np.arange(40)).any()


def test_whole_groups_of_one_size_change_places_where_the_column_is_constant_in_each() -> None:
    sizes = [3] * 12 + [5] * 12
    values = np.repeat(np.arange(24.0) % 2, sizes)
    drawn = exchange(values, groups_of(*sizes), 300, seed=1)
    assert drawn.scheme == "whole groups"
    for order in drawn.orders:
        moved = values[order]
        starts = np.cumsum([0, *sizes[:-1]])
        assert all(np.ptp(moved[start : start + size]) == 0 for start, size in zip(starts, sizes, strict=True))
        assert (order < 36).sum() == 36 and set(order[:36]) == set(range(36))  # sizes do not mix


def test_pairs_among_single_rows_stay_together_and_change_places_inside() -> None:
    sizes = [1] * 60 + [2] * 6
    values = np.random.default_rng(0).normal(size=72)
    drawn = exchange(values, groups_of(*sizes), 200, seed=1)
    assert drawn.scheme == "whole groups and rows within them"
    pairs = drawn.orders[:, 60:].reshape(200, 6, 2)
    assert (pairs // 2 == pairs[..., :1] // 2).all()  # both rows of a pair come from one pair
    turned = pairs[..., 1] < pairs[..., 0]
    assert 0.4 < turned.mean() < 0.6
    assert all(sorted(order) == list(range(72)) for order in drawn.orders.tolist())


def test_one_row_more_or_less_does_not_change_the_scheme() -> None:
    schemes = set()
    for odd in (0, 1, 29, 31, 60):
        values = np.repeat(np.arange(60.0) % 2, 4)
        values[: 4 * odd : 4] += 0.5
        schemes.add(exchange(values, groups_of(*[4] * 60), 200, seed=0).scheme)
    assert schemes == {"whole groups", "whole groups and rows within them"}


def test_groups_of_different_sizes_that_vary_inside_keep_their_rows() -> None:
    sizes = list(range(4, 16))
    drawn = exchange(np.random.default_rng(0).normal(size=sum(sizes)), groups_of(*sizes), 200, seed=1)
    assert drawn.scheme == "rows within groups"


def test_too_few_arrangements_are_refused_with_their_number() -> None:
    values = np.repeat([0.0, 0.0, 1.0, 1.0], 5)
    drawn = exchange(values, groups_of(5, 5, 5, 5), 200, seed=0)
    assert (drawn.scheme, len(drawn.orders)) == ("", 0)
    assert drawn.reason == "6 distinct arrangements of whole groups of one size, fewer than 200 permutations"


def test_groups_without_partners_of_their_size_are_refused() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0], [2, 3, 4, 5])
    drawn = exchange(values, groups_of(2, 3, 4, 5), 200, seed=0)
    assert drawn.reason == "only 0 of 14 rows lie in groups that have others of the same size and other values"


def test_a_single_odd_row_has_as_many_arrangements_as_rows() -> None:
    values = np.zeros(50)
    values[3] = 1
    assert "50 distinct arrangements of rows" in exchange(values, groups_of(*[1] * 50), 200, seed=0).reason
    assert exchange(values, groups_of(*[1] * 50), 40, seed=0).scheme == "rows"


def test_arrangements_by_hand() -> None:
    assert math.exp(_log_arrangements("aabb")) == pytest.approx(6)
    assert math.exp(_log_arrangements([1, 2, 3])) == pytest.approx(6)


def test_the_seed_decides() -> None:
    one, two, other = (exchange(np.arange(20.0), groups_of(*[1] * 20), 50, seed=s).orders for s in (3, 3, 4))
    assert (one == two).all() and (one != other).any()
