"""The board: every row of the table, for sorting, searching and choosing; accuracies and causes below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from skillneurons.leaderboard.formats import printed
from skillneurons.leaderboard.ranks import Place, Standings
from skillneurons.leaderboard.rows import COLUMNS, Row
from skillneurons.leaderboard.site import places
from skillneurons.leaderboard.site.column_help import GROUPS, HELP
from skillneurons.leaderboard.site.page import render_page
from skillneurons.leaderboard.site.prose import as_html

if TYPE_CHECKING:
    from skillneurons.leaderboard.board import Board

_SHOWN = ("model", "task", "column", "accuracy_tuned", "heldout_top10_r", "null95_r", "n_fwer")
SHOWN = (*_SHOWN, "ablation_drop", "random_drop", "causal_z", "stability", "status")
NARROW = ("task", "column", "heldout_top10_r", "null95_r", "causal_z")
FILTERS = ("model", "task", "metric", "status")
_VERIFIED = "verified"


def board_page(board: Board, pages: frozenset[str]) -> bytes:
    """Return ``index.html``; ``pages`` are the places of the site's other pages."""
    models = sorted({(row["model"], row["revision"] or "") for row in board.rows})
    more = (_VERIFIED,) if board.trusted else ()
    return render_page(
        "board.html.j2",
        places.BOARD,
        "Skill neurons: the leaderboard",
        data=_data(board.rows, board.standings, pages, (*SHOWN, *more)),
        n_rows=len(board.rows),
        n_models=len(models),
        n_tasks=len({row["task"] for row in board.rows}),
        compared=places.MODELS in pages,
        groups=GROUPS,
        help=HELP,
        filters={name: sorted({str(row[name]) for row in board.rows}) for name in (*FILTERS, *more)},
        accuracies=[_accuracy(entry, pages) for entry in board.accuracies],
        causes=[
            (model, revision, as_html(lines[1:]), standing)
            for told, standing in ((board.causes, ""), (board.unverified_causes, "not verified"))
            for (model, revision), lines in sorted(told.items())
            if lines
        ],
        parted=board.trusted,
        notes=board.notes,
        left_out=board.left_out,
    )


def _data(
    rows: Sequence[Row], standings: Standings, pages: frozenset[str], names_shown: Sequence[str] = SHOWN
) -> dict[str, Any]:
    """Return what the script makes the table from: columns, rows in their order, cells behind each."""
    names = [name for name in COLUMNS if name != "keys"]
    ranks = _ranks(standings)
    numeric = [name for name in names if COLUMNS[name] is not str]
    at = names.index("heldout_top10_r_high") + 1
    known = (*names[:at], "rank", *names[at:]) if ranks else tuple(names)
    columns = [{"name": name, "number": name in numeric, "rank": name == "rank", "help": HELP[name]} for name in known]
    body = []
    for row in rows:
        values = [_short(row[name]) if name in numeric else row[name] or "" for name in names]
        texts = [printed(name, row[name]) if name in numeric else None for name in names]
        cells = [(seed_name(key), places.cell_place(key)) for key in row["keys"].split()]
        one: dict[str, Any] = {"v": values, "t": texts}
        if ranks:
            one["rank"] = _rank(ranks.get((row["task"], row["metric"], row["column"])), row)
        one["cells"] = [cell for cell in cells if cell[1] in pages]
        one["task"] = places.task_place(row["task"]) if places.task_place(row["task"]) in pages else ""
        body.append(one)
    shown = [name for name in (*names_shown[:5], "rank", *names_shown[5:]) if name in known]
    return {"columns": columns, "rows": body, "shown": shown, "narrow": list(NARROW)}


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def seed_name(key: str) -> str:
    """Return ``s0`` of ``task-metric-s0-hash``, else the key itself."""
    parts = key.rsplit("-", 2)
    return parts[1] if len(parts) == 3 and parts[1][:1] == "s" and parts[1][1:].isdecimal() else key


def _ranks(standings: Standings) -> dict[tuple[str, str, str], Mapping[str, Place]]:
    """Return the places by model for every (task, metric, column) that was ranked under one setting."""
    found: dict[tuple[str, str, str], Mapping[str, Place]] = {}
    for one in standings.standings:
        if not one.setting and any(place.best is not None for place in one.places):
            found[one.task, one.metric, one.column] = {place.model: place for place in one.places}
    return found


def _rank(ranked: Mapping[str, Place] | None, row: Row) -> list[Any]:
    """Return what to sort by, the text, and the models that it ties with; a variant of a row has no rank."""
    for label in (row["model"], f"{row['model']}@{row['revision']}"):
        place = (ranked or {}).get(label)
        if place is not None and place.best is not None and "variant:" not in (row["reason"] or ""):
            tie = f"within noise of {', '.join(place.ties)}" if place.ties else "beyond noise of every other"
            return [place.best, f"{place.ranks}{' ~' if place.ties else ''}", tie]
    return [None, "", ""]


def _accuracy(entry: Mapping[str, Any], pages: frozenset[str]) -> dict[str, Any]:
    place = places.task_place(entry["task"])
    figures = {name: printed("", entry[name]) for name in ("untuned", "tuned", "stderr", "chance")}
    return {**entry, **figures, "page": place if place in pages else "", "scores": _scores(entry["scores"])}


def _scores(scores: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for score in scores:
        figure = f"{printed('', score['value']) or 'not scored'} (n = {score['n']})"
        found.setdefault(score["name"], []).append(f"{score['part'] or 'all'} {figure}")
    return found
