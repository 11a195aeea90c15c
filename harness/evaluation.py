"""A task's own evaluation: which examples it is on, and its figures from a predictions file, without any model."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillneurons.atomic import make_folder, write_atomic
from skillneurons.errors import DataError, UserError
from skillneurons.examples import load_split
from skillneurons.plugin_calls import PluginCall, call_plugin
from skillneurons.predictions import Prediction, read_predictions
from skillneurons.types import Example, Score, Split, Task

EVALUATED: Mapping[str, tuple[Split, ...]] = {
    "all": ("discovery", "heldout"),
    "discovery": ("discovery",),
    "heldout": ("heldout",),
}


def evaluated_examples(
    task: Task, options: Mapping[str, Any], *, split: str = "all", limit: int | None = None, seed: int = 0
) -> list[Example]:
    """Return the examples a task is evaluated on: all of discovery and heldout, where nothing was tuned on them."""
    if split not in EVALUATED:
        raise UserError(f"split {split!r}; known: {', '.join(EVALUATED)}")
    return [
        example
        for one in EVALUATED[split]
        for example in load_split(task, one, limit=limit, seed=seed, options=options)
    ]


def score_predictions(
    task: Task, file: Path, examples: Sequence[Example], *, partial: bool = False
) -> tuple[list[Score], list[Prediction]]:
    """Return a task's figures from a predictions file; refuse one that leaves examples out, unless ``partial``."""
    if task.score is None:
        raise UserError(f"task {task.name!r} has no scores of its own; a task gives them with Task(score=...)")
    predictions = read_predictions(file, task, examples)
    answered = {one.example.id for one in predictions}
    missing = [example.id for example in examples if example.id not in answered]
    if missing and not partial:
        raise DataError(
            f"{file}: {len(missing)} of {len(examples)} examples have no prediction (the first: {missing[0]!r}); "
            "check the data that the task was given (--set), or score what is there with --partial"
        )
    counts = Counter(one.example.id for one in predictions)
    fewest, most = min(counts.items(), key=lambda item: item[1]), max(counts.items(), key=lambda item: item[1])
    if fewest[1] != most[1] and not partial:
        raise DataError(
            f"{file}: {most[0]!r} has {most[1]} texts and {fewest[0]!r} has {fewest[1]}; the best of more is better, so "
            "give each example as many, or score what is there with --partial"
        )
    pairs = [(one.example, one.output) for one in predictions]
    return list(call_plugin(PluginCall("task", task.name, "score"), task.score, pairs)), predictions


def scores_text(scores: Sequence[Score], *, detail: bool) -> str:
    """Return scores as a text table; figures of small parts only with ``detail``."""
    from tabulate import tabulate

    rows = [
        (one.name, one.part or "all", "-" if math.isnan(one.value) else f"{one.value:.4f}", one.n)
        for one in scores
        if detail or not one.detail
    ]
    return tabulate(
        rows,
        headers=("score", "part", "value", "n"),
        disable_numparse=True,
        colalign=("left", "left", "right", "right"),
    )


def scores_json(scores: Sequence[Score]) -> str:
    """Return scores as JSON, NaN as null."""
    rows = [
        {"score": one.name, "part": one.part, "value": None if math.isnan(one.value) else one.value, "n": one.n}
        for one in scores
    ]
    return json.dumps(rows, indent=2)


def write_graded(file: Path, predictions: Sequence[Prediction]) -> None:
    """Write what the grader said about each text, as JSON Lines (NaN as null)."""
    lines = []
    for one in predictions:
        labels = {name: None if math.isnan(value) else value for name, value in one.output.labels.items()}
        correct = None if math.isnan(one.output.correct) else one.output.correct
        row = {"id": one.example.id, "generation": one.generation, "prediction": one.output.text, "correct": correct}
        lines.append(json.dumps({**row, **labels}, ensure_ascii=False))
    make_folder(file.resolve().parent)
    write_atomic(file, ("\n".join(lines) + "\n").encode("utf-8"))
