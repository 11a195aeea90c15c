"""The models beside each other: every pair of them on every column that both have, and all of them ranked with their ties."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from skillneurons.leaderboard.differences import Difference, heldout_differences
from skillneurons.leaderboard.models import Identity, model_labels
from skillneurons.leaderboard.ranks import Standings, corrected
from skillneurons.leaderboard.shared import shared
from skillneurons.leaderboard.site import places
from skillneurons.leaderboard.site.figures import rounded
from skillneurons.leaderboard.site.page import render_page
from skillneurons.leaderboard.site.prose import as_html
from skillneurons.leaderboard.standings_text import standings_lines
from skillneurons.results import Result

Line = tuple[str, str, str, Difference]  # task, column, setting, and how the two models differ


def models_page(skills: Sequence[Sequence[Result]], standings: Standings) -> bytes:
    """Return the page; ``skills`` are the cells of all models, by task and metric."""
    labels = model_labels(cell for cells in skills for cell in cells)
    pairs = pair_differences(skills, list(labels))
    order = {model: number for number, model in enumerate(labels)}
    data = {
        "models": list(labels.values()),
        "pairs": {
            f"{order[one]} {order[other]}": [_line(line) for line in lines]
            for (one, other), lines in pairs.items()
            if lines
        },
    }
    return render_page(
        "models.html.j2",
        places.MODELS,
        "Models beside each other",
        data=data,
        tasks=sorted({line[0] for lines in pairs.values() for line in lines}),
        standings=as_html(["## All models", *standings_lines(standings)[1:]]),
    )


def pair_differences(
    skills: Sequence[Sequence[Result]], models: Sequence[Identity]
) -> dict[tuple[Identity, Identity], list[Line]]:
    """Return every pair's differences of held-out r, with Holm's correction over the columns of the pair."""
    found: dict[tuple[Identity, Identity], list[Line]] = {pair: [] for pair in combinations(models, 2)}
    for cells in skills:
        for one in shared(cells)[0]:
            for column in one.columns():
                have = [m for m in models if any(column in cell.columns for cell in one.cells.get(m, {}).values())]
                pairs = list(combinations(have, 2))
                for pair, difference in zip(pairs, heldout_differences(one.cells, column, pairs), strict=True):
                    found[pair].append((one.task, column, one.setting, difference))
    for pair, lines in found.items():
        family = corrected([line[3] for line in lines])
        found[pair] = [(*line[:3], difference) for line, difference in zip(lines, family, strict=True)]
    return found


def _line(line: Line) -> dict[str, Any]:
    task, column, setting, one = line
    said = one.verdict if one.verdict in ("the same", "not compared") else ""
    return {
        "task": task,
        "column": column,
        "setting": setting,
        "r": [rounded(one.a), rounded(one.b)],
        "d": [rounded(value) for value in (one.difference, one.low, one.high)],
        "p": rounded(one.p_holm),
        "beyond": one.beyond_noise,
        "why": f"{said}: {one.reason}".rstrip(": ") if said else "",
    }
