"""Keys: whether a cell's key, and its prompt's, are those of what it holds.

A key is a hash over model, task, metric, statistic, settings and seed (``plan``), so an edit of any of these gives another one. A
prompt's key needs nothing but the cell; a cell's own needs the plugins that it was measured with: where those here are others, it
cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from skillneurons.config import Config
from skillneurons.errors import SkillNeuronsError
from skillneurons.file_faults import told
from skillneurons.finding import KEYS, Ledger
from skillneurons.plan import TaskData, Unit, settings_of
from skillneurons.registry import Registry
from skillneurons.remade_request import Given, claimed_unit, identity_differs, loaded_data, request_of, told_error
from skillneurons.results import Result, canonical_json, content_key
from skillneurons.staleness import Staleness

EDITED = "a model, a task, a setting or a seed was edited, or the cell was given another's name"


def prompt_key_of(cell: Result) -> str:
    """Return the key that the prompt of a cell must have."""
    task = cell.task
    named = ("name", "version", "source_hash", "options", "data_hash", "grader")
    content = {
        "model": {**(cell.config.get("model") or {}), "name": cell.model["name"], "revision": cell.model["revision"]},
        "task": {name: task.get(name) for name in named},
        "seed": cell.seed,
        "prompt": cell.config.get("prompt") or {},
    }
    return content_key(str(task["name"]), f"s{cell.seed}", payload=content)


@dataclass(frozen=True)
class Here:
    """What cells are held against: the plugins that are loaded, the options that may be followed, and the data loaded so far."""

    registry: Registry
    staleness: Staleness
    given: Given = field(default_factory=dict)
    data: dict[str, TaskData] = field(default_factory=dict)


def check_keys(cell: Result, path: str, here: Here, ledger: Ledger, record: Mapping[str, Any]) -> Unit | None:
    """Check a cell's keys and that its task gives its data; return its unit with the data, None where that cannot be told."""
    for what, meaning in _of_its_own(cell):
        ledger.say(KEYS, path, what, meaning, [cell.key])
    others = [one.what for one in here.staleness.of_plugins(cell, path)]
    request = request_of(cell, given=here.given)
    why = "; ".join(others) or request.refused
    if why:
        ledger.cannot(path, f"its key and its examples cannot be checked here: {why}", [cell.key])
        return None
    if request.config is None:
        ledger.say(KEYS, path, f"there is no such config: {request.fault}", EDITED, [cell.key])
        return None
    try:
        unit = claimed_unit(cell, request.config, here.registry)
    except (SkillNeuronsError, ValueError) as error:
        ledger.cannot(path, f"its key cannot be checked here: {told_error(error)}", [cell.key])
        return None
    wrong = list(_of_unit(cell, request.config, unit))
    if wrong:
        ledger.say(KEYS, path, *wrong[0], [cell.key])
        return None
    return _with_data(cell, path, unit, request.config, here, ledger, record)


def _of_its_own(cell: Result) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the keys that a cell names, which needs nothing but the cell."""
    if cell.config["attribution"]["position"] == "input_last":
        if cell.prompt is not None:
            yield f"it names a prompt ({told(cell.prompt)}), and its activations are read without one", EDITED
    elif cell.prompt != prompt_key_of(cell):
        yield f"its prompt is {told(cell.prompt)}, and what it holds gives {prompt_key_of(cell)}", EDITED
    for name in ("dtype", "quantization"):
        asked = (cell.config.get("model") or {}).get(name)
        if cell.model.get(name) != asked:
            yield f"model.{name} is {told(cell.model.get(name))}, its config says {told(asked)}", EDITED
    if cell.status == "ok" and cell.pass_ != cell.key:
        yield f"its pass is {told(cell.pass_)}, not its own", "the figures would rest on another cell's pass"


def _of_unit(cell: Result, config: Config, unit: Unit) -> Iterator[tuple[str, str]]:
    """Yield in what a cell is not the one that its content would make here."""
    settings = settings_of(config)
    if canonical_json(settings) != canonical_json(cell.config):
        where = _first_difference(settings, cell.config)
        yield f"its config is not as a run writes it: {where}", "it was edited, or written by another version"
    if [one.key for one in unit.cells] != [cell.key]:
        key = unit.cells[0].key if unit.cells else "no cell, for the metric has no column there"
        more = "or its statistic or nuisance metrics are others here"
        yield f"what it holds gives {key} as its key", f"{EDITED}; {more}"
    elif list(unit.cells[0].columns) != list(cell.metric["columns"]):
        listed = told(", ".join(unit.cells[0].columns))
        yield f"its metric has the columns {told(', '.join(map(str, cell.metric['columns'])))}, here {listed}", EDITED


def _with_data(
    cell: Result, path: str, unit: Unit, config: Config, here: Here, ledger: Ledger, record: Mapping[str, Any]
) -> Unit | None:
    try:
        data, _ = loaded_data(cell, config, here.registry, record, here.data)
    except Exception as error:  # a task may raise anything
        ledger.cannot(path, f"its examples cannot be made here: {told_error(error)}", [cell.key])
        return None
    if data.error is not None:
        ledger.cannot(path, f"its examples cannot be made here: {told_error(data.error)}", [cell.key])
        return None
    fault = identity_differs(cell, data)
    if fault:
        ledger.say(KEYS, path, fault, "what the cell says of its task was edited", [cell.key])
    if data.hash != cell.task.get("data_hash"):
        counts = ", ".join(f"{n} {split}" for split, n in data.counts.items())
        ledger.say(
            KEYS,
            path,
            f"its data_hash is {told(cell.task.get('data_hash'))}, the task here gives {data.hash} ({counts})",
            "the examples are not those of the task",
            [cell.key],
        )
        return None
    if dict(cell.n) != data.counts:
        said = f"it counts {told(dict(cell.n))}, the task gives {data.counts}"
        ledger.say(KEYS, path, said, "the number of examples was edited", [cell.key])
    return replace(unit, data=data)


def _first_difference(one: Mapping[str, Any], other: Mapping[str, Any], place: str = "") -> str:
    """Return the first setting in which two differ: where, as a run writes it, as it stands."""
    for name in sorted({*one, *other}):
        mine, theirs = one.get(name), other.get(name)
        if name in one and name in other and canonical_json(mine) == canonical_json(theirs):
            continue
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            return _first_difference(mine, theirs, f"{place}{name}.")
        shown = (
            told(canonical_json(value)) if there else "absent"
            for value, there in ((theirs, name in other), (mine, name in one))
        )
        stands, written = shown
        return f"{place}{name} is {stands}, a run writes {written}"
    return "nothing"
