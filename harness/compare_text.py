"""A comparison of models as text for a terminal, and as JSON with every figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from skillneurons.comparison import FIGURES, Compared, Comparison, Pair, Ranking, count
from skillneurons.leaderboard.differences import ALPHA, Difference
from skillneurons.leaderboard.formats import printed

SMALLEST = 1e-6  # p-values below are printed as such; the JSON has them
_WHAT = {
    "accuracy": "accuracy, held out: paired by example; p by exchanging the models within whole groups (two-sided)",
    "mean": "mean of the metric, held out: paired by example; p by exchanging the models within whole groups (two-sided)",
    "heldout_top10_r": "held-out r of the ten strongest neurons: paired by resample; p of the bootstrap (two-sided; "
    "beyond its last resample the normal tail)",
}
_ABOUT = (
    "Intervals: 95 %, bootstrap over groups of examples, given the tuned prompts. Beyond noise: p after Holm's correction "
    f"over the rows of a table at most {ALPHA:.2f}, and an interval without 0."
)


def comparison_text(found: Comparison) -> str:
    """Return the tables of two models, or the rankings of more with how many differences each pair has."""
    lines: list[str] = []
    if len(found.pairs) == 1:
        lines += _pair_lines(found, found.pairs[0])
    else:
        for figure in FIGURES:
            lines += _ranking_lines(figure, [one for one in found.rankings if one.figure == figure])
        lines += ["pairs of models, each corrected over its own rows (two of them as tables: name these two alone)", ""]
        for pair in found.pairs:
            lines += [f"{pair.a} and {pair.b}", *(f"  {line}" for figure in FIGURES for line in _counted(pair, figure))]
        lines.append("")
    lines.append(_ABOUT)
    if found.notes:
        lines += ["", "not compared, or not in full:", *(f"  {line}" for line in found.notes)]
    return "\n".join(lines)


def _pair_lines(found: Comparison, pair: Pair) -> list[str]:
    lines = [f"A = {pair.a}", f"B = {pair.b}", ""]
    for figure in FIGURES:
        rows = pair.of(figure)
        shown = [row for row in rows if row.difference.difference is not None and not row.difference.same]
        if not rows:
            continue
        lines += [_WHAT[figure], ""]
        if shown:
            lines += [*_table(shown).splitlines(), ""]
        lines += [*_counted(pair, figure), *_left_out(found, rows), ""]
    return lines


def _table(rows: Sequence[Compared]) -> str:
    from tabulate import tabulate

    settings = any(row.setting for row in rows)
    columns = any(row.column for row in rows)
    names = ["task", *["column"] * columns, *["setting"] * settings]
    left = len(names)
    names += ["A", "B", "A - B", "95 % interval", "p", "p (Holm)", "", "examples", "groups", "seeds"]
    body, previous = [], None
    for row in rows:
        one = row.difference
        start = [" " if row.task == previous else row.task, *[row.column] * columns, *[row.setting] * settings]
        previous = row.task
        figures = [_number(one.a), _number(one.b), _number(one.difference, "+.3f"), _interval(one)]
        figures += [_p(one.p), _p(one.p_holm), one.verdict]
        figures += ["" if one.n is None else str(one.n), "" if one.groups is None else str(one.groups)]
        body.append([*(printed("task", text) for text in start), *figures, " ".join(map(str, one.seeds))])
    if not any(row[-2] for row in body):  # of r, cells keep which groups were drawn, not how many
        names.remove("groups")
        body = [[*row[:-2], row[-1]] for row in body]
    align = ["left"] * left + ["right"] * 6 + ["left"] + ["right"] * (len(names) - left - 7)
    return tabulate(body, headers=names, tablefmt="github", disable_numparse=True, colalign=align)


def _counted(pair: Pair, figure: str) -> list[str]:
    """Return the line that says how many of the differences are more than chance gives."""
    rows = pair.of(figure)
    if not rows:
        return []
    of = count(rows)
    line = (
        f"{figure}: {of.compared} compared; {of.nominal} with p <= {ALPHA:.2f} before correction, where {of.expected:.2g} "
        f"would be by chance if nothing differed; {of.beyond_noise} beyond noise"
    )
    return [line + (f"; {of.same} the same for every example" if of.same else "")]


def _left_out(found: Comparison, rows: Sequence[Compared]) -> list[str]:
    """Return one line for every reason why something has no p, with what it concerns."""
    told: dict[str, list[str]] = {}
    for row in rows:
        if row.difference.p is None and not row.difference.same:
            told.setdefault(found.short(row.difference.reason), []).append(f"{row.task} {row.column}".strip())
    return [f"no p for {', '.join(names)}: {reason}" for reason, names in told.items()]


def _ranking_lines(figure: str, rankings: Sequence[Ranking]) -> list[str]:
    if not rankings:
        return []
    from tabulate import tabulate

    settings = any(one.setting for one in rankings)
    columns = any(one.column for one in rankings)
    body = []
    for one in rankings:
        for i, place in enumerate(one.places):
            start = [one.task, *[one.column] * columns, *[one.setting] * settings]
            body.append(
                [
                    *(printed("task", text) if i == 0 else " " for text in start),
                    place.ranks or "-",
                    printed("model", place.model),
                    _number(place.value),
                    ", ".join(place.ties) or place.reason,
                ]
            )
    names = ["task", *["column"] * columns, *["setting"] * settings, "ranks", "model", figure, "within noise of"]
    align = ["left"] * (len(names) - 4) + ["right", "left", "right", "left"]
    table = tabulate(body, headers=names, tablefmt="github", disable_numparse=True, colalign=align)
    return [f"{_WHAT[figure]}; Holm over the pairs of a row's models", "", *table.splitlines(), ""]


def _number(value: float | None, form: str = ".3f") -> str:
    if value is None:
        return ""
    text = format(value, form)
    return text.lstrip("+-") if float(text) == 0 else text


def _interval(one: Difference) -> str:
    return "" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    if value < SMALLEST:
        return f"<{SMALLEST:.0e}"  # a normal tail is no measurement so far out
    return f"{value:.4f}" if value >= 1e-4 else f"{value:.0e}"


def comparison_json(found: Comparison) -> str:
    """Return every figure as indented JSON with sorted names."""
    content: dict[str, Any] = {
        "models": list(found.models),
        "resamples": found.n_resamples,
        "seed": found.seed,
        "pairs": [_pair_json(pair) for pair in found.pairs],
        "rankings": [_ranking_json(one) for one in found.rankings],
        "notes": list(found.notes),
        "problems": list(found.problems),
    }
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False)


def _pair_json(pair: Pair) -> dict[str, Any]:
    rows = [
        {
            **{name: getattr(row, name) for name in ("figure", "task", "metric", "column", "setting")},
            **asdict(row.difference),
            "beyond_noise": row.difference.beyond_noise,
            "verdict": row.difference.verdict,
        }
        for row in pair.rows
    ]
    counts: Mapping[str, Any] = {figure: asdict(count(pair.of(figure))) for figure in FIGURES if pair.of(figure)}
    return {"a": pair.a, "b": pair.b, "counts": counts, "rows": rows}


def _ranking_json(one: Ranking) -> dict[str, Any]:
    return {**asdict(one), "places": [{**asdict(place), "ranks": place.ranks} for place in one.places]}
