"""Checks of a statistic: shape, batches, merging, rows that are not scored, and what a planted neuron gets."""

from __future__ import annotations

from typing import Any

import numpy as np
from skillneurons.testing.attribution_case import (
    CLASSES,
    CONSTANT,
    GAPS,
    LIKE,
    NEURONS,
    ROWS,
    UNLIKE,
    AttributionCase,
    largest_difference,
)
from skillneurons.testing.checks import NotApplicable, check
from skillneurons.testing.task_checks import first_difference

SAME = 1e-9  # as a share of the largest number
NOTHING = 1e-9


@check("attribution", "shape")
def shape(case: AttributionCase) -> str | None:
    """Result and effect are float arrays of shape (columns, neurons)."""
    return f"{case.subject}: {case.outcome}" if isinstance(case.outcome, str) else None


@check("attribution", "deterministic")
def deterministic(case: AttributionCase) -> str | None:
    """The same rows give the same numbers, in this process and in a fresh one."""
    whole = case.whole
    for name, array in case.of(case.filled()).items():
        if not np.array_equal(array, whole[name], equal_nan=True):
            return f"{case.subject}: {name}() differs for the same rows; draw from a fixed seed, made in __init__"
    where = first_difference(case.fingerprint(), case.context.fresh_values(f"attribution {case.name}"))
    if where:
        return f"{case.subject}: {where}() differs in a fresh process with another PYTHONHASHSEED; use nothing of hash() or time"
    return None


@check("attribution", "batch invariance")
def batch_invariance(case: AttributionCase) -> str | None:
    """One update, many, and another order of the rows give the same numbers."""
    whole = case.whole
    order = np.random.default_rng(21).permutation(ROWS)
    ways: dict[str, list[Any]] = {
        "in batches of 7": [slice(start, start + 7) for start in range(0, ROWS, 7)],
        "row by row": [slice(start, start + 1) for start in range(ROWS)],
        "in another order": [order],
    }
    for way, parts in ways.items():
        for name, array in case.of(case.filled(parts)).items():
            gap = largest_difference(whole[name], array)
            if gap > SAME:
                return (
                    f"{case.subject}: {name}() {way} differs from one update by {gap:.2g} of its largest number; keep sums "
                    "(or the rows), never a mean of batches"
                )
    return None


@check("attribution", "merge")
def merge(case: AttributionCase) -> str | None:
    """Merged parts give what all rows give."""
    whole = case.whole
    for cut in (ROWS // 2, 10):
        made = case.filled([slice(None, cut)])
        merged = made.merge(case.filled([slice(cut, None)]))
        for name, array in case.of(made if merged is None else merged).items():
            gap = largest_difference(whole[name], array)
            if gap > SAME:
                return (
                    f"{case.subject}: {name}() of rows 0 to {cut} merged with the rest differs from all rows at once by "
                    f"{gap:.2g} of its largest number; merge must add all that update adds"
                )
    return None


@check("attribution", "not scored")
def not_scored(case: AttributionCase) -> str | None:
    """NaN leaves a row out of its own column, and out of no other."""
    whole = case.whole
    scored = np.flatnonzero(~np.isnan(case.values[:, GAPS]))
    alone = case.of(case.filled([scored], case.values[:, [GAPS]]))
    full = case.of(case.filled(values=case.values[:, [CLASSES]]))
    for name in whole:
        if largest_difference(alone[name][0], whole[name][GAPS]) > SAME:
            return (
                f"{case.subject}: {name}() of a column with NaN is not that of its scored rows alone; a NaN value is a row "
                "that is not there for this column"
            )
        if largest_difference(full[name][0], whole[name][CLASSES]) > SAME:
            return (
                f"{case.subject}: {name}() of a column changes when another column has NaN; leave the row out of the column "
                "with NaN alone"
            )
    return None


@check("attribution", "constant neuron")
def constant_neuron(case: AttributionCase) -> str | None:
    """A neuron that never changes has effect 0, or NaN where that is not defined; never infinity."""
    for column, effect in enumerate(case.relates["effect"][:, CONSTANT]):
        if not (np.isnan(effect) or abs(effect) <= NOTHING):
            return (
                f"{case.subject}: a neuron that is 2.5 in every row has effect {effect:g} for column {column}; it tells "
                "nothing of any value, so its effect is 0 or NaN (take the mean off the activations)"
            )
    return None


@check("attribution", "planted neuron")
def planted_neuron(case: AttributionCase) -> str | None:
    """A neuron that all but equals a column of 0 and 1 comes out on top, positive; its negative too, negative."""
    effect = case.relates["effect"][CLASSES]
    if np.isnan(effect).all():
        raise NotApplicable(f"{case.subject} is defined for no neuron of a column of 0 and 1")
    size = np.where(np.isnan(effect), -1.0, np.abs(effect))
    top = sorted(int(neuron) for neuron in np.argsort(-size, kind="stable")[:2])
    if top != sorted((LIKE, UNLIKE)) or not (effect[LIKE] > 0 > effect[UNLIKE]):
        return (
            f"{case.subject}: of {NEURONS} neurons one all but equals the column and one its negative; their effects are "
            f"{effect[LIKE]:.4g} and {effect[UNLIKE]:.4g}, the largest of the others {_largest_other(size):.4g}; effect() is "
            "signed and largest where the relation is closest"
        )
    return None


def _largest_other(size: np.ndarray) -> float:
    return float(np.delete(size, (LIKE, UNLIKE)).max())


@check("attribution", "leaves its input")
def leaves_its_input(case: AttributionCase) -> str | None:
    """It changes nothing of the activations and values it is given."""
    case.whole  # noqa: B018 - not applicable without arrays
    activations, values = case.activations.copy(), case.values.copy()
    made = case.new()
    made.update(activations, values)
    case.of(made)
    for name, now, was in (("activations", activations, case.activations), ("values", values, case.values)):
        if not np.array_equal(now, was, equal_nan=True):
            return f"{case.subject}: changes the {name} it is given, which other statistics read too; work on a copy"
    return None
