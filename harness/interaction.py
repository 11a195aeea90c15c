"""How skills interact: whether their neuron sets overlap more than chance, and what losing both does.

Overlap of two sets of sizes a and b among M neurons: c shared, chance a b / M, p = P(C >= c) hypergeometric, and Jaccard
c / |A u B|. Joint ablation, on one task and outcome:

    excess = d(A u B) - (d(A) + d(B) - d(A n B))

above 0: losing both hurts more than the sum (they back each other up); below 0: less (they share one path). Neurons
that both sets hold are counted once. Its interval is a bootstrap by group of the paired difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from skillneurons.changes import Change
from skillneurons.errors import UserError
from skillneurons.testbed import Testbed


@dataclass(frozen=True)
class Overlap:
    """Two sets of neurons: how many they share, how many chance gives, and how sure that is."""

    first: str
    second: str
    shared: int
    chance: float
    jaccard: float
    p: float


@dataclass(frozen=True)
class Joint:
    """The loss of two sets, alone and together; ``excess`` with its 95 % interval, ``kind`` what it says."""

    first: str
    second: str
    outcome: str
    effect_first: float | None
    effect_second: float | None
    effect_both: float | None
    excess: float | None
    low: float | None
    high: float | None
    kind: str


@dataclass(frozen=True)
class Interactions:
    """All pairs of the named sets: ``overlaps`` and, measured on one task, ``joints``."""

    overlaps: tuple[Overlap, ...]
    joints: tuple[Joint, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return {"overlaps": [asdict(one) for one in self.overlaps], "joints": [asdict(one) for one in self.joints]}


def overlap(first: str, a: Sequence[int], second: str, b: Sequence[int], n_neurons: int) -> Overlap:
    """Return the overlap of two sets of flat indices among ``n_neurons``."""
    from scipy.stats import hypergeom

    one, other = set(a), set(b)
    if not one or not other:
        raise UserError(f"overlap of {first!r} and {second!r}: a set is empty")
    shared = len(one & other)
    p = float(hypergeom.sf(shared - 1, n_neurons, len(one), len(other)))
    return Overlap(first, second, shared, len(one) * len(other) / n_neurons, shared / len(one | other), p)


def overlaps(sets: Mapping[str, Sequence[int]], n_neurons: int) -> tuple[Overlap, ...]:
    """Return the overlap of every pair of named sets."""
    return tuple(overlap(a, sets[a], b, sets[b], n_neurons) for a, b in combinations(sets, 2))


def joint_ablation(
    bed: Testbed,
    sets: Mapping[str, Sequence[int]],
    *,
    outcome: str = "log_prob",
    mode: str = "mean",
    resamples: int = 1000,
    seed: int = 0,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> tuple[Joint, ...]:
    """Ablate pairs of named sets (all pairs by default), each alone and both together, on one task.

    ``outcome`` is log_prob (nats) or accuracy.
    """
    if outcome not in ("log_prob", "accuracy"):
        raise UserError(f"outcome {outcome!r}: a joint ablation is measured by log_prob or accuracy")
    chosen = list(combinations(sets, 2)) if pairs is None else list(pairs)
    unions = {pair: tuple(sorted({*sets[pair[0]], *sets[pair[1]]})) for pair in chosen}
    common = {pair: tuple(sorted({*sets[pair[0]]} & {*sets[pair[1]]})) for pair in chosen}
    alone = {name: tuple(sorted(sets[name])) for pair in chosen for name in pair}
    bed.behaviours([_change(one, mode) for one in (*alone.values(), *unions.values(), *common.values())])
    found = []
    for pair in chosen:
        parts = [alone[pair[0]], alone[pair[1]], unions[pair], common[pair]]
        a, b, both, inner = bed.effects([_change(one, mode) for one in parts], None, outcome)
        low, high = _excess_interval(bed, [_change(one, mode) for one in parts], outcome, resamples, seed)
        kind = "undecided"
        if math.isfinite(low):
            kind = "more than the sum" if low > 0 else "less than the sum" if high < 0 else "undecided"
        found.append(
            Joint(
                first=pair[0],
                second=pair[1],
                outcome=outcome,
                effect_first=_finite(a),
                effect_second=_finite(b),
                effect_both=_finite(both),
                excess=_finite(both - a - b + inner),
                low=_finite(low),
                high=_finite(high),
                kind=kind,
            )
        )
    return tuple(found)


def _change(neurons: Sequence[int], mode: str) -> Change:
    return Change(tuple(neurons), mode) if neurons else Change()


def _excess_interval(
    bed: Testbed, changes: Sequence[Change], outcome: str, resamples: int, seed: int
) -> tuple[float, float]:
    """Return the percentile interval of the excess, the same groups drawn for all four ablations."""
    a, b, both, inner = bed.behaviours(changes)
    intact = bed.intact
    if outcome == "log_prob":
        row = -both.log_prob + a.log_prob + b.log_prob - inner.log_prob
    else:  # each class of the balanced accuracy has the same weight
        sizes = np.bincount(intact.classes)[intact.classes]
        weight = len(intact.classes) / (sizes * len(np.unique(intact.classes)))
        row = weight * (-both.correct + a.correct + b.correct - inner.correct)
    known = np.isfinite(row)
    groups = np.unique(intact.groups[known], return_inverse=True)[1]
    n = int(groups.max()) + 1 if known.any() else 0
    if n < 5 or resamples < 1:
        return float("nan"), float("nan")
    from scipy.stats import bootstrap

    sums, sizes_of = np.bincount(groups, row[known]), np.bincount(groups)

    def mean(drawn: Any, axis: int = -1) -> Any:
        return sums[drawn].sum(axis=axis) / sizes_of[drawn].sum(axis=axis)

    drawn = bootstrap(
        (np.arange(n),),
        mean,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
