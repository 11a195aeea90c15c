"""Which cells may stand in one row: those that differ in nothing but the seed.

The settings of a cell are its model, task, metric and config without the seed. Cells of one row
have the same settings, byte for byte; where a model, task and metric was run with several
settings, each makes a row of its own, and ``differences`` says what sets it apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from skillneurons.results import Result, canonical_json

_SEEDS = ("seed", "seeds")
_HASH_LENGTH = 8


def settings_of(cell: Result) -> dict[str, Any]:
    """Return everything that a cell was computed from, except the seed."""
    config = {name: value for name, value in cell.config.items() if name not in _SEEDS}
    return {"model": _model(cell), "task": cell.task, "metric": cell.metric, "config": config}


def prompt_settings_of(cell: Result) -> dict[str, Any]:
    """Return what the accuracies of a cell depend on: no metric, no attribution, no seed."""
    config = {
        name: value for name, value in cell.config.items() if name not in (*_SEEDS, "attribution", "causal", "metrics")
    }
    return {"model": _model(cell), "task": cell.task, "config": config}


def _model(cell: Result) -> dict[str, Any]:
    """Return the model without its architecture: a cell that failed while loading does not know it."""
    return {name: value for name, value in cell.model.items() if name != "architecture"}


def settings_key(cell: Result) -> str:
    """Return the text of ``settings_of``: cells of one row have the same."""
    return getattr(cell, "settings", "") or plain_json(settings_of(cell))


def prompt_settings_key(cell: Result) -> str:
    """Return the text of ``prompt_settings_of``: cells of one entry of accuracies have the same."""
    return getattr(cell, "prompt_settings", "") or plain_json(prompt_settings_of(cell))


def plain_json(value: object) -> str:
    """Return one text for plain JSON content, names sorted."""
    import orjson

    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:  # half a surrogate pair, which JSON can carry and UTF-8 cannot
        return json.dumps(value, sort_keys=True, separators=(",", ":"))


def plain_bytes(value: object) -> bytes:
    """Return plain JSON content as bytes, names in the order they have."""
    import orjson

    try:
        return bytes(memoryview(orjson.dumps(value)))  # a copy: the original keeps a buffer several times its length
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def parse_json(text: str | bytes) -> Any:
    """Return the content of a text that ``plain_json`` gave."""
    import orjson

    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def differences(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for each of several settings what sets it apart, as ``task.version=2, prompt.steps=50``.

    A setting is named by its dotted path (those of the config without ``config.``); hashes are
    cut to 8 characters. One variant alone differs in nothing: ``""``.
    """
    if len(variants) == 1:
        return [""]
    flat = [dict(_flatten(variant)) for variant in variants]
    paths = sorted({path for variant in flat for path in variant})
    apart = [path for path in paths if len({variant.get(path) for variant in flat}) > 1]
    return [
        ", ".join(f"{path.removeprefix('config.')}={variant.get(path, 'absent')}" for path in apart) for variant in flat
    ]


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flatten(item, f"{path}.{name}" if path else name)
    elif isinstance(value, str):
        yield path, value[:_HASH_LENGTH] if path.endswith("_hash") else value
    else:
        yield path, canonical_json(value)


def marks_of(cells: Iterable[Result]) -> list[list[str | None]]:
    """Return which versions and hashes of tasks and metrics cells have: (section, name, version, source, data), sorted."""
    found = set()
    for cell in cells:
        task, metric = cell.task, cell.metric
        found.add(("task", task["name"], task["version"], task.get("source_hash"), task.get("data_hash")))
        found.add(("metric", metric["name"], metric["version"], metric.get("source_hash"), None))
    return sorted((list(mark) for mark in found), key=plain_json)


def comparability(marks: Iterable[Sequence[str | None]]) -> list[str]:
    """Return one line for every task and metric whose rows must not be compared with each other."""
    named: dict[tuple[str, str], set[tuple[str, str | None, str | None]]] = {}
    for section, name, version, source, data in marks:
        named.setdefault((str(section), str(name)), set()).add((str(version), source, data))
    notes = []
    for (_, name), group in sorted(named.items(), key=lambda one: (one[0][0] != "task", one[0][1])):
        versions = sorted({version for version, _, _ in group}, key=lambda text: (len(text), text))
        if len(versions) > 1:
            listed = f"{', '.join(versions[:-1])} and {versions[-1]}"
            notes.append(f"{name} appears in versions {listed}: rows are not comparable")
        for version in versions:
            for place, what in ((1, "source"), (2, "data")):
                known = {mark[place] for mark in group if mark[0] == version} - {None}
                if len(known) > 1:
                    notes.append(
                        f"{name} version {version} appears with {len(known)} different {what} hashes: "
                        "rows are not comparable"
                    )
    return notes
