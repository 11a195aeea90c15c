"""The examples of a task's four splits: loaded, checked and hashed (no torch).

What is checked: every example is an Example with a prompt and a target; ids are unique; no id and no
group stands in two splits; a choice task's target is one of its choices; labels are declared and
numbers. A violation is a DataError that names the task, the split and the example.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skillneurons.errors import DataError
from skillneurons.form import LARGEST
from skillneurons.plugin_calls import PluginCall, call_plugin
from skillneurons.results import canonical_json
from skillneurons.types import SPLITS, Example, Split, Task


def load_split(
    task: Task, split: Split, *, limit: int | None, seed: int, options: Mapping[str, Any]
) -> tuple[Example, ...]:
    """Load one split, at most ``limit`` examples (None: as many as the task gives), and check each of them."""
    call = PluginCall("task", task.name, "load", f"{split} split")
    examples = call_plugin(call, lambda: _given(task, split, task.load(split, limit=limit, seed=seed, **options)))
    for position, example in enumerate(examples):
        _check(task, split, position, example)
    return examples[:limit]


def load_splits(
    task: Task, sizes: Mapping[Split, int], *, seed: int, options: Mapping[str, Any]
) -> dict[Split, tuple[Example, ...]]:
    """Load the four splits of a task and check that they do not share an id or a group."""
    splits = {split: load_split(task, split, limit=sizes[split], seed=seed, options=options) for split in SPLITS}
    owners: dict[str, dict[str, Split]] = {"example": {}, "group": {}}
    for split, examples in splits.items():
        if not examples:
            raise DataError(f"task {task.name!r}: its {split} split is empty; every split needs examples")
        ids = [example.id for example in examples]
        for example_id, count in Counter(ids).items():
            if count > 1:
                raise DataError(
                    f"task {task.name!r}: example id {example_id!r} stands {count} times in {split}; ids must be unique"
                )
        for example in examples:
            for kind, name in (("example", example.id), ("group", example.group or example.id)):
                if owners[kind].setdefault(name, split) != split:
                    raise DataError(
                        f"task {task.name!r}: {kind} {name!r} stands in {owners[kind][name]} and in {split}; "
                        "a group belongs to one split (skillneurons.split_by_group assigns it)"
                    )
    return splits


def data_hash(splits: Mapping[Split, Sequence[Example]]) -> str:
    """Return a hash over everything the examples hold, in order."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for e in splits[split]:
            row = [e.id, e.prompt, e.target, e.choices, dict(e.labels), e.group, _plain(dict(e.fields))]
            digest.update(f"{split}\0{canonical_json(row)}\n".encode())
    return digest.hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _given(task: Task, split: str, found: Any) -> tuple[Any, ...]:
    if not isinstance(found, Iterable):
        raise DataError(
            f"task {task.name!r}: load gives {found!r} for its {split} split; it must return a list of skillneurons.Example"
        )
    return tuple(found)


def _check(task: Task, split: str, position: int, example: Any) -> None:
    where = f"task {task.name!r}, {split} example {position}"
    if not isinstance(example, Example):
        raise DataError(f"{where}: load must return skillneurons.Example objects, got {type(example).__name__}")
    where += f" ({example.id!r})"
    for name in ("id", "prompt", "target"):
        value = getattr(example, name)
        if not isinstance(value, str) or not value:
            raise DataError(f"{where}: {name} must be a non-empty text, got {value!r}")
    if not isinstance(example.choices, tuple | None):
        raise DataError(f"{where}: choices must be a tuple, got {example.choices!r}; write ('yes', 'no')")
    if task.kind == "choice":
        if not example.choices or len(example.choices) < 2 or example.target not in example.choices:
            raise DataError(
                f"{where}: an example of a choice task needs two or more choices with the target among them, "
                f"got target {example.target!r} and choices {example.choices!r}"
            )
    elif example.choices is not None:
        raise DataError(f"{where}: choices are given but the task's kind is {task.kind!r}; make it 'choice'")
    for label, value in example.labels.items():
        if label not in task.label_columns:
            raise DataError(
                f"{where}: label {label!r} is not declared; Task.label_columns has: {', '.join(task.label_columns) or 'none'}"
            )
        if not isinstance(value, int | float) or math.isinf(value):
            raise DataError(f"{where}: label {label!r} must be a finite number or NaN, got {value!r}")
        if abs(value) > LARGEST:
            raise DataError(f"{where}: label {label!r} is {value!r}, beyond {LARGEST:g}; scale it")
