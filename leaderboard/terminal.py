"""The most telling columns of the table, for a terminal: what a person sees after a run."""

from __future__ import annotations

from collections.abc import Sequence

from skillneurons.leaderboard.formats import printed
from skillneurons.leaderboard.rows import Row

_FIGURES = (
    "n_discovery",
    "n_heldout",
    "acc untuned/tuned",
    "top10_r",
    "null95_r",
    "heldout_top10_r",
    "95 % interval",
    "partial_r",
    "baseline_top10_r",
    "n_fwer",
    "n_replicated",
    "status",
)
_FIRST_TO_GO = (
    "n_heldout",
    "acc untuned/tuned",
    "n_discovery",
    "partial_r",
    "status",
    "baseline_top10_r",
    "n_fwer",
    "95 % interval",
    "n_replicated",
)


def terminal_text(rows: Sequence[Row], width: int | None = None) -> str:
    """Return the short table of each model; with ``width``, columns go until it fits."""
    if not rows:
        return "no finished cells"
    sections = []
    for model, revision in sorted({(row["model"], row["revision"] or "") for row in rows}):
        own = [row for row in rows if (row["model"], row["revision"] or "") == (model, revision)]
        sections.append(_section(f"{model} ({revision})" if revision else model, own, width))
    return "\n\n".join(sections)


def _section(title: str, rows: Sequence[Row], width: int | None) -> str:
    names, hidden = list(_FIGURES), 0
    if any(row["verified"] == "yes" for row in rows):
        names.append("verified")
    table = _table(rows, names)
    while width is not None and len(table.splitlines()[0]) > width and hidden < len(_FIRST_TO_GO):
        names.remove(_FIRST_TO_GO[hidden])
        hidden += 1
        table = _table(rows, names)
    searched = sorted({row["n_neurons"] for row in rows if row["n_neurons"] is not None})
    lines = [f"{title}: {' or '.join(map(str, searched))} neurons" if searched else title, "", table]
    bad = [
        f"{row['task']} {row['column'] or row['metric']}: {' '.join(row['reason'].split())}"
        for row in rows
        if row["status"] != "ok"
    ]
    if bad:
        lines += ["", *bad]
    if hidden:
        lines += ["", f"not shown for want of width: {', '.join(_FIRST_TO_GO[:hidden])}"]
    return "\n".join(lines)


def _table(rows: Sequence[Row], names: Sequence[str]) -> str:
    from tabulate import tabulate

    body, previous = [], None
    for row in rows:
        task = "" if row["task"] == previous else printed("task", row["task"])
        previous = row["task"]
        body.append([task, printed("column", row["column"] or row["metric"]), *(_cell(row, name) for name in names)])
    align = ["left", "left", *("left" if name in ("status", "verified") else "right" for name in names)]
    return tabulate(body, headers=["task", "column", *names], tablefmt="github", disable_numparse=True, colalign=align)


def _cell(row: Row, name: str) -> str:
    if name == "acc untuned/tuned":
        both = [printed(column, row[column]) or "-" for column in ("accuracy_untuned", "accuracy_tuned")]
        return "" if both == ["-", "-"] else " / ".join(both)
    if name == "95 % interval":
        ends = [printed(column, row[column]) for column in ("heldout_top10_r_low", "heldout_top10_r_high")]
        return f"{ends[0]} to {ends[1]}" if all(ends) else ""
    return printed(name, row[name])
