"""The shortcut report: does a neuron follow the explanation that is wanted, or a rival that often agrees with it?

For a wanted column W (``heuristics.correct``) and a rival R (``heuristics.last_digit_ok``), both of 0 and 1, on heldout:

- ``r_wanted``, ``r_rival`` and ``difference`` = |r_rival| - |r_wanted| with its bootstrap interval by group;
- ``partial_r`` of R given W, its p-value by permuting the residuals (Freedman & Lane 1983);
- ``level``: the mean activation on the deciding cell (R = 1, W = 0: right last digit, wrong number) on a scale where
  both wrong is 0 and both right is 1, with its interval.

Verdict of a neuron: ``shortcut`` where the difference is above 0 by its interval, the partial r is significant and the
level is above 1/2 by its interval; ``wanted`` where difference and level lie below 0 and 1/2 by theirs; else ``undecided``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from skillneurons.exchange import exchange, group_members
from skillneurons.intervals import FEWEST_GROUPS, percentiles
from skillneurons.null import ALPHA, ROUNDING, smallest_useful
from skillneurons.partial import DETERMINED
from skillneurons.statistics import CONSTANT, standardised

FEWEST = 10  # examples that a cell of the report needs

Doubles = npt.NDArray[np.float64]


def shortcut_report(
    activations: npt.NDArray[Any],
    wanted: Doubles,
    rival: Doubles,
    groups: Sequence[str],
    *,
    n_permutations: int,
    n_resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Return ``neurons`` (a dict of the figures above each, in order) and ``verdicts`` counted, or a ``reason``.

    ``activations`` (rows, neurons), ``wanted`` and ``rival`` (rows,), NaN = not scored.
    """
    scored = ~(np.isnan(wanted) | np.isnan(rival))
    a, w, v = activations[scored].astype(np.float64), wanted[scored], rival[scored]
    kept = [group for group, used in zip(groups, scored, strict=True) if used]
    reason = _refusal(w, v, kept, n_permutations, n_resamples)
    if reason:
        return {"reason": reason, "neurons": [], "verdicts": {}}
    p_partial, partial, why = _freedman_lane(a, v, w, kept, n_permutations, seed)
    observed, resampled = _from_sums(a, w, v, kept, n_resamples, seed)
    rows = []
    for i in range(a.shape[1]):
        row: dict[str, Any] = {"r_wanted": observed["r_wanted"][i], "r_rival": observed["r_rival"][i]}
        for name in ("difference", "level"):
            low, high = percentiles(resampled[name][None, i])
            row |= {name: observed[name][i], f"{name}_low": low[0], f"{name}_high": high[0]}
        row |= {"partial_r": partial[i], "p_partial": p_partial[i]}
        row["verdict"] = verdict_of(row)
        rows.append({name: value if isinstance(value, str) else float(value) for name, value in row.items()})
    counts = {name: sum(row["verdict"] == name for row in rows) for name in ("shortcut", "wanted", "undecided")}
    return {"reason": why, "neurons": rows, "verdicts": counts, "n_deciding": int(((v == 1) & (w == 0)).sum())}


def verdict_of(row: Mapping[str, float]) -> str:
    """Return ``shortcut``, ``wanted`` or ``undecided`` from the figures of a neuron; NaN decides nothing."""
    if row["difference_low"] > 0 and row["p_partial"] <= ALPHA and row["level_low"] > 0.5:
        return "shortcut"
    if row["difference_high"] < 0 and row["level_high"] < 0.5:
        return "wanted"
    return "undecided"


def _refusal(w: Doubles, v: Doubles, groups: Sequence[str], n_permutations: int, n_resamples: int) -> str:
    if not (np.isin(w, (0, 1)).all() and np.isin(v, (0, 1)).all()):
        return "the explanations are not of 0 and 1"
    if n_permutations < smallest_useful() or not n_resamples:
        return (
            f"needs at least {smallest_useful()} permutations and some bootstrap resamples (attribution.permutations, "
            f"attribution.bootstrap), got {n_permutations} and {n_resamples}"
        )
    for r, c, what in ((1, 0, "the rival holds and the wanted does not"), (0, 0, "neither holds"), (1, 1, "both hold")):
        cell = (v == r) & (w == c)
        n, n_groups = int(cell.sum()), len({group for group, inside in zip(groups, cell, strict=True) if inside})
        if n < FEWEST or n_groups < FEWEST_GROUPS:
            return f"{n} held-out examples of {n_groups} groups where {what}: at least {FEWEST} of {FEWEST_GROUPS} groups are needed"
    return ""


def _from_sums(
    a: Doubles, w: Doubles, v: Doubles, groups: Sequence[str], n_resamples: int, seed: int
) -> tuple[dict[str, Doubles], dict[str, Doubles]]:
    """Return each figure of every neuron, (neurons,), and of every resample, (neurons, n_resamples)."""
    a = a - a.mean(axis=0)
    cells = [(v == 1) & (w == 0), (v == 0) & (w == 0), (v == 1) & (w == 1)]
    one = np.ones(len(a))
    narrow = np.stack([one, w, v, *(cell.astype(float) for cell in cells)], axis=1)  # w and v are their own squares
    wide = [a, a * a, a * w[:, None], a * v[:, None], *(a * cell[:, None] for cell in cells)]
    columns = np.concatenate([narrow, *wide], axis=1)
    sums = np.stack([columns[rows].sum(axis=0) for rows in group_members(groups)])
    drawn = np.random.default_rng(seed).integers(0, len(sums), (n_resamples, len(sums)))
    times = np.stack([np.bincount(row, minlength=len(sums)) for row in drawn])
    k = a.shape[1]
    observed = {name: value[:, 0] for name, value in _figures(sums.sum(axis=0)[None], k).items()}
    return observed, _figures(times @ sums, k)


def _figures(total: Doubles, k: int) -> dict[str, Doubles]:
    """Return the figures (neurons, n) of sums (n, 6 + 7 neurons)."""
    n, sw, sv, n10, n00, n11 = (total[:, i : i + 1] for i in range(6))
    sa, saa, saw, sav, s10, s00, s11 = (total[:, 6 + i * k : 6 + (i + 1) * k] for i in range(7))
    with np.errstate(invalid="ignore", divide="ignore"):
        sd_a = np.sqrt(np.maximum(saa / n - (sa / n) ** 2, 0.0))
        r_wanted = (saw / n - sa * sw / n**2) / (sd_a * np.sqrt(sw / n - (sw / n) ** 2))
        r_rival = (sav / n - sa * sv / n**2) / (sd_a * np.sqrt(sv / n - (sv / n) ** 2))
        level = (s10 / n10 - s00 / n00) / (s11 / n11 - s00 / n00)
    found = {
        "r_wanted": r_wanted,
        "r_rival": r_rival,
        "difference": np.abs(r_rival) - np.abs(r_wanted),
        "level": level,
    }
    return {name: np.where(np.isfinite(value), value, np.nan).T for name, value in found.items()}


def _freedman_lane(
    a: Doubles, v: Doubles, w: Doubles, groups: Sequence[str], n_permutations: int, seed: int
) -> tuple[Doubles, Doubles, str]:
    """Return p and partial r of every neuron, (neurons,), and why there is no p where there is none."""
    z = np.stack([np.ones(len(w)), w], axis=1)
    basis = np.linalg.qr(z)[0]
    residual = a - basis @ (basis.T @ a)
    left_a = standardised(residual)
    whole = ((a - a.mean(axis=0)) ** 2).sum(axis=0)
    flat = np.sqrt(whole / len(a)) <= CONSTANT * np.abs(a.mean(axis=0))
    left_a[:, flat | ((residual**2).sum(axis=0) <= DETERMINED * whole)] = (
        np.nan
    )  # constant, or the wanted determines it
    left_v = v - basis @ (basis.T @ v)
    drawn = exchange(v, groups, n_permutations, seed)
    orders = np.concatenate([np.arange(len(v))[None], drawn.orders])
    moved = left_v[orders]  # (1 + B, rows)
    moved = moved - (moved @ basis) @ basis.T
    products = (moved / np.linalg.norm(moved, axis=1, keepdims=True)) @ left_a  # (1 + B, neurons)
    if drawn.reason:
        return np.full(a.shape[1], np.nan), products[0], drawn.reason
    reached = (np.abs(products[1:]) >= np.abs(products[0]) - ROUNDING).sum(axis=0)
    p = (1 + reached) / (n_permutations + 1)
    return np.where(np.isnan(products[0]), np.nan, p), products[0], ""
