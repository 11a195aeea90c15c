"""From finished cells to the rows of the table.

One row per (model, revision, task, metric, column, position, site, statistic) and settings. A
figure is the mean over the seeds that have it; a count of examples is the smallest over seeds.
``stability`` is the mean Jaccard overlap of the ten best neurons between two seeds. The held-out interval of
several seeds is that of their mean, from the resamples that they share. An empty
number is None and ``reason`` says why. Sums are exact (``math.fsum``), so that the order of the
files does not show in the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillneurons.leaderboard.reasons import CAUSAL, INTERVALS, MEASURED, NULL, SPREAD, empty_numbers
from skillneurons.leaderboard.seeds import chance_overlap, interval_of_mean, overlap, sd
from skillneurons.leaderboard.settings import differences, plain_json, settings_key, settings_of
from skillneurons.results import Result

Row = dict[str, Any]
IDENTITY = ("model", "revision", "task", "metric", "column", "position", "site", "statistic")
COLUMNS: dict[str, type] = {
    **dict.fromkeys(IDENTITY, str),
    **dict.fromkeys(("seeds", "n_discovery", "n_heldout", "n_neurons"), int),
    **dict.fromkeys(("accuracy_untuned", "accuracy_tuned", *MEASURED, *INTERVALS), float),
    **dict.fromkeys(("baseline_top10_r", "partial_r", "null95_r", "n_fwer", "n_fdr", *CAUSAL, "stability"), float),
    **dict.fromkeys(("status", "reason", "keys", "tuned_on", "graded_by"), str),
    **dict.fromkeys(("untuned_top10_r", "shrinkage", "n_replicated", *SPREAD, "stability_chance"), float),
    **dict.fromkeys(("null_scheme", "above", "verdict", "verified"), str),
}
_FIGURES = (
    *(*MEASURED, *INTERVALS, "baseline_top10_r", "untuned_top10_r", "partial_r"),
    *("null95_r", "n_fwer", "n_fdr", "n_replicated"),
)
_TOP = 10
_KINDS = {"null": NULL, "interval": INTERVALS, "partial": ("partial_r",), "causal": CAUSAL}


@dataclass(frozen=True)
class _Part:
    """One column of one cell."""

    cell: Result
    column: str | None
    status: str
    reason: str
    figures: dict[str, Any]


def make_rows(cells: Iterable[Result], *, verified: bool = False) -> list[Row]:
    """Return the rows in their order: model, task, metric, column, then key; the cells are all ``verified``, or none is."""
    visible: dict[str, dict[str, list[_Part]]] = {}
    for cell in sorted(cells, key=lambda cell: cell.key):
        settings = settings_key(cell)
        for part in _parts(cell):
            variants = visible.setdefault(plain_json(_identity(part)), {})
            variants.setdefault(settings, []).append(part)
    rows = []
    for variants in visible.values():
        groups = list(variants.values())
        apart = differences([settings_of(group[0].cell) for group in groups])
        for group, difference in zip(groups, apart, strict=True):
            rows += [_row(part, reason, verified) for part, reason in _one_per_seed(group, difference)]
    return sorted(rows, key=row_order)


def row_order(row: Row) -> list[str]:
    """Return what the rows of the table are sorted by."""
    return [str(row[name] or "") for name in (*IDENTITY, "keys")]


def _parts(cell: Result) -> list[_Part]:
    names = list(cell.metric["columns"])
    if cell.status == "failed":
        message = (cell.error or {})["message"]
        return [_Part(cell, name, "failed", message, {}) for name in names or [None]]
    parts = []
    for name in [*names, *sorted(set(cell.columns) - set(names))]:
        column = cell.columns.get(name, {"status": "not_applicable", "reason": "the cell has no such column"})
        ours = ((cell.causal or {}).get("columns") or {}).get(name) or {}
        figures = {**column, **{figure: ours.get(figure) for figure in CAUSAL}}
        pending = "the run broke off before its causal part; run again" if (cell.causal or {}).get("pending") else None
        figures["causal_reason"] = ours.get("reason") or (cell.causal or {}).get("error") or pending
        parts.append(_Part(cell, name, column["status"], column.get("reason") or "", figures))
    return parts


def _identity(part: _Part) -> Row:
    cell, attribution = part.cell, part.cell.config.get("attribution", {})
    return {
        "model": cell.model["name"],
        "revision": cell.model["revision"],
        "task": cell.task["name"],
        "metric": cell.metric["name"],
        "column": part.column,
        **{name: attribution.get(name) for name in ("position", "site", "statistic")},
    }


def _one_per_seed(group: list[_Part], difference: str) -> list[tuple[list[_Part], str]]:
    """Return the group as one row, or as single cells where a seed occurs twice under other keys."""
    variant = f"variant: {difference}" if difference else ""
    if len({part.cell.seed for part in group}) == len(group):
        return [(group, variant)]
    reason = f"{variant}; the same seed and settings under several keys".removeprefix("; ")
    return [([part], reason) for part in group]


def _row(group: list[_Part], variant: str, verified: bool) -> Row:
    ok = [part for part in group if part.status == "ok"]
    measured = [part.figures for part in ok]
    statuses = {part.status for part in group}
    cells = [part.cell for part in group]
    row: Row = {**dict.fromkeys(COLUMNS), **_identity(group[0])}
    row["seeds"] = len(group)
    for split in ("discovery", "heldout"):
        scored = [part.figures.get(f"n_{split}", part.cell.n.get(split)) for part in ok or group]
        row[f"n_{split}"] = min((int(n) for n in scored if n is not None), default=None)
    row["n_neurons"] = min((cell.n_neurons for cell in cells if cell.n_neurons), default=None)
    for name in ("untuned", "tuned"):
        row[f"accuracy_{name}"] = mean(cell.accuracy.get(name) for cell in cells if cell.status == "ok")
    for name in (*_FIGURES, *CAUSAL):
        row[name] = mean([figures.get(name) for figures in measured])
    told = {}
    if len(ok) > 1:  # the mean of the seeds' intervals is no interval: the resamples they share give one
        low, high, told["interval"] = interval_of_mean(
            [part.figures.get("resamples") for part in ok], [part.figures.get("resampled_groups") for part in ok]
        )
        row |= dict(zip(INTERVALS, (low, high), strict=True))
    schemes = sorted({part.figures.get("null_scheme") or "" for part in ok} - {""})
    if len(schemes) > 1:  # thresholds of two kinds have no mean
        row |= dict.fromkeys(NULL)
        told["null"] = f"the seeds have nulls of different kinds ({'; '.join(schemes)})"
    row["shrinkage"] = mean(
        _difference(part.figures.get("top10_mean_r"), part.figures.get("heldout_top10_r")) for part in ok
    )
    for name in SPREAD:
        row[name] = sd(part.figures.get(name.removesuffix("_sd")) for part in ok)
    top = int(cells[0].config.get("attribution", {}).get("top_k", _TOP))
    row["stability"] = overlap([part.figures.get("top") or [] for part in ok], top)
    if row["stability"] is not None and row["n_neurons"]:
        row["stability_chance"] = chance_overlap(top, row["n_neurons"])
    row["null_scheme"] = "; ".join(schemes) or None
    row["above"] = above_text([part.figures.get("above") or [] for part in ok])
    row["verdict"] = verdict_text([part.figures["shortcut"] for part in ok if part.figures.get("shortcut")])
    row["status"] = statuses.pop() if len(statuses) == 1 else "partial"
    row["reason"] = "; ".join(_reasons(row, group, variant, told))
    row["keys"] = " ".join(sorted(cell.key for cell in cells))
    row["tuned_on"] = cells[0].task.get("tuned_on") or None
    row["graded_by"] = graded_by(cells[0])
    row["verified"] = "yes" if verified else "no"
    return {name: _encodable(value) for name, value in row.items()}


def graded_by(cell: Result) -> str | None:
    """Return who graded the texts of a cell's task, None where nobody did."""
    grader = cell.task.get("grader")
    if not grader:
        return None
    return f"{grader['name']}{' (synthetic)' if grader.get('synthetic') else ''}"


def _encodable(value: Any) -> Any:
    """Return text without lone surrogates, which JSON can carry and no file can."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _reasons(row: Row, group: Sequence[_Part], variant: str, told_of_row: Mapping[str, str]) -> list[str]:
    reasons = []
    bad = [part for part in group if part.status != "ok"]
    told = {(part.status, part.reason) for part in bad}
    if len(bad) == len(group) and len(told) == 1:
        reasons.append(_bad(bad[0]))
    else:
        by_seed = sorted(bad, key=lambda part: part.cell.seed)
        reasons += [f"seed {part.cell.seed} {part.status}: {part.reason}".rstrip(": ") for part in by_seed]
    reasons += sorted({part.reason for part in group if part.status == "ok" and part.reason})
    if len(bad) < len(group):
        ok = [part.figures for part in group if part.status == "ok"]
        kinds = ("partial", "null", "interval")
        why = {kind: "; ".join(sorted({one.get(f"{kind}_reason") or "" for one in ok} - {""})) for kind in kinds}
        causal = sorted({one.get("causal_reason") or "" for one in ok} - {""})
        why |= {"causal": "; ".join(causal), **{kind: text for kind, text in told_of_row.items() if text}}
        reasons += empty_numbers(row, why)
        reasons += _incomplete([part.figures for part in group if part.status == "ok"])
    return [*reasons, variant] if variant else reasons


def _incomplete(figures: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line for every figure that only some of the seeds have."""
    lines = []
    for name in (*_FIGURES, *CAUSAL):
        n = len(figures) - [one.get(name) for one in figures].count(None)
        if 0 < n < len(figures):
            kind = next((kind for kind, names in _KINDS.items() if name in names), "")
            why = sorted({one.get(f"{kind}_reason") or "" for one in figures if one.get(name) is None} - {""})
            lines.append(f"{name}: {n} of {len(figures)} seeds" + (f" ({'; '.join(why)})" if why else ""))
    return lines


def _bad(part: _Part) -> str:
    """Return the error message of a failed cell, or what is the matter with a column."""
    if part.status == "failed" and part.reason:
        return part.reason
    return f"{part.status.replace('_', ' ')}: {part.reason}".rstrip(": ")


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, None where there is none."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def above_text(cells: Sequence[Sequence[Mapping[str, Any]]]) -> str | None:
    """Return ``0.43: 31 (1.2 %), held out 0.39, null 0.0; 0.83: ...``: neurons at or above each level, mean over seeds."""
    texts = []
    for levels in zip(*cells, strict=False):
        n, share = (mean(level[name] for level in levels) or 0.0 for name in ("n", "share"))
        null = mean(level.get("null") for level in levels)
        given = "not run" if null is None else f"{null:.1f}"
        held = mean(level.get("heldout") for level in levels)
        again = "" if held is None else f", held out {held:.2f}"
        texts.append(f"{levels[0]['threshold']:g}: {n:.4g} ({100 * share:.1f} %){again}, null {given}")
    return "; ".join(texts) or None


def verdict_text(reports: Sequence[Mapping[str, Any]]) -> str | None:
    """Return how many of the strongest neurons follow the rival, the wanted explanation, or leave it open."""
    if not reports:
        return None
    told = sorted({report["reason"] for report in reports if report["reason"]})
    counts: dict[str, int] = {}
    for report in reports:
        for name, n in report["verdicts"].items():
            counts[name] = counts.get(name, 0) + n
    listed = [f"{name} {counts[name]}" for name in ("shortcut", "wanted", "undecided") if name in counts]
    against = f"against {reports[0]['wanted']}: "
    return against + "; ".join([", ".join(listed)] * bool(listed) + told)
