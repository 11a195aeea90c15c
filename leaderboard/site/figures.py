"""What the figures of a cell draw, as plain data: histogram of r, layer x neuron map, doses, steering, seeds.

    histogram   counts of neurons by r on discovery, BINS equal bins over [-end, end], end = largest |r| or the null's threshold
    map         per layer at most MAP_BINS bins of neighbouring neurons; each bin shows its strongest r and says which neuron
    doses       effect of ablating K neurons by outcome, beside mean and sd of the random sets
    steering    the column, log p, accuracy and loss of neutral text by alpha (sd)
    seeds       held-out r of the ten best by prompt seed, with its interval

NaN (a neuron without a score) counts nowhere and is a gap in the map. Figures are rounded to five decimals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skillneurons.leaderboard.site import places
from skillneurons.results import Result

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BINS = 64
MAP_BINS = 160
OUTCOMES = ("accuracy", "log_prob", "moved")
CURVES = ("metric", "log_prob", "accuracy", "neutral_loss")


def column_figures(result: Result, column: str, scores: npt.NDArray[np.float32] | None) -> dict[str, Any]:
    """Return the figures of one column; ``scores`` (n_layers, d_ff) are r on discovery, None where they are not here."""
    measured = result.columns[column]
    tested = ((result.causal or {}).get("columns") or {}).get(column) or {}
    found: dict[str, Any] = {"null95": rounded(measured.get("null95_r"))}
    if scores is not None and measured.get("status") == "ok":
        found["histogram"] = histogram(scores, measured.get("null95_r"))
        found["map"] = layer_map(scores)
    doses = [_dose(one) for one in tested.get("doses") or [] if one.get("outcomes")]
    if doses:
        found["doses"] = doses
    curve = tested.get("steering") or {}
    if curve.get("alphas"):
        found["steering"] = {
            "alphas": curve["alphas"],
            "followed": curve["followed"],
            **{name: [rounded(value) for value in curve[name]] for name in CURVES if curve.get(name)},
        }
    return found


def histogram(scores: npt.NDArray[np.float32], null95: float | None) -> dict[str, Any]:
    """Return ``end`` and ``counts`` (BINS,) of the scores that are numbers."""
    import numpy as np

    known = scores[~np.isnan(scores)].astype(np.float64)
    widest = max(float(np.abs(known).max()) if known.size else 0.0, null95 or 0.0, 0.05)
    end = math.ceil(widest * 20) / 20
    counts, _ = np.histogram(known, bins=BINS, range=(-end, end))
    return {"end": round(end, 2), "counts": counts.tolist()}


def layer_map(scores: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return per layer the strongest ``r`` of each bin of neighbouring neurons and which ``neuron`` has it.

    ``width`` neurons make a bin, the last may be narrower; a bin without a number is None.
    """
    import numpy as np

    n_layers, d_ff = scores.shape
    width = -(-d_ff // MAP_BINS)
    n_bins = -(-d_ff // width)
    padded = np.full((n_layers, n_bins * width), np.nan, dtype=np.float64)
    padded[:, :d_ff] = scores
    strength = np.where(np.isnan(padded), -1.0, np.abs(padded)).reshape(n_layers, n_bins, width)
    best = strength.argmax(axis=2) + np.arange(n_bins) * width  # (n_layers, bins)
    r = np.round(np.take_along_axis(padded, best, axis=1), 3)
    shown = np.where(np.isnan(r), None, r).tolist()  # type: ignore[call-overload]
    return {"width": width, "d_ff": d_ff, "r": shown, "neuron": best.tolist()}


def seed_figures(cells: Sequence[Result], column: str, page: str) -> list[dict[str, Any]]:
    """Return the held-out r of one column by seed, for cells that differ in the seed alone."""
    found = []
    for cell in sorted(cells, key=lambda one: (one.seed, one.key)):
        measured: Mapping[str, Any] = cell.columns.get(column) or {}
        figures = ("heldout_top10_r", "heldout_top10_r_low", "heldout_top10_r_high", "null95_r")
        value, low, high, null = (rounded(measured.get(name)) for name in figures)
        place = places.link(page, places.cell_place(cell.key))
        found.append({"seed": cell.seed, "page": place, "r": value, "low": low, "high": high, "null95": null})
    return found


def rounded(value: Any, decimals: int = 5) -> float | None:
    """Return a figure with few decimals; None for None and for what is no finite number."""
    return round(float(value), decimals) if value is not None and math.isfinite(value) else None


def _dose(dose: Mapping[str, Any]) -> dict[str, Any]:
    outcomes = {
        name: [rounded(dose["outcomes"][name].get(part)) for part in ("effect", "random", "random_sd")]
        for name in OUTCOMES
        if name in dose["outcomes"]
    }
    return {"k": dose["k"], "verdict": dose["verdict"], "outcome": dose["outcome"], "outcomes": outcomes}
