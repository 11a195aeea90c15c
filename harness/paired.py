"""Two models on the same examples: is the mean of their difference more than noise?

Input: per example and column the difference A - B (averaged over prompt seeds), NaN where one of them is not scored,
and each example's group. Groups are drawn and exchanged as wholes, as in ``intervals``: examples of one group share a
template or an item, so they are no independent evidence.

    difference  mean over the scored examples
    low, high   percentile bootstrap, 95 %: groups drawn with replacement, the mean over the drawn groups' examples
    p           permutation, two-sided: in every group the two models change places or not (the sign of the group's sum);
                p = (1 + #(|mean| >= |observed|)) / (1 + permutations)

The interval is over examples, given the prompts that were tuned: another prompt seed may say something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skillneurons.exchange import group_members
from skillneurons.intervals import FEWEST_GROUPS, LEVEL, percentiles

BATCH = 500  # permutations at once: 500 x groups numbers
EQUAL = 1e-12  # sums that differ by less than this share are equal: what rounding makes of the same numbers

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedMean:
    """The mean difference of one column over ``n`` examples in ``groups`` groups; None where ``reason`` says why."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    groups: int
    reason: str = ""


def paired_means(differences: Doubles, groups: Sequence[str], *, n_resamples: int, seed: int) -> list[PairedMean]:
    """Return the figures of each column of ``differences`` (rows, columns); columns scored alike share their draws."""
    scored = ~np.isnan(differences)
    alike: dict[bytes, list[int]] = {}
    for column in range(differences.shape[1]):
        alike.setdefault(scored[:, column].tobytes(), []).append(column)
    found: dict[int, PairedMean] = {}
    for columns in alike.values():
        rows = np.flatnonzero(scored[:, columns[0]]).tolist()
        members = group_members([groups[row] for row in rows])
        figures = _of(differences[rows][:, columns], members, n_resamples, seed)
        found |= dict(zip(columns, figures, strict=True))
    return [found[column] for column in range(differences.shape[1])]


def _of(d: Doubles, members: Sequence[npt.NDArray[np.int64]], n_resamples: int, seed: int) -> list[PairedMean]:
    """Return the figures of columns that are scored on all rows."""
    n, k = d.shape
    if not n:
        return [PairedMean(None, None, None, None, 0, 0, "no example is scored for both models")] * k
    means = d.mean(axis=0)
    if len(members) < FEWEST_GROUPS:
        why = f"{len(members)} groups: a comparison needs at least {FEWEST_GROUPS}"
        return [PairedMean(float(mean), None, None, None, n, len(members), why) for mean in means]
    sums = np.stack([d[rows].sum(axis=0) for rows in members])  # (groups, columns)
    sizes = np.array([len(rows) for rows in members], dtype=np.float64)
    low, high = percentiles(_resampled(sums, sizes, n_resamples, seed))
    p = _exchanged(sums, n_resamples, seed)
    return [PairedMean(float(means[i]), float(low[i]), float(high[i]), float(p[i]), n, len(members)) for i in range(k)]


def _resampled(sums: Doubles, sizes: Doubles, n_resamples: int, seed: int) -> Doubles:
    """Return the mean of every bootstrap resample of groups (columns, resamples)."""
    from scipy.stats import bootstrap

    def mean(drawn: npt.NDArray[np.int64], axis: int = -1) -> Doubles:
        flat = drawn.reshape(-1, drawn.shape[-1])
        times = np.stack([np.bincount(row, minlength=len(sizes)) for row in flat])  # (resamples, groups)
        return (times @ sums / (times @ sizes)[:, None]).T.reshape(sums.shape[1], *drawn.shape[:-1])

    found = bootstrap(
        (np.arange(len(sizes)),),
        mean,
        n_resamples=n_resamples,
        vectorized=True,
        method="percentile",
        confidence_level=LEVEL,
        axis=-1,
        batch=BATCH,
        rng=np.random.default_rng(seed),
    )
    return np.asarray(found.bootstrap_distribution).reshape(sums.shape[1], -1)


def _exchanged(sums: Doubles, n: int, seed: int) -> Doubles:
    """Return the two-sided p of each column under exchange of the models within whole groups (columns,)."""
    rng = np.random.default_rng([seed, 1])  # apart from the bootstrap's
    observed = np.abs(sums.sum(axis=0)) - EQUAL * np.abs(sums).sum(axis=0)
    count = np.zeros(sums.shape[1])
    for start in range(0, n, BATCH):
        signs = rng.integers(0, 2, size=(min(BATCH, n - start), len(sums))) * 2.0 - 1.0
        count += (np.abs(signs @ sums) >= observed).sum(axis=0)
    return (1 + count) / (1 + n)
