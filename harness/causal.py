"""The causal part of a cell: what the neurons found do when they are changed, as ``causal`` in its file.

Neurons are ranked by |r| on discovery; everything here is measured on heldout. Per column that is tested: the dose
curve of ablations beside matched random sets, the steering curve of the ten strongest, and the strongest neurons one
by one. ``ablation_drop``, ``random_drop``, ``random_drop_sd`` and ``causal_z`` are the drop in accuracy at K = 10.
Whatever goes wrong is the ``reason`` of a column; the correlations stay. An error that no rule of ours gives is the
``error`` of the part besides, and the next run measures the cell again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skillneurons.ablation import Dose, dose_curve, single_neurons
from skillneurons.attribution import Attribution
from skillneurons.config import CausalSettings
from skillneurons.effects import first_failure
from skillneurons.errors import SkillNeuronsError
from skillneurons.inputs import EncodedExample
from skillneurons.statistics import ranking
from skillneurons.steering import steering_curve
from skillneurons.testbed import Testbed
from skillneurons.types import Task

TABLE_K = 10  # of the table's causal columns
SINGLE_ALPHAS = (-2.0, 0.0, 2.0)  # a single neuron's steering
FIGURES = ("ablation_drop", "random_drop", "random_drop_sd", "causal_z")


def columns_to_test(
    settings: CausalSettings, task: Task, metric: str, columns: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Return every column of a cell with the reason why it is not tested, empty for those that are.

    ``primary`` takes the task's own primary column of the metric, or else the metric's first column that is ok.
    """
    ok = [name for name, figures in columns.items() if figures["status"] == "ok"]
    named = [name for name in task.primary if name.partition(".")[0] == metric and name in ok]
    primary = (named or ok)[:1]
    found = {}
    for name in columns:
        if name not in ok:
            found[name] = f"the column is {columns[name]['status'].replace('_', ' ')}"
        elif settings.columns == "all" or name in (primary if settings.columns == "primary" else settings.columns):
            found[name] = ""
        elif settings.columns == "primary":
            found[name] = f"not the primary column of {metric} ({primary[0]}); causal.columns: all tests every one"
        else:
            found[name] = "not among causal.columns"
    return found


def causal_part(
    settings: CausalSettings,
    bed: Testbed,
    attribution: Attribution,
    columns: Mapping[str, str],
    *,
    bootstrap: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Return the causal part of a cell; ``columns`` are those of ``columns_to_test``."""
    part: dict[str, Any] = {
        "mode": settings.mode,
        "positions": settings.positions,
        "n_heldout": len(bed.replay.encoded),
        "accuracy": bed.intact.accuracy,
        "columns": {},
    }
    for name, reason in columns.items():
        if reason:
            part["columns"][name] = {"reason": reason}
            continue
        try:
            part["columns"][name] = _column(settings, bed, attribution, name, bootstrap)
        except Exception as error:  # the other columns go on
            part["columns"][name] = {"reason": first_failure(error), **_unexpected(error)}
        broken = part["columns"][name].pop("error", None)
        if broken:
            part["error"] = broken
        if progress:
            progress(1)
    return part


def _column(
    settings: CausalSettings, bed: Testbed, attribution: Attribution, column: str, bootstrap: int
) -> dict[str, Any]:
    bed.outcome_of(column)  # before any set is looked at
    bed = bed.fresh()
    scores = attribution.scores[column]
    ranked = [int(n) for n in ranking(scores, max(*settings.k, TABLE_K, settings.cards))]
    shared: dict[str, Any] = {"mode": settings.mode, "resamples": bootstrap, "seed": settings.seed}
    doses = dose_curve(bed, ranked, column, settings.k, random_sets=settings.random_sets, **shared)
    found: dict[str, Any] = {**_table_figures(doses), "doses": [dose.to_json() for dose in doses]}
    strongest = ranked[: min(TABLE_K, len(ranked))]
    if settings.steering and strongest:
        try:
            signs = [float(scores.flat[n]) for n in strongest]
            found["steering"] = steering_curve(
                bed, strongest, signs, column, settings.steering, settings.neutral_text
            ).to_json()
        except Exception as error:  # the doses stay
            found |= {"steering": {"reason": first_failure(error)}, **_unexpected(error)}
    if settings.cards:
        few = ranked[: settings.cards]
        ends = [alpha for alpha in SINGLE_ALPHAS if settings.steering]
        signs = [float(scores.flat[n]) for n in few]
        try:
            singles = single_neurons(
                bed, few, column, signs=signs, alphas=ends, controls=settings.random_sets, **shared
            )
            found["neurons"] = [one.to_json() for one in singles]
        except Exception as error:  # doses and steering stay
            found |= {"neurons": [], "neurons_reason": first_failure(error), **_unexpected(error)}
    return found


def _unexpected(error: Exception) -> dict[str, str]:
    """Return the mark of an error that no rule of ours gives: the next run tries again."""
    return {} if isinstance(error, SkillNeuronsError) else {"error": first_failure(error)}


def _table_figures(doses: Sequence[Dose]) -> dict[str, Any]:
    """Return the table's figures, the verdict and the reason why a figure is empty, from the dose of K = 10."""
    empty: dict[str, Any] = {**dict.fromkeys(FIGURES), "verdict": "undecided", "percentile": None, "p": None}
    ten = next((dose for dose in doses if dose.k == TABLE_K), None)
    if ten is None:
        return empty | {"reason": f"causal.k has no {TABLE_K}, which the table's figures are about"}
    if ten.outcomes is None:
        return empty | {"reason": ten.reason}
    accuracy, outcome = ten.outcomes["accuracy"], ten.outcomes[ten.outcome]
    reason = ""
    if accuracy.effect is None:
        reason = "no answer of heldout is scored as right or wrong"
    elif accuracy.z is None:
        reason = "no random set changes the accuracy by another amount, so there is no z"
    return {
        "ablation_drop": accuracy.effect,
        "random_drop": accuracy.random,
        "random_drop_sd": accuracy.random_sd,
        "causal_z": accuracy.z,
        "outcome": ten.outcome,
        "percentile": outcome.percentile,
        "p": outcome.p,
        "verdict": ten.verdict,
        "reason": reason,
    }


def spread(encoded: Sequence[EncodedExample], n: int) -> list[EncodedExample]:
    """Return at most ``n`` examples, evenly spaced, so that every part of the split is there."""
    if len(encoded) <= n:
        return list(encoded)
    return [encoded[i * len(encoded) // n] for i in range(n)]
