"""Why a cell is to be run: what of it, or of an older one in its place, is in the folder.

done        finished
new         nothing is there
stale       a finished cell of the same model, task, metric and seed is there under another key: what differs. It is an older
            result, which is kept
failed      it was tried and failed; it is tried again
unfinished  its correlations are saved; its causal part broke off or failed
damaged     its file cannot be read
data error  its task's data cannot be loaded
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillneurons.config import Config
from skillneurons.plan import PlannedCell, Unit, settings_of
from skillneurons.results import DamagedCell, Result, ResultsFolder, load_cell

SHOWN = 3  # differences
UNTOLD = (
    "what a cell's file does not hold: the source of the statistic or of a metric that it needs, the neutral text, or the "
    "version of the causal tests"
)

Identity = tuple[str, str, str, int]


@dataclass(frozen=True)
class CellState:
    """The state of a planned cell and, for all but done and new, its reason; ``older`` is the key of a stale one."""

    state: str
    reason: str = ""
    older: str | None = None


def finished_cells(folder: ResultsFolder) -> dict[Identity, list[Result]]:
    """Return all finished cells of a folder by model, task, metric and seed."""
    found: dict[Identity, list[Result]] = {}
    for _, cell in folder.iter_cells():
        if isinstance(cell, Result) and cell.status == "ok":
            name = (cell.model["name"], cell.task["name"], cell.metric["name"], cell.seed)
            found.setdefault(name, []).append(cell)
    return found


def cell_state(
    config: Config, folder: ResultsFolder, finished: Mapping[Identity, Sequence[Result]], unit: Unit, cell: PlannedCell
) -> CellState:
    """Return the state of a planned cell."""
    if unit.data.error is not None:
        return CellState("data error", _one_line(unit.data.error))
    if cell.done:
        return CellState("done")
    path = folder.cells / f"{cell.key}.json"
    if path.exists():
        return _begun(load_cell(path))
    older = finished.get((unit.model, unit.data.task.name, cell.metric.name, unit.seed), ())
    if not older:
        return CellState("new")
    by_key = {one.key: differences(config, unit, cell, one) for one in older}
    nearest = min(by_key, key=lambda key: (len(by_key[key]), key))
    return CellState("stale", told(by_key[nearest]), nearest)


def _begun(known: Result | DamagedCell) -> CellState:
    """Return why a cell whose file is there is to be run again."""
    if isinstance(known, DamagedCell):
        return CellState("damaged", known.reason)
    if known.status == "failed":
        return CellState("failed", _one_line((known.error or {}).get("message", "")))
    broken = (known.causal or {}).get("error")
    return CellState("unfinished", f"its causal part failed: {broken}" if broken else "its causal part broke off")


def told(found: Sequence[str]) -> str:
    """Return differences in one line: three at most, and how many more there are."""
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def differences(config: Config, unit: Unit, cell: PlannedCell, older: Result) -> list[str]:
    """Return in words what makes a planned cell another one than an older result of the same name."""
    task = unit.data.task
    found = _changed("model revision", older.model.get("revision"), unit.revision, short=True)
    found += _changed("task version", older.task.get("version"), task.version)
    found += _changed("task source", older.task.get("source_hash"), unit.data.source_hash, short=True)
    options = (
        _flat(f"tasks.{task.name}", older.task.get("options") or {}),
        _flat(f"tasks.{task.name}", unit.data.options),
    )
    found += _settings(*options)
    found += _changed("grader", older.task.get("grader"), unit.data.grader, short=True)
    found += _changed("metric version", older.metric.get("version"), cell.metric.version)
    found += _changed("metric source", older.metric.get("source_hash"), cell.source_hash, short=True)
    found += _changed("metric columns", list(older.metric.get("columns") or ()), list(cell.columns), short=True)
    before, now = dict(older.config), settings_of(config)
    for name in ("causal", "prompt"):  # a whole section is left out where it plays no part
        if bool(before.get(name)) != bool(now.get(name)):
            found.append(f"{name} {'on' if before.get(name) else 'off'} -> {'on' if now.get(name) else 'off'}")
            before, now = ({k: v for k, v in one.items() if k != name} for one in (before, now))
    found += _settings(_flat("", before), _flat("", now))
    if older.task.get("data_hash") != unit.data.hash:
        counts = [
            f"{split} {older.n.get(split)} -> {n}" for split, n in unit.data.counts.items() if older.n.get(split) != n
        ]
        found += [f"examples: {', '.join(counts)}" if counts else "data"]
    return found or [UNTOLD]


def _changed(name: str, before: Any, now: Any, *, short: bool = False) -> list[str]:
    if before == now:
        return []
    return [name if short else f"{name} {_text(before)} -> {_text(now)}"]


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys([*now, *before])
    return [line for name in names for line in _changed(name, before.get(name), now.get(name))]


def _flat(place: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings by their dotted path."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        path = f"{place}.{name}" if place else name
        found |= _flat(path, value) if isinstance(value, Mapping) else {path: value}
    return found


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(_text(one) for one in value)}]" if isinstance(value, list | tuple) else str(value)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
