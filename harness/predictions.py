"""Predictions files: a model's answers on disk, and back as outputs that a task can score.

Two columns, named by the task (``PredictionForm``; ``id`` and ``prediction`` are understood too), and
``generation`` where an example has several texts. ``.jsonl`` holds an object on each line, any other ending a
CSV with a header. A file that does not have this form is a DataError that names file and line.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from skillneurons.atomic import make_folder, write_atomic
from skillneurons.errors import DataError, SkillNeuronsError
from skillneurons.plugin_calls import PluginCall, call_plugin
from skillneurons.task_setup import grade_text, is_correct
from skillneurons.types import Example, Output, Task

PLAIN = ("id", "prediction")


@dataclass(frozen=True)
class Prediction:
    """One answer of one example; ``generation`` counts the texts of an example from 0."""

    example: Example
    output: Output
    generation: int = 0


def write_predictions(file: Path, task: Task, predictions: Sequence[Prediction]) -> None:
    """Write predictions whole or not at all, in the form that the ending of the name says."""
    first, second = task.predictions.columns
    several = any(one.generation for one in predictions)
    rows = [
        {first: one.example.id, second: task.predictions.write(one.example, one.output)}
        | ({"generation": one.generation} if several else {})
        for one in predictions
    ]
    if file.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        sink = io.StringIO(newline="")
        plain = all(not set("\r\n") & set(str(row[second])) for row in rows)
        quoting: Literal[0, 1] = csv.QUOTE_MINIMAL if plain else csv.QUOTE_ALL
        writer = csv.DictWriter(
            sink, [first, second, *(["generation"] if several else [])], lineterminator="\n", quoting=quoting
        )
        writer.writeheader()
        writer.writerows(rows)
        text = sink.getvalue()
    make_folder(file.resolve().parent)
    write_atomic(file, text.encode("utf-8"))


def read_predictions(file: Path, task: Task, examples: Sequence[Example]) -> list[Prediction]:
    """Read the predictions of a file; texts of a task with a grader are graded. No example need have one."""
    known = {example.id: example for example in examples}
    seen: dict[tuple[str, int], int] = {}
    predictions = []
    for number, name, text, generation in _rows(file, task):
        where = f"{file}:{number}"
        if name not in known:
            raise DataError(
                f"{where}: {name!r} is none of the {len(known)} examples (the first: {next(iter(known), '')!r}); "
                "check the data that the task was given (--set)"
            )
        if (name, generation) in seen:
            raise DataError(
                f"{where}: {name!r} stands in line {seen[name, generation]} already; several texts of one example need "
                "a column 'generation' that numbers them"
            )
        seen[name, generation] = number
        predictions.append(Prediction(known[name], _output(where, task, known[name], text), generation))
    if not predictions:
        raise DataError(f"{file}: no predictions; it needs a line per example after its header")
    return predictions


def _output(where: str, task: Task, example: Example, text: str) -> Output:
    try:
        call = PluginCall("task", task.name, "predictions.read", f"example {example.id!r}")
        answer = call_plugin(call, task.predictions.read, example, text)
    except SkillNeuronsError as error:
        raise DataError(f"{where}: {error}") from error
    if example.choices is None:
        labels = grade_text(task, example, answer)
        return Output(answer, is_correct(example, answer, labels), math.nan, labels=labels)
    if answer not in example.choices:
        raise DataError(f"{where}: {text!r} is no answer of {example.id!r}; known: {', '.join(example.choices)}")
    return Output(answer, float(answer == example.target), math.nan, predicted=answer)


def _rows(file: Path, task: Task) -> Iterator[tuple[int, str, str, int]]:
    """Yield (line, id, prediction, generation)."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error.reason}, byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); give a predictions file") from error
    own = task.predictions.columns
    needed = f"needed are {own[0]!r} and {own[1]!r}" + ("" if own == PLAIN else f", or {PLAIN[0]!r} and {PLAIN[1]!r}")
    for number, row in _json_rows(file, text) if file.suffix == ".jsonl" else _csv_rows(file, text):
        columns = next((pair for pair in (own, PLAIN) if set(pair) <= set(row)), None)
        if columns is None:
            raise DataError(f"{file}:{number}: columns {', '.join(map(str, row)) or 'none'}; {needed}")
        name, answer = row[columns[0]], row[columns[1]]
        if not isinstance(name, str) or not isinstance(answer, str):
            raise DataError(
                f"{file}:{number}: {columns[0]} and {columns[1]} must be texts, got {name!r} and {answer!r}"
            )
        generation = row.get("generation", 0)
        if not str(generation).isdecimal():
            raise DataError(f"{file}:{number}: generation {generation!r} must be a whole number from 0")
        yield number, name, answer, int(generation)


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{file}:{reader.line_num}: {len(fields)} fields where the header has {len(header)}; "
                    "quote an answer that holds a comma"
                )
            yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise DataError(f"{file}:{reader.line_num}: not a CSV ({error})") from error


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{file}:{number}: not JSON ({error.msg}, column {error.colno})") from error
        if not isinstance(row, dict):
            raise DataError(f"{file}:{number}: {type(row).__name__} where an object with keys is needed")
        yield number, row
