"""The null from the sums of shards against the null of all rows; the rows of shards joined; what moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skillneurons.errors import ShardLost
from skillneurons.null import permutation_null
from skillneurons.null_sums import takes_sums
from skillneurons.permutation_sums import Permutations, PermutationSums
from skillneurons.plugins.mean_difference import MeanDifferenceAccumulator
from skillneurons.sharded_rows import KeptShard, RowsKeeper, ShardedRows, together
from skillneurons.spool import ActivationRows
from skillneurons.statistics import PearsonAccumulator

B = 99


class Keeper:
    """Keeps the rows of one shard; ``blocks`` counts what was read of them. ``dead``: nobody answers."""

    def __init__(self, rows: np.ndarray, where: np.ndarray, moves: bool = True) -> None:
        self.rows, self.where, self.moves = rows, where, moves
        self.blocks, self.sums, self.released, self.dead = 0, 0, list[int](), False

    def _alive(self) -> None:
        if self.dead:
            raise ShardLost("gone")

    def of(self, ticket: int, neurons: np.ndarray, positions: np.ndarray | None) -> np.ndarray:
        self._alive()
        return self.rows[:, np.zeros(len(neurons), dtype=int) if positions is None else positions, neurons]

    def block(self, ticket: int, start: int, stop: int) -> np.ndarray:
        self._alive()
        self.blocks += 1
        return self.rows[:, :, start:stop]

    def permuted(self, ticket: int, permutations: Permutations, start: int, stop: int) -> list[PermutationSums]:
        self._alive()
        self.sums += 1
        block = self.rows[:, :, start:stop].reshape(len(self.rows), -1)
        return permutations.sums(block, self.where, permutations.of_rows(self.where))

    def release(self, ticket: int) -> None:
        self.released.append(ticket)


def shards_of(a: np.ndarray, n_shards: int, seed: int = 0, moves: bool = True) -> tuple[ShardedRows, list[Keeper]]:
    """Keep (rows, positions, neurons) in shards of whatever rows."""
    of = np.random.default_rng(seed).integers(0, n_shards, len(a))
    keepers = [Keeper(a[of == i], np.flatnonzero(of == i), moves) for i in range(n_shards)]

    def again(keeper: Keeper) -> Any:
        return lambda: (Keeper(keeper.rows, keeper.where), 7)

    shards = [KeptShard(keeper, i, keeper.where, again(keeper)) for i, keeper in enumerate(keepers)]
    return ShardedRows((len(a), *a.shape[1:]), shards), keepers


def kept(a: np.ndarray) -> ActivationRows:
    rows = ActivationRows(len(a), *a.shape[1:])
    rows.put(range(len(a)), a.reshape(len(a), -1))
    return rows


def data(seed: int, n: int, positions: int, neurons: int, experts: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    a = (rng.normal(size=(n, positions, neurons)) + 5 * rng.normal(size=neurons)).astype(np.float32)
    v = rng.normal(size=(n, 3))
    a[:, 0, :20] += (v[:, :1] * np.linspace(0, 1, 20)).astype(np.float32)  # some pass, some do not
    a[:, :, 30] = 2.5
    if experts:
        a[rng.random(a.shape) < 0.3] = np.nan
    v[rng.random(n) < 0.2, 1] = np.nan
    return a, v, [str(i // 2) for i in range(n)] if seed % 2 else [str(i) for i in range(n)]


def both(a: np.ndarray, v: np.ndarray, groups: list[str], rows: Any) -> tuple[Any, Any]:
    options: dict[str, Any] = {"n_permutations": B, "seed": 3, "thresholds": (0.1, 0.3), "t_distribution": True}
    form = PearsonAccumulator.linear_form
    return permutation_null(rows, v, groups, form, **options), permutation_null(kept(a), v, groups, form, **options)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([1, 2]), st.booleans())
def test_threshold_and_survivors_are_those_of_all_rows(seed: int, n_shards: int, positions: int, experts: bool) -> None:
    a, v, groups = data(seed, 150, positions, 2100, experts)  # three blocks
    rows, keepers = shards_of(a, n_shards, seed)
    rows.bytes_as_rows = lambda: 10**12  # type: ignore[method-assign]
    ours, theirs = both(a, v, groups, rows)
    assert all(keeper.sums == 3 for keeper in keepers)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.scheme, mine.threshold, mine.n_fwer) == (other.scheme, other.threshold, other.n_fwer)
        np.testing.assert_array_equal(mine.p_adjusted <= 0.05, other.p_adjusted <= 0.05)
        np.testing.assert_array_equal(np.isnan(mine.p_adjusted), np.isnan(other.p_adjusted))
        np.testing.assert_allclose(mine.largest, other.largest, atol=2e-6)
        np.testing.assert_allclose(mine.p_adjusted, other.p_adjusted, atol=2.1 / (B + 1))
        np.testing.assert_allclose(mine.p_raw, other.p_raw, atol=1e-3)  # a bin of the pooled null at most
        np.testing.assert_allclose(mine.above, other.above, atol=0.1)


def test_few_blocks_are_looked_up_and_without_them_the_threshold_would_be_another() -> None:
    a, v, groups = data(4, 300, 1, 20 * 1024, False)
    rows, keepers = shards_of(a, 2)
    rows.bytes_as_rows = lambda: 10**12  # type: ignore[method-assign]
    (mine, *_), (other, *_) = both(a, v[:, :1], groups, rows)
    assert mine.threshold == other.threshold and (mine.largest != other.largest).any()
    assert all(0 < keeper.blocks <= 8 for keeper in keepers)  # of 20


def test_rows_come_where_they_are_less_to_move_or_do_not_move() -> None:
    a, v, groups = data(1, 60, 2, 50, True)
    for moves in (True, False):
        rows, keepers = shards_of(a, 3, moves=moves)
        ours, theirs = both(a, v, groups, rows)
        assert not any(keeper.sums for keeper in keepers)
        for mine, other in zip(ours, theirs, strict=True):
            assert mine.threshold == other.threshold
            np.testing.assert_array_equal(mine.p_raw, other.p_raw)
            np.testing.assert_array_equal(mine.largest, other.largest)
    form = PearsonAccumulator.linear_form
    long = ShardedRows((10_000, 1, 7), [KeptShard(Keeper(a, a), 0, np.arange(5000), lambda: (Keeper(a, a), 0))] * 2)
    assert (long.bytes_as_rows(), long.bytes_as_sums(B, 3)) == (4 * 10_000 * 7, 8 * 2 * 3 * 100 * 7)
    assert takes_sums(long, form, B, 24) and not takes_sums(long, form, B, 25)  # 2 x 2 x 25 x 100 = 10,000
    assert not takes_sums(long, MeanDifferenceAccumulator.linear_form, B, 1)
    here, _ = shards_of(a, 3, moves=False)
    assert here.bytes_as_rows() == here.bytes_as_sums(B, 3) == 0 and not takes_sums(here, form, B, 1)


def test_rows_are_joined_in_the_examples_order() -> None:
    a, _, _ = data(0, 40, 2, 90, True)
    rows, keepers = shards_of(a, 5)
    assert rows.shape == (40, 2, 90)
    whole = kept(a)
    for (at, block), (where, expected) in zip(rows.blocks(32), whole.blocks(32), strict=True):
        assert at == where and block.tobytes() == expected.tobytes() and block.flags.c_contiguous
    some, positions = np.array([80, 3, 4]), np.array([1, 0, 1])
    assert rows.of(some, positions).tobytes() == whole.of(some, positions).tobytes()
    assert rows.of(some).tobytes() == whole.of(some).tobytes()
    keepers[1].dead = keepers[3].dead = True  # run again elsewhere, once
    assert rows.of(some).tobytes() == whole.of(some).tobytes()
    assert [shard.ticket for shard in rows.shards] == [0, 7, 2, 7, 4]
    del rows
    assert [keeper.released for keeper in keepers] == [[0], [], [2], [], [4]]


def test_the_first_error_is_raised_and_what_moves_is_asked_apart() -> None:
    import threading

    here = threading.get_ident()
    found = together([(moves, threading.get_ident) for moves in (True, False, True)])
    assert found[1] == here and here not in (found[0], found[2])
    assert together([]) == []

    def fails(name: str) -> Any:
        def call() -> int:
            raise ValueError(name)

        return call

    with pytest.raises(ValueError, match="^second$"):
        together([(True, int), (True, fails("second")), (True, fails("third"))])


def keeper_is_one(keeper: Keeper) -> RowsKeeper:
    return keeper  # mypy: the protocol is kept
