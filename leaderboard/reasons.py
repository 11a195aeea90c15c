"""Why a row has empty numbers: every empty number of the table is named once, with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEASURED = ("top1_r", "top10_r", "top10_mean_r", "heldout_top10_r")
OPTIONAL = ("accuracy_untuned", "accuracy_tuned", "baseline_top10_r", "untuned_top10_r")
NULL = ("null95_r", "n_fwer", "n_fdr", "n_replicated")
SPREAD = ("top10_r_sd", "heldout_top10_r_sd")
INTERVALS = ("heldout_top10_r_low", "heldout_top10_r_high")
CAUSAL = ("ablation_drop", "random_drop", "random_drop_sd", "causal_z")
COUNTS = ("n_discovery", "n_heldout", "n_neurons")


def empty_numbers(row: Mapping[str, Any], told: Mapping[str, str] | None = None) -> list[str]:
    """Return ``names: reason`` for the empty numbers of a row that has figures.

    ``told`` are the cells' own reasons for an empty ``null``, ``interval``, ``partial`` and ``causal``.
    """
    told = told or {}
    reasons = []
    for figures, why in ((COUNTS, "not recorded"), (MEASURED, "undefined")):
        empty = [name for name in figures if row[name] is None]
        if empty:
            reasons.append(f"{', '.join(empty)}: {why}")
    why_not: dict[str, list[str]] = {}
    why_not["not run"] = [name for name in OPTIONAL if row[name] is None]
    groups: tuple[tuple[str, tuple[str, ...], str], ...] = (
        ("partial", ("partial_r",), "partial_r"),
        ("null", NULL, "null"),
        ("interval", INTERVALS, "heldout interval"),
    )
    for kind, names, title in groups:
        why_not.setdefault(told.get(kind) or "not run", []).extend(_group(row, names, title))
    reasons += [f"{', '.join(empty)}: {why}" for why, empty in why_not.items() if empty]
    causal = _group(row, CAUSAL, "causal")
    if causal:
        reasons.append(f"{', '.join(causal)}: {told.get('causal') or 'not run'}")
    if row["stability"] is None:
        reasons.append("stability: one seed" if row["seeds"] == 1 else "stability: fewer than two rankings")
    return reasons


def _group(row: Mapping[str, Any], names: tuple[str, ...], title: str) -> list[str]:
    """Return the title where all the numbers are empty, else the names of the empty ones."""
    empty = [name for name in names if row[name] is None]
    return [title] if len(empty) == len(names) else empty
