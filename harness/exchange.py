"""Which rows of a column may change places if it had nothing to do with the activations, and how they are drawn.

Three schemes, by what is exchangeable:

- ``rows``: every row is a group of its own; all orders.
- ``whole groups``: the values of a group move together to another group of the same size; where the column varies
  within its groups too, they also change places inside (``whole groups and rows within them``).
- ``rows within groups``: rows change places inside their group alone. What groups have in common stays as it is under
  every permutation, so this threshold is of the relation within groups, and of r over all rows a conservative one. It is
  the last resort, for groups that have no partners of their size.

Which scheme fits follows from the sizes of the groups first, so that seeds of one task agree. A scheme needs
``n_permutations`` distinct arrangements of the column, and rows that can really move; where no grouped scheme has
them, there is no honest null, and ``reason`` says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Order = npt.NDArray[np.int64]
MOVABLE = 0.5  # at least this share of the rows must be able to move


@dataclass(frozen=True, eq=False)
class Exchange:
    """Drawn orders (n_permutations, rows): permuted values are ``values[orders[b]]``. No orders: see ``reason``."""

    scheme: str
    orders: Order
    reason: str = ""


def exchange(values: npt.NDArray[np.float64], groups: Sequence[str], n_permutations: int, seed: int) -> Exchange:
    """Draw ``n_permutations`` orders of a column's rows (none of them NaN) by the scheme that fits it."""
    members = group_members(groups)
    if len(members) == len(values):
        return _drawn("rows", [np.arange(len(values))], values, n_permutations, seed)
    whole = _whole_groups(members, values, n_permutations, seed)
    if not whole.reason:
        return whole
    varying = [rows for rows in members if np.ptp(values[rows]) > 0]
    movable = sum(len(rows) for rows in varying)
    if not varying:
        return whole
    if movable < MOVABLE * len(values):
        why = f"only {movable} of {len(values)} rows lie in a group within which the column varies"
        return Exchange("", whole.orders, f"{whole.reason}; {why}")
    within = _drawn("rows within groups", varying, values, n_permutations, seed)
    return within if not within.reason else Exchange("", whole.orders, f"{whole.reason}; {within.reason}")


def group_members(groups: Sequence[str]) -> list[Order]:
    """Return the row numbers of each group, groups in the order of their first row."""
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    return [np.asarray(rows) for rows in members.values()]


def _drawn(scheme: str, blocks: Sequence[Order], values: npt.NDArray[np.float64], n: int, seed: int) -> Exchange:
    """Shuffle the rows of each block among themselves."""
    arrangements = sum(_log_arrangements(values[rows].tolist()) for rows in blocks)
    if arrangements < math.log(n):
        return _refused(
            f"{_count(arrangements)} distinct arrangements of {scheme}, fewer than {n} permutations", values
        )
    rng = np.random.default_rng(seed)
    orders = np.tile(np.arange(len(values)), (n, 1))
    for rows in blocks:
        orders[:, rows] = rng.permuted(np.tile(rows, (n, 1)), axis=1)
    return Exchange(scheme, orders)


def _whole_groups(members: Sequence[Order], values: npt.NDArray[np.float64], n: int, seed: int) -> Exchange:
    """Move the values of whole groups among the groups of their size, and shuffle them inside where they vary."""
    by_size: dict[int, list[Order]] = {}
    for rows in members:
        by_size.setdefault(len(rows), []).append(rows)
    bins = [np.stack(same) for _, same in sorted(by_size.items())]  # each (groups, size)
    bins = [same for same in bins if len({tuple(values[rows].tolist()) for rows in same}) > 1]
    movable = sum(same.size for same in bins)
    if movable < MOVABLE * len(values):
        return _refused(
            f"only {movable} of {len(values)} rows lie in groups that have others of the same size and other values",
            values,
        )
    arrangements = sum(_log_arrangements([tuple(values[rows].tolist()) for rows in same]) for same in bins)
    if arrangements < math.log(n):
        return _refused(
            f"{_count(arrangements)} distinct arrangements of whole groups of one size, fewer than {n} permutations",
            values,
        )
    rng = np.random.default_rng(seed)
    orders = np.tile(np.arange(len(values)), (n, 1))
    for same in bins:
        moved = rng.permuted(np.tile(np.arange(len(same)), (n, 1)), axis=1)  # (n, groups)
        placed = same[moved]  # (n, groups, size)
        orders[:, same] = rng.permuted(placed, axis=2)
    constant = all(np.ptp(values[rows]) == 0 for rows in members)
    return Exchange("whole groups" if constant else "whole groups and rows within them", orders)


def _refused(reason: str, values: npt.NDArray[np.float64]) -> Exchange:
    return Exchange("", np.empty((0, len(values)), dtype=np.int64), reason)


def _log_arrangements(items: Iterable[Hashable]) -> float:
    """Return the logarithm of the number of distinct orders of items, equal ones not told apart."""
    counts = Counter(items)
    return math.lgamma(counts.total() + 1) - sum(math.lgamma(count + 1) for count in counts.values())


def _count(logarithm: float) -> str:
    return str(round(math.exp(logarithm)))
