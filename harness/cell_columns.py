"""The figures of one metric column in a cell: strongest neurons, what they do on heldout, and how sure that is.

``top10_r`` is the 10th largest |r| on discovery (the paper's top-K threshold), ``top10_mean_r`` the
mean |r| of those ten there, ``heldout_top10_r`` the mean of sign(r_discovery) * r on heldout of the
same ten with its bootstrap interval, ``baseline_top10_r`` the same from a pass without a prompt, ``untuned_top10_r``
with the prompt before tuning, ``partial_r`` the mean of sign(r_discovery) * partial r on heldout. A column that was
never scored is ``not_applicable``; one without variance is ``degenerate``; both carry no figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.attribution import Attribution, top_neurons
from skillneurons.cell_form import FIGURES
from skillneurons.inference import KEPT, ColumnInference
from skillneurons.statistics import FEWEST

DECIMALS = 6  # of a neuron's figures
RESAMPLE_UNIT = 1e-4  # resamples are kept as whole multiples of it


@dataclass(frozen=True)
class Beside:
    """What stands beside the tuned scores: the pass without a prompt, the untuned one, partial r, shortcut reports.

    ``partial[column]`` has shape (n_positions, n_neurons).
    """

    baseline: Attribution | None = None
    untuned: Attribution | None = None
    partial: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    why_no_partial: str = ""
    shortcuts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    thresholds: Sequence[float] = ()


def signed_heldout_mean(top: list[dict[str, Any]]) -> float:
    """Return the mean of sign(r_discovery) * r_heldout; NaN where any of them is undefined on heldout."""
    return float(np.mean([math.copysign(1.0, row["r"]) * row["r_heldout"] for row in top])) if top else math.nan


def column_figures(attribution: Attribution, beside: Beside, column: str, k: int = 10) -> dict[str, Any]:
    """Return what a cell says about a column of its pass."""
    index = list(attribution.scores).index(column)
    values = {split: attribution.splits[split].values[:, index] for split in ("discovery", "heldout")}
    scored = {split: value[~np.isnan(value)] for split, value in values.items()}
    status, reason = _status(scored["discovery"], scored["heldout"])
    figures: dict[str, Any] = dict.fromkeys(FIGURES)
    figures |= {
        "status": status,
        "reason": reason,
        "n_discovery": len(scored["discovery"]),
        "n_heldout": len(scored["heldout"]),
        "mean": float(scored["discovery"].mean()) if len(scored["discovery"]) else None,
        "sd": float(scored["discovery"].std()) if len(scored["discovery"]) else None,
        "n_constant": int(np.isnan(attribution.scores[column]).sum()) if status == "ok" else None,
        "top": [],
    }
    if status != "ok":
        return figures
    top = top_neurons(attribution.scores[column], attribution.heldout[column], max(KEPT, k))
    best = top[:k]
    if len(best) < k:
        what = f"only {len(best)} neurons vary, fewer than top_k = {k}"
        if not best:
            what = "the statistic is defined for no neuron: it needs a column of 0 and 1 with both, or more examples"
        return figures | {"status": "degenerate", "reason": what}
    figures |= {
        "top1_r": abs(best[0]["r"]),
        "top10_r": abs(best[-1]["r"]),
        "top10_mean_r": float(np.mean([abs(row["r"]) for row in best])),
        "heldout_top10_r": signed_heldout_mean(best),
        "top": top,
    }
    for name, other in (("baseline_top10_r", beside.baseline), ("untuned_top10_r", beside.untuned)):
        if other is not None:
            figures[name] = signed_heldout_mean(top_neurons(other.scores[column], other.heldout[column], k))
    _add_positions(attribution, column, top)
    figures |= _partial(attribution, beside, column, top, k)
    known = attribution.inference.get(column)
    if known is not None:
        figures |= _inferred(known, top)
        figures["above"] = _above(known, attribution.scores[column], attribution.heldout[column], beside.thresholds)
    if column in beside.shortcuts:
        figures["shortcut"] = beside.shortcuts[column]
    for row in top:  # the scores of all neurons stand in the pass in full precision
        row |= {name: round(value, DECIMALS) for name, value in row.items() if isinstance(value, float)}
    return figures


def _add_positions(attribution: Attribution, column: str, top: list[dict[str, Any]]) -> None:
    if column in attribution.positions:
        for row in top:
            row["position"] = int(attribution.positions[column][row["layer"], row["neuron"]])


def _partial(
    attribution: Attribution, beside: Beside, column: str, top: list[dict[str, Any]], k: int
) -> dict[str, Any]:
    """Add each neuron's held-out partial r; return the signed mean of the best ``k``, or why there is none."""
    if column not in beside.partial:
        return {"partial_reason": beside.why_no_partial or "the column is the only one of attribution.nuisance here"}
    d_ff = attribution.scores[column].shape[1]
    for row in top:
        row["partial_r"] = float(beside.partial[column][row.get("position", 0), row["layer"] * d_ff + row["neuron"]])
    mean = float(np.mean([math.copysign(1.0, row["r"]) * row["partial_r"] for row in top[:k]]))
    return {"partial_r": mean, "partial_reason": _why_undefined(attribution, column) if math.isnan(mean) else ""}


def _why_undefined(attribution: Attribution, column: str) -> str:
    """Return why a partial r on heldout is undefined."""
    held = attribution.splits["heldout"].values[:, list(attribution.scores).index(column)]
    held = held[~np.isnan(held)]
    if len(held) < FEWEST or np.ptp(held) == 0:
        return "the column does not vary on heldout"
    return "the nuisance columns determine the column or a neuron on heldout, or too few rows have them scored"


def _above(
    known: ColumnInference,
    scores: npt.NDArray[np.float32],
    heldout: npt.NDArray[np.float32],
    thresholds: Sequence[float],
) -> list[dict[str, Any]]:
    """Return for each level of |r| the neurons chosen by it: number, share, signed held-out mean, and what the null gives."""
    rows = []
    for i, level in enumerate(thresholds):
        chosen = np.abs(scores) >= level
        n = int(chosen.sum())
        rows.append(
            {
                "threshold": level,
                "n": n,
                "share": n / scores.size,
                "heldout": float(np.mean(np.sign(scores[chosen]) * heldout[chosen], dtype=np.float64)) if n else None,
                "null": known.null.above[i] if known.null.above else None,
            }
        )
    return rows


def _inferred(known: ColumnInference, top: list[dict[str, Any]]) -> dict[str, Any]:
    null, more = known.null, known.of_neurons()
    for row in top:
        row.update(more[row["layer"], row["neuron"]])
    return {
        "null95_r": null.threshold,
        "n_fwer": null.n_fwer,
        "n_fdr": null.n_fdr,
        "n_replicated": known.n_replicated,
        "null_scheme": null.scheme,
        "n_permutations": null.n_permutations,
        "null_reason": null.reason or known.replication_reason,
        "heldout_top10_r_low": known.top_low,
        "heldout_top10_r_high": known.top_high,
        "interval_reason": known.interval_reason,
        "resamples": " ".join(_whole(known.top_resamples)),
        "resampled_groups": known.resampled_groups,
    }


def _whole(resamples: npt.NDArray[np.float64]) -> list[str]:
    """Return resamples in units of 1e-4 (x: undefined), so that averaged figures of several seeds can have an interval."""
    return ["x" if np.isnan(number) else str(int(np.rint(number / RESAMPLE_UNIT))) for number in resamples]


def _status(discovery: npt.NDArray[np.float64], heldout: npt.NDArray[np.float64]) -> tuple[str, str]:
    if not len(discovery):
        return "not_applicable", "scored for no example of discovery"
    if len(discovery) < FEWEST:
        return "degenerate", f"scored for {len(discovery)} examples of discovery: a correlation needs at least {FEWEST}"
    if np.ptp(discovery) == 0:
        return "degenerate", f"constant on discovery ({discovery[0]:.4g} for every example)"
    if len(heldout) < FEWEST:
        return (
            "ok",
            f"scored for {len(heldout) or 'no'} example{'s' * (len(heldout) > 1)} of heldout: no held-out figure",
        )
    if np.ptp(heldout) == 0:
        return "ok", f"constant on heldout ({heldout[0]:.4g} for every example): no held-out figure"
    return "ok", ""
