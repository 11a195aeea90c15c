"""Consistency without the model, from the table of examples: they are the task's own, and what follows from text and answer does.

Ids, groups, targets and prompts are those that the task gives here; ``correct`` is what the task says of the answer; accuracy and its
standard error follow from it; and a metric's value is computed again wherever it does not depend on probabilities, which no file
keeps: it is asked with several made-up ones, and where its answer is always the same, that is the one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from skillneurons.figure_check import differs
from skillneurons.file_faults import told
from skillneurons.finding import CONSISTENCY, Ledger
from skillneurons.kept_pass import KeptPass
from skillneurons.metric_row import metric_row
from skillneurons.plan import Unit
from skillneurons.remade_request import told_error
from skillneurons.task_setup import grade_text, is_correct
from skillneurons.types import Example, Output, Split, Task

_PROBES = ((-0.25, -1.75), (-7.5, -0.01), (-2.0, -2.125), (-0.003, -11.0))  # log-probabilities of target and answer
_VALUE_CLOSE = 1e-9
SPLITS: tuple[Split, ...] = ("discovery", "heldout")


def check_examples(kept: KeptPass, unit: Unit, ledger: Ledger) -> None:
    """Check the table of a cell against its task."""
    pairs = None
    try:
        found = list(_unlike(kept, unit))
        for what in found:
            _say(kept, ledger, what, "the examples are not those of the task")
        grader = unit.data.grader or {}
        if grader and not grader.get("synthetic"):
            ledger.cannot(
                kept.place, f"its answers are not graded again: {told(grader.get('name'))} costs time or money"
            )
        elif not found:
            pairs = _pairs(kept, unit)
            for what in [*_answers(kept, unit, pairs), *_values(kept, unit, pairs)]:
                _say(kept, ledger, what, "the value does not follow from example and answer")
            for what in _own_figures(kept, unit, pairs):
                ledger.say(CONSISTENCY, kept.path, what, "the figure is not that of the examples", [kept.cell.key])
    except Exception as error:  # a plugin may raise anything
        ledger.cannot(kept.place, f"its examples cannot be judged here: {told_error(error)}", [kept.cell.key])
    check_accuracy(kept, pairs, ledger)


def _say(kept: KeptPass, ledger: Ledger, what: str, meaning: str) -> None:
    ledger.say(CONSISTENCY, f"{kept.place}/examples.parquet", what, meaning, [kept.cell.key])


def _unlike(kept: KeptPass, unit: Unit) -> Iterator[str]:
    """Yield where the table holds other examples than the task gives."""
    for split in SPLITS:
        cut = kept.cell.truncated.get(split, 0)
        examples = unit.data.splits[split]
        rows = {name: kept.of(name, split) for name in ("id", "group", "prompt", "target")}
        if len(rows["id"]) != len(examples):
            yield f"it has {len(rows['id'])} examples of {split}, the task gives {len(examples)}"
            continue
        for i, one in enumerate(examples):
            here = {"id": one.id, "group": one.group or one.id, "target": one.target}
            wrong = next((name for name, value in here.items() if rows[name][i] != value), None)
            if wrong:
                said = f"{told(repr(rows[wrong][i]))}, of the task {told(repr(here[wrong]))}"
                yield f"{wrong} of example {i} of {split} is {said}"
                break
            if one.prompt.strip() not in rows["prompt"][i]:
                if cut:
                    cut -= 1
                    continue
                yield f"the prompt of example {told(repr(one.id))} is {told(repr(rows['prompt'][i]))}, of the task {told(repr(one.prompt))}"
                break


def _pairs(kept: KeptPass, unit: Unit) -> dict[str, list[tuple[Example, Output]]]:
    """Return examples and answers as far as the table knows them, by split."""
    pairs: dict[str, list[tuple[Example, Output]]] = {}
    for split in SPLITS:
        texts, corrects = kept.of("text", split), kept.of("correct", split)
        pairs[split] = [
            (one, _output(unit.data.task, one, str(text), math.nan if correct is None else float(correct)))
            for one, text, correct in zip(unit.data.splits[split], texts, corrects, strict=True)
        ]
    return pairs


def _output(task: Task, example: Example, text: str, correct: float) -> Output:
    labels = {} if task.kind == "choice" else grade_text(task, example, text)
    return Output(text, correct, math.nan, predicted=text if task.kind == "choice" else None, labels=labels)


def _answers(kept: KeptPass, unit: Unit, pairs: Mapping[str, Sequence[tuple[Example, Output]]]) -> Iterator[str]:
    for split in SPLITS:
        for example, output in pairs[split]:
            if unit.data.task.kind == "choice" and output.text not in (example.choices or ()):
                yield f"the answer to example {told(repr(example.id))} is {told(repr(output.text))}, none of its choices"
                return
            right = is_correct(example, output.text, output.labels)
            if differs(None if math.isnan(output.correct) else output.correct, right, _VALUE_CLOSE):
                yield (
                    f"correct of example {told(repr(example.id))} is {output.correct:g}, and its answer {told(repr(output.text))} "
                    f"to the target {told(repr(example.target))} is {right:g}"
                )
                return


def _values(kept: KeptPass, unit: Unit, pairs: Mapping[str, Sequence[tuple[Example, Output]]]) -> Iterator[str]:
    cell, columns = unit.cells[0], unit.cells[0].columns
    wrong: dict[str, list[str]] = {}
    for split in SPLITS:
        said = {name: kept.values(name, split) for name in columns if name in kept.table}
        for i, (example, output) in enumerate(pairs[split]):
            rows = [metric_row(cell.metric, columns, example, one) for one in _probed(example, output)]
            for name, *values in zip(columns, *rows, strict=True):
                known = all(not differs(None if math.isnan(values[0]) else values[0], one, 0.0) for one in values)
                if not known or name not in said:
                    continue
                here = float(said[name][i])
                if differs(None if math.isnan(here) else here, values[0], _VALUE_CLOSE * max(1.0, abs(values[0]))):
                    wrong.setdefault(name, []).append(
                        f"{told(repr(example.id))} is {here:g}, computed again {values[0]:g}"
                    )
    for name, those in wrong.items():
        more = f" ({len(those)} examples differ)" if len(those) > 1 else ""
        yield f"{told(name)} of example {those[0]}{more}"


def _own_figures(kept: KeptPass, unit: Unit, pairs: Mapping[str, Sequence[tuple[Example, Output]]]) -> Iterator[str]:
    score = unit.data.task.score
    listed = [pair for split in SPLITS for pair in pairs[split]]
    several = [[(one, list(_probed(one, output))[i]) for one, output in listed] for i in range(len(_PROBES))]
    again = [list(score(one)) for one in several] if score is not None else [[]]
    named = [(one.name, one.part) for one in again[0]]
    said = [(one["name"], one["part"]) for one in kept.cell.scores]
    if said != named:
        yield f"scores are {told(said)}, of the task {told(named)}"
        return
    for i, one in enumerate(kept.cell.scores):
        place = f"scores.{told(' '.join(named[i]).strip())}"
        for part in ("value", "n"):
            values = [_as_float(getattr(row[i], part)) for row in again]
            known = all(not differs(None if math.isnan(values[0]) else values[0], value, 0.0) for value in values)
            if known and differs(one[part], values[0], _VALUE_CLOSE * max(1.0, abs(values[0]))):
                yield f"{place}.{part} is {one[part]}, by the answers {values[0]:g}"


def _as_float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _probed(example: Example, output: Output) -> Iterator[Output]:
    """Yield the output with several made-up probabilities."""
    for i, (target, mine) in enumerate(_PROBES):
        n = len(example.choices or ())
        chosen = tuple(-0.2 - abs(math.sin(1.7 * j + 2.9 * i)) * 5 for j in range(n)) if n else None
        yield replace(
            output,
            target_log_prob=target,
            choice_log_probs=chosen,
            n_target_tokens=1 + i,
            predicted_log_prob=mine,
            margin=0.11 + 0.2 * i,
            entropy=0.37 + 0.15 * i,
        )


def check_accuracy(kept: KeptPass, pairs: Mapping[str, Any] | None, ledger: Ledger) -> None:
    """Check accuracy and its standard error against ``correct`` on heldout, balanced over targets where the task's is."""
    if not kept.table:
        return
    corrects = [math.nan if one is None else float(one) for one in kept.of("correct", "heldout")]
    targets = [str(one) for one in kept.of("target", "heldout")]
    accuracy = kept.cell.accuracy
    name = "untuned" if kept.cell.prompt is None else "tuned"
    said = (accuracy.get(name), accuracy.get("stderr"))
    possible = [_accuracy(corrects, targets), _accuracy(corrects, [""] * len(corrects))]
    if pairs is not None:
        choices = {example.choices for example, _ in pairs["heldout"]}
        possible = possible[:1] if len(choices) == 1 and None not in choices else possible[1:]
    if all(any(differs(one, value, 1e-9) for one, value in zip(said, both, strict=True)) for both in possible):
        value, stderr = possible[0]
        what = (
            f"accuracy.{name} is {said[0]} (stderr {said[1]}), the answers kept give {value:.6f} (stderr {stderr:.6f})"
        )
        ledger.say(CONSISTENCY, kept.path, what, "the accuracy is not that of the examples", [kept.cell.key])


def _accuracy(corrects: Sequence[float], classes: Sequence[str]) -> tuple[float, float]:
    by_class: dict[str, list[float]] = {}
    for correct, one in zip(corrects, classes, strict=True):
        if not math.isnan(correct):
            by_class.setdefault(one, []).append(correct)
    if not by_class:
        return math.nan, math.nan
    means = {name: math.fsum(values) / len(values) for name, values in by_class.items()}
    variance = 0.0
    for name, values in by_class.items():
        variance += math.fsum((one - means[name]) ** 2 for one in values) / len(values) ** 2
    return math.fsum(means.values()) / len(means), math.sqrt(variance) / len(means)
