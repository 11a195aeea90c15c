"""Causal tests from Python, on what ``attribute`` found: its heldout examples, its neurons, its discovery split as reference.

    attribution = sn.attribute(lm, task, metrics=["confidence"], prompt=prompt)
    sn.ablation_test(lm, task, attribution, "confidence.p_target", prompt=prompt)       # a dose for every K
    sn.steering_test(lm, task, attribution, "confidence.p_target", prompt=prompt)
    sn.interactions(lm, task, attribution, ["confidence.p_target", "labels.correct"], prompt=prompt)

``sn.ablate`` and ``sn.steer`` are the contexts for experiments of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from skillneurons.ablation import Dose, dose_curve
from skillneurons.attribution import Attribution
from skillneurons.errors import UserError, unknown_name
from skillneurons.interaction import Interactions, joint_ablation, overlaps
from skillneurons.interventions import flat_neurons
from skillneurons.measurement import Applied
from skillneurons.model import LanguageModel
from skillneurons.prompt import SoftPrompt
from skillneurons.registry import get_metric
from skillneurons.statistics import ranking
from skillneurons.steering import SteeringCurve, steering_curve
from skillneurons.testbed import Testbed, testbed
from skillneurons.types import Metric, Task


def ablation_test(
    lm: LanguageModel,
    task: Task,
    attribution: Attribution,
    column: str,
    *,
    prompt: SoftPrompt | None,
    metric: Metric | None = None,
    k: Sequence[int] = (1, 2, 5, 10, 20, 50, 100),
    mode: str = "mean",
    positions: str = "prompt",
    random_sets: int = 20,
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
) -> list[Dose]:
    """Ablate the K neurons of largest |r| of a column, beside matched random sets, and return one dose per K.

    ``metric`` is the column's metric where it is not a registered one. Raise UserError for a K beyond the neurons.
    """
    ranked = _ranked(attribution, column, k)
    bed = _bed(lm, task, attribution, column, prompt, metric, mode, positions, batch_size, seed)
    return dose_curve(bed, ranked, column, k, mode=mode, random_sets=random_sets, resamples=resamples, seed=seed)


def steering_test(
    lm: LanguageModel,
    task: Task,
    attribution: Attribution,
    column: str,
    *,
    prompt: SoftPrompt | None,
    metric: Metric | None = None,
    k: int = 10,
    alphas: Sequence[float] = (-4, -2, -1, 1, 2, 4),
    positions: str = "prompt",
    batch_size: int = 64,
) -> SteeringCurve:
    """Push the ``k`` neurons of largest |r| along their correlation by every alpha (in sd) and return the dose curve."""
    chosen = _ranked(attribution, column, [k])[:k]
    scores = attribution.scores[column]
    bed = _bed(lm, task, attribution, column, prompt, metric, "mean", positions, batch_size, 0)
    return steering_curve(bed, chosen, [float(scores.flat[n]) for n in chosen], column, alphas)


def interactions(
    lm: LanguageModel,
    task: Task,
    attribution: Attribution,
    sets: Sequence[str] | Mapping[str, Sequence[tuple[int, int]]],
    *,
    prompt: SoftPrompt | None,
    k: int = 10,
    outcome: str = "log_prob",
    mode: str = "mean",
    positions: str = "prompt",
    resamples: int = 1000,
    seed: int = 0,
    batch_size: int = 64,
) -> Interactions:
    """Return overlap and joint ablation of every pair of sets, measured on one task.

    ``sets`` are columns, whose ``k`` strongest neurons are taken, or names with their neurons (layer, neuron).
    """
    if isinstance(sets, Mapping):
        flat = {name: flat_neurons(lm, neurons) for name, neurons in sets.items()}
    else:
        flat = {column: _ranked(attribution, column, [k])[:k] for column in sets}
    if len(flat) < 2:
        raise UserError(f"interactions are between sets, but there is {len(flat)}; name two or more")
    bed = _bed(lm, task, attribution, None, prompt, None, mode, positions, batch_size, seed)
    joints = joint_ablation(bed, flat, outcome=outcome, mode=mode, resamples=resamples, seed=seed)
    return Interactions(overlaps(flat, lm.n_neurons), joints)


def _ranked(attribution: Attribution, column: str, ks: Sequence[int]) -> list[int]:
    """Return the neurons of a column (flat indices), strongest first; refuse a K beyond those that have a score."""
    if column not in attribution.scores:
        raise unknown_name("column", column, attribution.scores)
    scores = attribution.scores[column]
    ranked = [int(n) for n in ranking(scores, scores.size)]
    beyond = [one for one in ks if not 1 <= one <= len(ranked)]
    if beyond:
        raise UserError(f"K = {beyond[0]}: {len(ranked)} neurons are ranked for {column!r}; ask for 1 to that many")
    return ranked


def _bed(
    lm: LanguageModel,
    task: Task,
    attribution: Attribution,
    column: str | None,
    prompt: SoftPrompt | None,
    metric: Metric | None,
    mode: str,
    positions: str,
    batch_size: int,
    seed: int,
) -> Testbed:
    applied: Applied = {}
    if column is not None:
        known = metric or get_metric(column.partition(".")[0])
        applied = {known.name: (known, known.columns_for(task))}
    return testbed(
        lm,
        task,
        attribution.splits["discovery"].encoded,
        attribution.splits["heldout"].encoded,
        prompt,
        applied,
        mode=mode,
        positions=positions,
        batch_size=batch_size,
        seed=seed,
    )
