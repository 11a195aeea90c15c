"""Arithmetic as BIG-bench ``arithmetic`` defines it, in three forms (Srivastava et al. 2022, arXiv 2206.04615).

``arithmetic`` is verification ("12 plus 47 equals 69. Correct?"), a choice between yes and no. Half of the
statements are right. The wrong ones come in three kinds in equal parts: right last digit and wrong number, right
magnitude (first digit and length) and wrong last digit, neither; that separates ``last_digit_ok`` from ``correct``.
``arithmetic-open`` asks "What is 12 plus 47?"; its answer is the greedy continuation. ``arithmetic-choice`` asks
the same with choices: the right answer and a wrong one of each kind, or those of the file.

The 20 subtasks (``arithmetic_items``) can be asked for by name: ``arithmetic/2_digit_addition``. BIG-bench files
carry a canary and are not committed here: items are generated, or read (``path``: a ``task.json`` or a folder of
them; ``hub`` and ``revision``, such as ``tasksource/bigbench``), and belong to the same splits either way. The
figures are those of ``arithmetic_scores``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import skillneurons as sn
from skillneurons.tasks.arithmetic_draws import generated, loaded
from skillneurons.tasks.arithmetic_examples import (
    KINDS_OF_ANSWER,
    LABELS,
    choice_example,
    drawn_choices,
    open_example,
    verification_example,
    wrong_answer,
)
from skillneurons.tasks.arithmetic_items import DIGITS, OPERATIONS, SUBTASKS, Item, items_of
from skillneurons.tasks.arithmetic_scores import read_verdict, score_choice, score_open, score_verification
from skillneurons.tasks.arithmetic_source import Question, hub_questions, read_questions, right_number

__all__ = [
    "KINDS_OF_ANSWER",
    "choice_example",
    "items_of",
    "load",
    "open_example",
    "register_tasks",
    "verification_example",
    "wrong_answer",
]

SIZES: dict[Any, int] = {"train": 1200, "validation": 300, "discovery": 1200, "heldout": 600}
OPTIONS: dict[str, Any] = {
    "operations": list(OPERATIONS),
    "digits": list(DIGITS),
    "path": None,
    "hub": None,
    "revision": None,
}


def load(
    split: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    form: str,
    operations: Sequence[str] = OPERATIONS,
    digits: Sequence[int] = DIGITS,
    path: str | None = None,
    hub: str | None = None,
    revision: str | None = None,
) -> list[sn.Example]:
    """Return the examples of a split, spread evenly over the chosen subtasks.

    Without a limit there are ``SIZES`` generated ones, or all that were loaded.
    """
    _check(operations, digits, path, hub, revision)
    if path is None and hub is None:
        items = generated(split, SIZES[split] if limit is None else limit, seed, operations, digits)
        if form == "verification":
            return _statements(items, split, seed)
        return [choice_example(i, drawn_choices(i, seed)) if form == "choice" else open_example(i) for i in items]
    questions = loaded(_chosen(path, hub, revision, operations, digits), split, limit, seed)
    if form == "verification":
        return _statements([question.item for question in questions], split, seed)
    if form == "choice":
        return [choice_example(one.item, _scores_of(one), one.prompt) for one in questions]
    return [open_example(one.item, one.prompt, one.target) for one in questions]


def _statements(items: list[Item], split: str, seed: int) -> list[sn.Example]:
    rng = random.Random(f"arithmetic/verification/{split}/{seed}")
    rng.shuffle(items)
    return [verification_example(item, KINDS_OF_ANSWER[i % len(KINDS_OF_ANSWER)], rng) for i, item in enumerate(items)]


def _check(operations: Any, digits: Any, path: str | None, hub: str | None, revision: str | None) -> None:
    for option, values, known in (("operations", operations, OPERATIONS), ("digits", digits, DIGITS)):
        if not isinstance(values, list | tuple):
            raise sn.DataError(f"arithmetic.{option}: {values!r} must be a list; known: {list(known)}")
        unknown = [value for value in values if value not in known]
        if unknown or not values:
            raise sn.DataError(f"arithmetic.{option}: {unknown or 'empty'}; known: {list(known)}")
    if path is not None and hub is not None:
        raise sn.DataError(f"arithmetic: both path {path!r} and hub {hub!r} are given; give one of them")
    if revision is not None and hub is None:
        raise sn.DataError(
            f"arithmetic.revision: {revision!r} is given without arithmetic.hub, the data set it belongs to"
        )


def _chosen(
    path: str | None, hub: str | None, revision: str | None, operations: Sequence[str], digits: Sequence[int]
) -> list[Question]:
    """Load the questions of the chosen operations and digits; an error says what there is where none is left."""
    questions = read_questions(path) if path is not None else hub_questions(str(hub), revision)
    chosen = [q for q in questions if q.item.operation in operations and q.item.digits in digits]
    if not chosen:
        counts = {name: sum(q.item.subtask == name for q in questions) for name in SUBTASKS}
        there = ", ".join(f"{name} ({count})" for name, count in counts.items() if count)
        raise sn.DataError(
            f"{path if path is not None else hub}: no question of operations {list(operations)} and digits "
            f"{list(digits)}; it has: {there}"
        )
    return chosen


def _scores_of(question: Question) -> Mapping[str, float]:
    """Return the choices of a loaded question with their scores; the best one must be the right answer."""
    scores = question.target_scores
    if scores is None:
        raise sn.DataError(
            f"{question.place}: no target_scores, the choices of arithmetic-choice; "
            "give a file that has them, or use arithmetic-open or arithmetic"
        )
    best = max(scores, key=lambda choice: scores[choice])
    if not right_number(best, question.item.answer):
        raise sn.DataError(
            f"{question.place}: {best!r} has the highest of the target_scores, but {question.item.expression} is "
            f"{question.item.answer}; correct the example or leave it out"
        )
    return scores


def tuned_on(**options: Any) -> str:
    """Say in words for the table what the prompt is tuned on."""
    source = "generated arithmetic"
    if options["path"] is not None:
        file = Path(options["path"]).resolve()
        source = f"{file.parent.name}/{file.name}" if file.name == "task.json" else file.name
    elif options["hub"] is not None:
        source = f"{options['hub']}" + (f" at {options['revision']}" if options["revision"] else "")
    return f"{source}, other items of the same subtasks"


def fit_choice(**options: Any) -> dict[str, Any]:
    """Return the chance of a guess among a file's choices: not known, their number is the file's."""
    return {} if options["path"] is None and options["hub"] is None else {"chance": None}


RIVALS = {  # what could pass for knowing the right number
    "heuristics.correct": tuple(
        f"heuristics.{name}" for name in ("last_digit_ok", "first_digit_ok", "length_ok", "parity_ok")
    )
}


@sn.hookimpl
def register_tasks(register: Any) -> None:
    shared: dict[str, Any] = {
        "version": "2",
        "source": "generated to the rules of BIG-bench arithmetic (arXiv 2206.04615); the original by path or hub",
        "licence": "MIT",
        "options": OPTIONS,
        "sizes": SIZES,
        "subtasks": SUBTASKS,
        "tuned_on": tuned_on,
        "rivals": RIVALS,
    }
    register(
        sn.Task(
            name="arithmetic",
            load=partial(load, form="verification"),
            kind="choice",
            form="verification",
            chance=0.5,
            description="is a stated result right? half are; wrong ones err in three ways",
            label_columns=LABELS,
            score=score_verification,
            predictions=sn.PredictionForm(read=read_verdict),
            primary=("labels.correct", "confidence.p_target", "heuristics.last_digit_ok"),
            **shared,
        )
    )
    register(
        sn.Task(
            name="arithmetic-open",
            load=partial(load, form="open"),
            kind="open",
            form="open",
            chance=0.0,
            max_new_tokens=12,
            description="what is the result?",
            primary=("confidence.p_target", "heuristics.correct", "labels.carry"),
            label_columns=LABELS[1:],
            score=score_open,
            **shared,
        )
    )
    register(
        sn.Task(
            name="arithmetic-choice",
            load=partial(load, form="choice"),
            kind="choice",
            form="multiple choice",
            chance=0.25,
            description="which of several results is the right one?",
            label_columns=LABELS[1:],
            score=score_choice,
            fit=fit_choice,
            **shared,
        )
    )
