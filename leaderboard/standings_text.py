"""Models beside each other as a section of the page: one row per task and column, one column per model."""

from __future__ import annotations

from collections.abc import Sequence

from skillneurons.leaderboard.formats import one_line, printed
from skillneurons.leaderboard.ranks import Place, Standing, Standings

_HOW = """\
`heldout_top10_r` of each model on the columns that several have (the mean over its prompt seeds), and in brackets the
ranks that the data leave open: 1 + the number of models beyond noise above it, to n - the number beyond noise below
it. Two models differ beyond noise where the 95 % bootstrap interval of their paired difference (same groups of
examples, prompt seeds that both have) leaves out 0 and the bootstrap p, corrected by Holm over the pairs of the row, is
at most 0.05; `~` marks a model that ties with another. Rows are not corrected for each other: of rows without any
difference, up to 5 % say otherwise. `skillneurons compare` compares two models with accuracies and all rows corrected."""
_OPEN = "~"


def standings_lines(found: Standings) -> list[str]:
    """Return the section's lines, none where nothing stands beside anything."""
    if not found.standings and not found.refused:
        return []
    lines = ["## Models beside each other", "", *_HOW.splitlines()]
    if found.standings:
        lines += ["", *_table(found)]
    reasons = _reasons(found.standings)
    if reasons:
        lines += ["", "Not ranked:", "", *(f"- {one_line(reason)}" for reason in reasons)]
    if found.left_out:
        lines += ["", "Left out, so that the models of a row have the same prompt seeds:", ""]
        lines += [f"- {one_line(line)}" for line in found.left_out]
    if found.refused:
        lines += ["", "Not set beside each other:", "", *(f"- {one_line(reason)}" for reason in found.refused)]
    return lines


def _table(found: Standings) -> list[str]:
    settings = any(one.setting for one in found.standings)
    names = ["task", "column", *(["setting"] if settings else []), *map(one_line, found.models), "pairs beyond noise"]
    left = 3 if settings else 2
    rule = ["---"] * left + ["---:"] * len(found.models) + ["---"]
    body = []
    for one in found.standings:
        places = {place.model: place for place in one.places}
        start = [one.task, one.column, *([one.setting] if settings else [])]
        cells = [place_text(places[model]) if model in places else "" for model in found.models]
        body.append([*map(one_line, start), *cells, beyond_text(one)])
    return [f"| {' | '.join(cells)} |" for cells in (names, rule, *body)]


def place_text(place: Place) -> str:
    """Return ``0.637 (1)``, ``0.594 (1-2) ~``, or what is known of it."""
    if place.value is None:
        return ""
    ranks = f" ({place.ranks})" if place.ranks else ""
    return f"{printed('heldout_top10_r', place.value)}{ranks}{' ' + _OPEN if place.ties else ''}"


def beyond_text(one: Standing) -> str:
    """Return ``within noise``, or how many pairs of models differ beyond it."""
    ranked = [place for place in one.places if place.best is not None]
    if not ranked:
        return "not compared"
    n = len(ranked)
    ties = sum(len(place.ties) for place in ranked) // 2
    pairs = n * (n - 1) // 2
    return "within noise" if ties >= pairs else f"{pairs - ties} of {pairs}"


def _reasons(standings: Sequence[Standing]) -> list[str]:
    """Return one line for every reason, with the columns that it concerns."""
    told: dict[str, list[str]] = {}
    for one in standings:
        for place in one.places:
            if place.reason:
                told.setdefault(f"{place.model}: {place.reason}", []).append(f"{one.task} {one.column}")
    return [f"{reason} ({', '.join(columns)})" for reason, columns in sorted(told.items())]
