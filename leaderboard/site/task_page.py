"""The page of one task: what it measures, chance, where its data come from, how models do on it, its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillneurons.leaderboard.formats import printed
from skillneurons.leaderboard.rows import Row
from skillneurons.leaderboard.site import places
from skillneurons.leaderboard.site.board_page import seed_name
from skillneurons.leaderboard.site.page import number, render_page

_FIGURES = ("null95_r", "n_fwer", "ablation_drop", "random_drop", "causal_z")
_KINDS = {
    "choice": "choice: the likeliest of the given answers counts",
    "open": "open: the greedy continuation must equal the target",
    "generation": "generation: free text, graded",
}


@dataclass(frozen=True)
class About:
    """What the plugin of a task says of it: only a task of the same version and source is what a cell measured."""

    version: str
    source_hash: str
    description: str


def task_page(
    name: str,
    variants: Sequence[Mapping[str, Any]],
    rows: Sequence[Row],
    accuracies: Sequence[Mapping[str, Any]],
    about: About | None,
    pages: frozenset[str],
) -> bytes:
    """Return the page of a task; ``variants`` are the different tasks of this name that cells were measured on."""
    return render_page(
        "task.html.j2",
        places.task_place(name),
        f"Task {name}",
        name=name,
        versions=[{"task": one, "about": _told(one, about), "facts": _facts(one)} for one in variants],
        accuracies=accuracies,
        rows=[_row(row, pages) for row in sorted(rows, key=_strongest)],
    )


def _told(task: Mapping[str, Any], about: About | None) -> str:
    same = about is not None and (about.version, about.source_hash) == (task["version"], task.get("source_hash"))
    return about.description if about is not None and same else ""


def _facts(task: Mapping[str, Any]) -> list[tuple[str, str]]:
    grader = task.get("grader") or {}
    chance = task.get("chance")
    found = [
        ("kind", _KINDS.get(str(task.get("kind")), str(task.get("kind")))),
        ("form", task.get("form") or ""),
        ("chance", "none: a guess is never right" if chance == 0 else number(chance) or "not said"),
        ("source", task.get("source") or "not said"),
        ("licence", task.get("licence") or "not said"),
        ("prompt tuned on", task.get("tuned_on") or ""),
        (
            "graded by",
            f"{grader['name']}{' (synthetic: knows only text made for it)' if grader.get('synthetic') else ''}"
            if grader
            else "",
        ),
        ("options", ", ".join(f"{name} = {value}" for name, value in (task.get("options") or {}).items())),
        ("version", f"{task['version']}, source hash {task.get('source_hash')}, data hash {task.get('data_hash')}"),
    ]
    return [(label, str(value)) for label, value in found if value]


def _strongest(row: Row) -> tuple[str, float, str, str]:
    held = row["heldout_top10_r"]
    return row["model"], -held if held is not None else 2.0, row["column"] or "", row["keys"]


def _row(row: Row, pages: frozenset[str]) -> dict[str, Any]:
    low, high = (printed("", row[f"heldout_top10_r_{end}"]) for end in ("low", "high"))
    keys = [key for key in row["keys"].split() if places.cell_place(key) in pages]
    return {
        "model": row["model"],
        "column": row["column"] or f"{row['metric']}: {row['status']}",
        "heldout": printed("heldout_top10_r", row["heldout_top10_r"]) or row["status"],
        "interval": f"{low} to {high}" if low and high else "",
        "figures": [printed(name, row[name]) for name in _FIGURES],
        "cells": [(seed_name(key), places.column_place(key, row["column"])) for key in keys],
    }
