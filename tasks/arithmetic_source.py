"""Read arithmetic questions from BIG-bench ``task.json`` files, or from the Hugging Face hub.

A file has a ``name`` and ``examples``, a list of ``{input, target, target_scores}``; whatever else it has is not
read. Of a folder, every ``task.json`` in it and below is read, or the ``*.json`` files in it where there is none.
The input is "What is A plus B?" (minus, times, divided by), alone or between "Q:" and "A:". The subtask is the file's
name where that is one of the 20, else it follows from the operation and the digits of the larger operand. An answer
below zero is taken as it is. A question that stands several times is kept once, the first of them.

A row that does not have this form, or whose target is not what the operands give, is a DataError that names file
and line, or the example, counted from 0.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import skillneurons as sn
from skillneurons.tasks.arithmetic_items import SUBTASKS, WORDS, Item

OPERATION_OF = {words: operation for operation, words in WORDS.items()}
QUESTION = re.compile(rf"\s*(?:Q:\s*)?What is ([0-9]{{1,5}}) ({'|'.join(OPERATION_OF)}) ([0-9]{{1,5}})\?\s*(?:A:\s*)?")
NUMBER = re.compile(r"(-?[0-9]{1,20})(\.0+)?")
CONFIG = "arithmetic"  # the name of the task on the hub


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it stands in a file: its item, its own words, where it stands, and the choices if it has any."""

    item: Item
    prompt: str
    target: str
    place: str
    target_scores: Mapping[str, float] | None = None


def read_questions(path: str | Path) -> list[Question]:
    """Read the questions of a file, or of the files of a folder, in their order."""
    found: list[Question] = []
    for file, content in _contents(Path(path)):
        name, examples = content.get("name"), content["examples"]
        found += (_question(f"{file}: example {i}", row, name) for i, row in enumerate(examples))
    return _once(found)


def hub_questions(name: str, revision: str | None) -> list[Question]:
    """Load the questions of all splits of a hub copy, such as ``tasksource/bigbench``."""
    import datasets  # type: ignore[import-untyped,unused-ignore]

    try:
        splits = datasets.load_dataset(name, CONFIG, revision=revision)
    except Exception as error:
        raise sn.DataError(
            f"arithmetic.hub: {name!r} at revision {revision or 'latest'} cannot be loaded "
            f"({type(error).__name__}: {error}); check name and network, or give arithmetic.path"
        ) from error
    found = []
    for split, rows in splits.items():
        for i, row in enumerate(rows):
            place = f"arithmetic.hub {name!r}, split {split}, row {i}"
            found.append(_question(place, _as_in_a_file(place, row), None))
    if not found:
        raise sn.DataError(f"arithmetic.hub: {name!r} has no examples; check name and revision")
    return _once(found)


def right_number(text: str, answer: int) -> bool:
    """Tell whether a text is a number, and the right one."""
    number = NUMBER.fullmatch(text.strip())
    return number is not None and int(number[1]) == answer


def _once(questions: list[Question]) -> list[Question]:
    first: dict[tuple[str, int, int], Question] = {}
    for question in questions:
        first.setdefault((question.item.subtask, question.item.a, question.item.b), question)
    return list(first.values())


def _contents(path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each file with what it holds; a ``task.json`` that only stands above others is left out."""
    files = [path]
    if path.is_dir():
        files = sorted(path.rglob("task.json")) or sorted(path.glob("*.json"))
        if not files:
            raise sn.DataError(
                f"arithmetic.path: the folder {str(path)!r} has no task.json, in it or below, and no other .json file; "
                "give a BIG-bench task.json, or a folder that holds some"
            )
    elif not path.is_file():
        raise sn.DataError(
            f"arithmetic.path: no file or folder {str(path)!r}; give a BIG-bench task.json, or a folder that holds some"
        )
    for file in files:
        content = _read(file)
        examples = content.get("examples")
        if examples is None or examples == []:
            if any(file.parent in other.parent.parents for other in files):
                continue
            fault = "no key 'examples'" if examples is None else "no examples"
            raise sn.DataError(f"{file}: {fault}; a BIG-bench task.json lists them: {{input, target, target_scores}}")
        if not isinstance(examples, list):
            raise sn.DataError(f"{file}: examples is a {type(examples).__name__}; a list of examples is needed")
        yield file, content


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise sn.DataError(
            f"{file}:{error.lineno}: not JSON ({error.msg}, column {error.colno}); mend the line, or get the file again"
        ) from error
    except UnicodeDecodeError as error:
        raise sn.DataError(
            f"{file}: not UTF-8 text ({error.reason}, byte {error.start}); get the file again"
        ) from error
    except OSError as error:
        raise sn.DataError(f"{file}: cannot be read ({error.strerror}); give a file that can") from error
    if not isinstance(content, dict):
        raise sn.DataError(f"{file}: {type(content).__name__} where an object with name and examples is needed")
    return content


def _question(place: str, row: Any, name: Any) -> Question:
    if not isinstance(row, dict):
        raise sn.DataError(f"{place}: {type(row).__name__} where an object with input and target is needed")
    for key in ("input", "target"):
        if key not in row:
            raise sn.DataError(f"{place}: no key {key!r}; an example has input, target and target_scores")
    text, targets = row["input"], row["target"] if isinstance(row["target"], list) else [row["target"]]
    asked = QUESTION.fullmatch(text) if isinstance(text, str) else None
    if asked is None:
        raise sn.DataError(
            f"{place}: the input {text!r} is not understood; needed is 'What is A plus B?' (or minus, times, "
            "divided by) with whole numbers of one to five digits; correct the example or leave it out"
        )
    a, operation, b = int(asked[1]), OPERATION_OF[asked[2]], int(asked[3])
    item = Item(len(str(max(a, b))), operation, a, b)
    if isinstance(name, str) and name in SUBTASKS:
        if SUBTASKS[name]["operations"] != [operation]:
            raise sn.DataError(
                f"{place}: {asked[0].strip()!r} does not belong to {name}, the name of its file; leave it out"
            )
        item = Item(SUBTASKS[name]["digits"][0], operation, a, b)
    if operation == "division" and (b == 0 or a % b):
        raise sn.DataError(f"{place}: {item.expression} has no whole result; correct the example or leave it out")
    if not targets or not all(isinstance(one, str) for one in targets):
        raise sn.DataError(f"{place}: the target must be a text, got {row['target']!r}")
    if not all(right_number(one, item.answer) for one in targets):
        raise sn.DataError(
            f"{place}: the target is {row['target']!r}, but {item.expression} is {item.answer}; "
            "correct the example or leave it out"
        )
    return Question(item, text, targets[0], place, _target_scores(place, row.get("target_scores")))


def _target_scores(place: str, scores: Any) -> dict[str, float] | None:
    if scores is None:
        return None
    if not isinstance(scores, dict) or len(scores) < 2:
        raise sn.DataError(f"{place}: target_scores must give two or more choices a score each, got {scores!r}")
    for choice, score in scores.items():
        number = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
        if not choice or not number:
            raise sn.DataError(
                f"{place}: target_scores gives {choice!r} the score {score!r}; a finite number is needed"
            )
    return {choice: float(score) for choice, score in scores.items()}


def _as_in_a_file(place: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the hub with the keys of a file."""
    for column in ("inputs", "targets"):
        if column not in row:
            raise sn.DataError(f"{place}: no column {column!r}; needed are inputs and targets")
    choices, scores = row.get("multiple_choice_targets") or [], row.get("multiple_choice_scores") or []
    if len(choices) != len(scores) or len(set(choices)) != len(choices):
        raise sn.DataError(f"{place}: each choice needs one score and must stand once, got {choices!r} and {scores!r}")
    return {
        "input": row["inputs"],
        "target": row["targets"],
        "target_scores": dict(zip(choices, scores, strict=True)) or None,
    }
