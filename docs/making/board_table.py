"""A few rows of the committed board, for the first page."""

from __future__ import annotations

import csv
from pathlib import Path

from making.blocks import table

BOARD = Path(__file__).resolve().parent.parent.parent / "leaderboard" / "board" / "board.csv"
SHOWN = (
    ("arithmetic", "heuristics.correct"),
    ("arithmetic", "heuristics.last_digit_ok"),
    ("hans", "heuristics.heuristic_follows"),
    ("hans", "labels.gold_label"),
    ("skillmix", "labels.shown_modus_ponens"),
    ("skillmix", "labels.shown_metaphor"),
)
HEADS = ("task", "column", "10th largest |r|", "chance", "held out (95 %)", "survive", "hold out")


def board() -> str:
    """Return a few columns of a few rows of the model `pocket`; raise KeyError where the board lacks one."""
    with BOARD.open(encoding="utf-8", newline="") as file:
        rows = {(row["task"], row["column"]): row for row in csv.DictReader(file) if row["model"] == "pocket"}
    return table(HEADS, [_shown(rows[place]) for place in SHOWN])


def _shown(row: dict[str, str]) -> tuple[str, ...]:
    r, chance, mean, low, high = (
        f"{float(row[name]):.2f}"
        for name in ("top10_r", "null95_r", "heldout_top10_r", "heldout_top10_r_low", "heldout_top10_r_high")
    )
    survive, hold_out = (f"{float(row[name]):.0f}" for name in ("n_fwer", "n_replicated"))
    return row["task"], f"`{row['column']}`", r, chance, f"{mean} ({low} to {high})", survive, hold_out
