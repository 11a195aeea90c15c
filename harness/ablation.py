"""Does a set of neurons do it? Its ablation beside the ablation of matched random sets, for growing K.

For the K neurons of largest |r| on discovery, each outcome d (``effects``) on heldout, and d_1 .. d_R of R random sets:

    z = (d - mean(d_i)) / sd(d_i)        percentile = share of d_i below d, ties by half
    p = (1 + #{d_i >= d}) / (R + 1)

Effects that differ by rounding alone (1e-12) are ties, and an sd that small is 0. The random sets are different ones, R of
them, fewer than asked for where the layers hold no more. The verdict rests on one outcome, chosen before looking
(``Testbed.outcome_of``: ``moved`` of a column that follows behaviour, the target's log-probability for an external label):

    cause       p <= 0.05, and the bootstrap interval of d lies above 0 and above the mean of the random sets
    hinders     the same with the signs turned: without the set the right answer is likelier (log-probability alone has a sign)
    correlate   the interval lies where the random sets do: no higher than all but the upper 5 % of them, and for the
                log-probability no lower than all but the lower 5 %
    undecided   none of these, fewer than 19 random sets (the smallest p is then above 0.05), or nothing was moved: an
                interval without width, and random sets that did as little, tell nothing apart
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.changes import Change
from skillneurons.controls import matched_sets, matched_singles
from skillneurons.effects import OUTCOMES, first_failure
from skillneurons.errors import CellError, UserError
from skillneurons.testbed import Testbed

ALPHA = 0.05
ENOUGH = 19  # random sets: 1 / (ENOUGH + 1) = ALPHA
ROUNDING = 1e-12  # of float64 sums


@dataclass(frozen=True)
class Compared:
    """One outcome of a set beside random sets; None where undefined."""

    effect: float | None
    random: float | None
    random_sd: float | None
    z: float | None
    percentile: float | None
    p: float | None


@dataclass(frozen=True)
class Dose:
    """The ablation of the K strongest neurons: every outcome beside random sets, or ``reason`` why there is none.

    ``low`` and ``high`` bound ``outcome``, on which ``verdict`` rests. ``size`` and ``random_size`` are the mean
    |activation| of the set and of the random sets, of which there are ``random_sets``.
    """

    k: int
    outcome: str = ""
    low: float | None = None
    high: float | None = None
    verdict: str = "undecided"
    size: float | None = None
    random_size: float | None = None
    random_sets: int = 0
    outcomes: dict[str, Compared] | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain types for a cell."""
        return asdict(self)


def compare(effect: float, others: Sequence[float]) -> Compared:
    """Return an effect beside those of random sets (z, percentile, p as above)."""
    known = np.array([value for value in others if math.isfinite(value)])
    if not math.isfinite(effect) or not len(known):
        return Compared(_finite(effect), None, None, None, None, None)
    mean = float(known.mean())
    sd = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    near = _tolerance(effect, known)
    sd = sd if sd > near else 0.0
    percentile = 100 * float(((known < effect - near) + 0.5 * (np.abs(known - effect) <= near)).mean())
    p = float((1 + (known >= effect - near).sum()) / (len(known) + 1))
    return Compared(
        effect, mean, sd if len(known) > 1 else None, (effect - mean) / sd if sd > 0 else None, percentile, p
    )


def _tolerance(effect: float, others: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Return the difference up to which two effects are the same."""
    return ROUNDING * max(1.0, abs(effect), *(abs(float(value)) for value in others))


def verdict(effect: float, low: float, high: float, others: Sequence[float], *, signed: bool) -> str:
    """Return cause, hinders, correlate or undecided (see above); ``signed`` where an effect below 0 is one too."""
    known = np.array([value for value in others if math.isfinite(value)])
    if len(known) < ENOUGH or not all(map(math.isfinite, (effect, low, high))):
        return "undecided"
    near = _tolerance(effect, known)
    if high - low <= near and bool((np.abs(known - effect) <= near).any()):
        return "undecided"
    if _stands_out(effect, low, known, near):
        return "cause"
    if signed and _stands_out(-effect, -high, -known, near):
        return "hinders"
    # an order statistic, so that a set is never judged by a value between two random sets
    within = high <= float(np.quantile(known, 1 - ALPHA, method="lower")) + near
    if signed:
        within &= low >= float(np.quantile(known, ALPHA, method="higher")) - near
    return "correlate" if within else "undecided"


def _stands_out(effect: float, low: float, known: npt.NDArray[np.float64], near: float) -> bool:
    p = (1 + int((known >= effect - near).sum())) / (len(known) + 1)
    return p <= ALPHA and low > max(0.0, float(known.mean())) + near


def dose_curve(
    bed: Testbed,
    ranked: Sequence[int],
    column: str,
    ks: Sequence[int],
    *,
    mode: str = "mean",
    random_sets: int = 20,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Dose]:
    """Ablate the K first of ``ranked`` neurons (flat indices, strongest first) for every K, beside random sets.

    A K that cannot be done comes back with its reason; the others go on.
    """
    doses: list[Dose] = []
    plans: list[tuple[int, Change, list[Change]]] = []
    for k in sorted(set(ks)):
        try:
            chosen, sets = sets_of(bed, ranked, k, random_sets, seed)
        except (CellError, UserError) as error:
            doses.append(Dose(k, reason=first_failure(error)))
            continue
        plans.append((k, Change(chosen, mode), [Change(one, mode) for one in sets]))
    bed.behaviours([change for _, one, others in plans for change in (one, *others)])
    outcome = bed.outcome_of(column)
    for k, change, controls in plans:
        outcomes, effects = {}, {}
        for name in OUTCOMES:
            mine, *rest = effects[name] = bed.effects([change, *controls], column, name)
            outcomes[name] = compare(mine, rest)
        low, high = bed.interval(change, column, outcome, resamples=resamples, seed=seed)
        doses.append(
            Dose(
                k=k,
                outcome=outcome,
                low=_finite(low),
                high=_finite(high),
                verdict=verdict(effects[outcome][0], low, high, effects[outcome][1:], signed=outcome != "moved"),
                size=float(bed.reference.size[list(change.neurons)].mean()),
                random_size=float(np.mean([bed.reference.size[list(one.neurons)].mean() for one in controls]))
                if controls
                else None,
                random_sets=len(controls),
                outcomes=outcomes,
            )
        )
    return sorted(doses, key=lambda dose: dose.k)


def sets_of(
    bed: Testbed, ranked: Sequence[int], k: int, random_sets: int, seed: int
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Return the K strongest neurons, sorted, and their random sets; refuse a K beyond the ranked list."""
    if not 1 <= k <= len(ranked):
        raise UserError(f"K = {k}: only {len(ranked)} neurons are ranked for this column; use a smaller causal.k")
    chosen = tuple(sorted(int(neuron) for neuron in ranked[:k]))
    return chosen, matched_sets(chosen, bed.reference.size, bed.lm.d_ff, random_sets, seed=seed)


@dataclass(frozen=True)
class Single:
    """What one neuron does: its ablation alone, beside single neurons of its layer and of like mean |activation|.

    ``steered`` maps factors (in sd, along the sign of r) to the metric's mean and the target's mean log-probability.
    """

    layer: int
    neuron: int
    outcome: str
    low: float | None
    high: float | None
    verdict: str
    outcomes: dict[str, Compared]
    steered: Sequence[dict[str, float | None]] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain types for a cell."""
        return asdict(self)


def single_neurons(
    bed: Testbed,
    neurons: Sequence[int],
    column: str,
    *,
    signs: Sequence[float] = (),
    alphas: Sequence[float] = (),
    mode: str = "mean",
    controls: int = 20,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Single]:
    """Ablate each neuron alone, beside the ``controls`` others of its layer nearest in mean |activation|.

    One test per neuron, uncorrected.

    With ``signs`` (one per neuron) each is also steered alone, by every one of ``alphas``.
    """
    d_ff = bed.lm.d_ff
    near = matched_singles(neurons, bed.reference.size, d_ff, controls)
    bed.behaviours([Change((n,), mode) for n in (*neurons, *(other for n in neurons for other in near[n]))])
    pushes = {
        neuron: [(a, Change((neuron,), "steer", (a * float(np.sign(sign)),)) if a else Change()) for a in alphas]
        for neuron, sign in zip(neurons, signs, strict=False)
    }
    bed.behaviours([change for one in pushes.values() for _, change in one])
    outcome = bed.outcome_of(column)
    found = []
    for neuron in neurons:
        change = Change((neuron,), mode)
        others = [Change((other,), mode) for other in near[neuron]]
        effects = {name: bed.effects([change, *others], column, name) for name in OUTCOMES}
        low, high = bed.interval(change, column, outcome, resamples=resamples, seed=seed)
        mine, *rest = effects[outcome]
        found.append(
            Single(
                layer=int(neuron // d_ff),
                neuron=int(neuron % d_ff),
                outcome=outcome,
                low=_finite(low),
                high=_finite(high),
                verdict=verdict(mine, low, high, rest, signed=outcome != "moved"),
                outcomes={name: compare(values[0], values[1:]) for name, values in effects.items()},
                steered=[_steered(bed, column, alpha, change) for alpha, change in pushes.get(neuron, ())],
            )
        )
    return found


def _steered(bed: Testbed, column: str, alpha: float, change: Change) -> dict[str, float | None]:
    (seen,) = bed.behaviours([change])
    values = seen.values[:, bed.columns.index(column)]
    known = values[~np.isnan(values)]
    metric = float(known.mean()) if len(known) else None
    return {"alpha": alpha, "metric": metric, "log_prob": _finite(float(np.mean(seen.log_prob)))}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
