"""The figures of one metric column in a cell: strongest neurons, and what they do on heldout.

``top10_r`` is the 10th largest |r| on discovery (the paper's top-K threshold), ``top10_mean_r`` the
mean |r| of those ten there, ``heldout_top10_r`` the mean of sign(r_discovery) * r on heldout of the
same ten, ``baseline_top10_r`` the same from a pass without a prompt. A column that was never scored is
``not_applicable``; one without variance is ``degenerate``; both carry no figure.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.attribution import Attribution, top_neurons
from skillneurons.cell_form import FIGURES

SAVED_TOP = 50


def signed_heldout_mean(top: list[dict[str, float]]) -> float:
    """Return the mean of sign(r_discovery) * r_heldout; NaN where any of them is undefined on heldout."""
    return float(np.mean([math.copysign(1.0, row["r"]) * row["r_heldout"] for row in top])) if top else math.nan


def column_figures(
    attribution: Attribution, baseline: Attribution | None, column: str, index: int, k: int = 10
) -> dict[str, Any]:
    """Return what a cell says about the column at ``index`` of its pass."""
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
        "top": [],
    }
    if status != "ok":
        return figures
    top = top_neurons(attribution.scores[column], attribution.heldout[column], max(SAVED_TOP, k))
    best = top[:k]
    if len(best) < k:
        return figures | {"status": "degenerate", "reason": f"only {len(best)} neurons vary, fewer than top_k = {k}"}
    figures |= {
        "top1_r": abs(best[0]["r"]),
        "top10_r": abs(best[-1]["r"]),
        "top10_mean_r": float(np.mean([abs(row["r"]) for row in best])),
        "heldout_top10_r": signed_heldout_mean(best),
        "top": top,
    }
    if baseline is not None:
        bare = top_neurons(baseline.scores[column], baseline.heldout[column], k)
        figures["baseline_top10_r"] = signed_heldout_mean(bare)
    return figures


def _status(discovery: npt.NDArray[np.float64], heldout: npt.NDArray[np.float64]) -> tuple[str, str]:
    if not len(discovery):
        return "not_applicable", "scored for no example of discovery"
    if np.ptp(discovery) == 0:
        return "degenerate", f"constant on discovery ({discovery[0]:.4g} for every example)"
    if not len(heldout):
        return "ok", "scored for no example of heldout: no held-out figure"
    if np.ptp(heldout) == 0:
        return "ok", f"constant on heldout ({heldout[0]:.4g} for every example): no held-out figure"
    return "ok", ""
