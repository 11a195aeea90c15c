"""Why a row has empty numbers: every empty number of the table is named once, with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEASURED = ("top1_r", "top10_r", "top10_mean_r", "heldout_top10_r")
OPTIONAL = (
    "accuracy_untuned",
    "accuracy_tuned",
    "baseline_top10_r",
    "partial_r",
    "null95_r",
    "n_fwer",
    "n_fdr",
)
INTERVALS = ("heldout_top10_r_low", "heldout_top10_r_high")
CAUSAL = ("ablation_drop", "random_drop", "random_drop_sd", "causal_z")
COUNTS = ("n_discovery", "n_heldout", "n_neurons")


def empty_numbers(row: Mapping[str, Any]) -> list[str]:
    """Return ``names: reason`` for the empty numbers of a row that has figures."""
    reasons = []
    for names, why in ((COUNTS, "not recorded"), (MEASURED, "undefined")):
        empty = [name for name in names if row[name] is None]
        if empty:
            reasons.append(f"{', '.join(empty)}: {why}")
    not_run = [name for name in OPTIONAL if row[name] is None]
    not_run += _group(row, INTERVALS, "heldout intervals")
    if not_run:
        reasons.append(f"{', '.join(not_run)}: not run")
    causal = _group(row, CAUSAL, "causal")
    if causal:
        reasons.append(f"{', '.join(causal)}: not run")
    if row["stability"] is None:
        reasons.append("stability: one seed" if row["seeds"] == 1 else "stability: fewer than two rankings")
    return reasons


def _group(row: Mapping[str, Any], names: tuple[str, ...], title: str) -> list[str]:
    """Return the title where all the numbers are empty, else the names of the empty ones."""
    empty = [name for name in names if row[name] is None]
    return [title] if len(empty) == len(names) else empty
