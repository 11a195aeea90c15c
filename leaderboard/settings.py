"""Which cells may stand in one row: those that differ in nothing but the seed.

The settings of a cell are its model, task, metric and config without the seed. Cells of one row
have the same settings, byte for byte; where a model, task and metric was run with several
settings, each makes a row of its own, and ``differences`` says what sets it apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def differences(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for each of several settings what sets it apart, as ``task.version=2, prompt.steps=50``.

    A setting is named by its dotted path (those of the config without ``config.``); hashes are
    cut to 8 characters. One variant alone differs in nothing: ``""``.
    """
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


def comparability(cells: Sequence[Result]) -> list[str]:
    """Return one line for every task and metric whose rows must not be compared with each other."""
    notes = []
    for section, marks in (("task", ("source_hash", "data_hash")), ("metric", ("source_hash",))):
        named: dict[str, list[Mapping[str, Any]]] = {}
        for cell in cells:
            about = cell.task if section == "task" else cell.metric
            named.setdefault(about["name"], []).append(about)
        for name, group in sorted(named.items()):
            versions = sorted({about["version"] for about in group}, key=lambda text: (len(text), text))
            if len(versions) > 1:
                listed = f"{', '.join(versions[:-1])} and {versions[-1]}"
                notes.append(f"{name} appears in versions {listed}: rows are not comparable")
            for version in versions:
                for mark in marks:
                    known = {about.get(mark) for about in group if about["version"] == version} - {None}
                    if len(known) > 1:
                        what = mark.removesuffix("_hash")
                        notes.append(
                            f"{name} version {version} appears with {len(known)} different {what} hashes: "
                            "rows are not comparable"
                        )
    return notes
