"""Keys: whether a cell's key, and its prompt's, are those of what it holds.

A key is a hash over model, task, metric, statistic, settings and seed (``plan``), so an edit of any of these gives another one. A
prompt's key needs nothing but the cell; a cell's own needs the plugins that it was measured with: where those here are others, it
cannot be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skillneurons.errors import SkillNeuronsError
from skillneurons.file_faults import told
from skillneurons.finding import KEYS, Ledger
from skillneurons.plan import Unit, settings_of
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


def check_keys(
    cell: Result, path: str, registry: Registry, staleness: Staleness, ledger: Ledger, record: Mapping[str, Any], given: Given
) -> Unit | None:  # fmt: skip
    """Check a cell's keys and that its task gives its data; return its unit with the data, None where that cannot be told."""

    def say(what: str, meaning: str = EDITED) -> None:
        ledger.say(KEYS, path, what, meaning, [cell.key])

    if cell.config["attribution"]["position"] == "input_last":
        if cell.prompt is not None:
            say(f"it names a prompt ({told(cell.prompt)}), and its activations are read without one")
    elif cell.prompt != prompt_key_of(cell):
        say(f"its prompt is {told(cell.prompt)}, and what it holds gives {prompt_key_of(cell)}")
    if cell.status == "ok" and cell.pass_ != cell.key:
        say(f"its pass is {told(cell.pass_)}, not its own", "the figures would rest on another cell's pass")
    others = [one.what for one in staleness.of_plugins(cell, path)]
    if others:
        ledger.cannot(path, f"its key and its examples cannot be checked here: {'; '.join(others)}", [cell.key])
        return None
    request = request_of(cell, given=given)
    if request.refused:
        ledger.cannot(path, f"its key and its examples cannot be checked here: {request.refused}", [cell.key])
        return None
    if request.config is None:
        say(f"there is no such config: {request.fault}")
        return None
    settings = settings_of(request.config)
    if canonical_json(settings) != canonical_json(cell.config):
        where = _first_difference(settings, cell.config)
        say(f"its config is not as a run writes it: {where}", "it was edited, or written by another version")
        return None
    try:
        unit = claimed_unit(cell, request.config, registry)
    except (SkillNeuronsError, ValueError) as error:
        ledger.cannot(path, f"its key cannot be checked here: {told_error(error)}", [cell.key])
        return None
    if [one.key for one in unit.cells] != [cell.key]:
        here = unit.cells[0].key if unit.cells else "no cell, for the metric has no column there"
        say(f"what it holds gives {here} as its key", f"{EDITED}; or its statistic or nuisance metrics are others here")
        return None
    if list(unit.cells[0].columns) != list(cell.metric["columns"]):
        listed = ", ".join(unit.cells[0].columns)
        say(f"its metric has the columns {told(', '.join(map(str, cell.metric['columns'])))}, here {told(listed)}")
    return _with_data(cell, path, unit, request.config, registry, ledger, record)


def _with_data(
    cell: Result, path: str, unit: Unit, config: Any, registry: Registry, ledger: Ledger, record: Mapping[str, Any]
) -> Unit | None:
    from dataclasses import replace

    try:
        data, _ = loaded_data(cell, config, registry, record)
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
        shown = (told(canonical_json(value)) if there else "absent" for value, there in ((theirs, name in other), (mine, name in one)))
        stands, written = shown
        return f"{place}{name} is {stands}, a run writes {written}"
    return "nothing"
