"""Arithmetic examples in three forms: a statement to verify, an open question, a question with choices.

A wrong answer is of one of three kinds: right last digit and wrong number (``last_digit``), right magnitude (first
digit and length) and wrong last digit (``magnitude``), or ``neither``. Fields of every example: the operands ``a``
and ``b``, ``operation``, ``answer``, ``subtask``; of a statement also the number ``shown`` and the ``kind`` of answer
that it is; of a choice also ``target_scores``, the points of each choice.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import skillneurons as sn
from skillneurons.tasks.arithmetic_items import OPERATIONS, Item

WRONG = ("last_digit", "magnitude", "neither")
KINDS_OF_ANSWER = ("right", "last_digit", "right", "magnitude", "right", "neither")
VERDICTS = ("yes", "no")
LABELS = ("correct", *(f"is_{operation}" for operation in OPERATIONS), "carry")


def wrong_answer(answer: int, kind: str, rng: random.Random) -> int:
    """Return a wrong answer of a kind: ``last_digit``, ``magnitude`` or ``neither``; negative only for a negative one."""
    if answer < 0:
        return -wrong_answer(-answer, kind, rng)
    low = 0 if answer < 10 else 10 ** (len(str(answer)) - 1)
    if kind == "last_digit":
        span = max(10, 10 ** len(str(answer)))
        candidates = [answer + 10 * k for k in range(-9, 10) if k and answer + 10 * k >= 0]
        inside = [c for c in candidates if low <= c < span]
        return rng.choice(inside or candidates)
    if kind == "magnitude":
        if answer < 10:
            return rng.choice([c for c in range(10) if c != answer])
        base = answer - answer % 10
        return base + rng.choice([d for d in range(10) if d != answer % 10])
    high = 10 ** (len(str(answer)) + 1)
    while True:
        c = rng.randrange(low, high) if rng.random() < 0.5 else rng.randrange(low, max(low * 10, 20))
        same_magnitude = len(str(c)) == len(str(answer)) and str(c)[0] == str(answer)[0]
        if c % 10 != answer % 10 and (not same_magnitude):
            return c


def verification_example(item: Item, kind: str, rng: random.Random) -> sn.Example:
    """Make a statement about an item whose answer is ``right`` or wrong in a given way."""
    shown = item.answer if kind == "right" else wrong_answer(item.answer, kind, rng)
    return sn.Example(
        id=f"{item.subtask}/{item.a}/{item.b}/{kind}",
        prompt=f"{item.expression} equals {shown}. Correct?",
        target="yes" if kind == "right" else "no",
        choices=VERDICTS,
        labels=_labels(item) | {"correct": float(kind == "right")},
        group=item.group,
        fields=_fields(item) | {"shown": shown, "kind": kind},
    )


def open_example(item: Item, prompt: str | None = None, target: str | None = None) -> sn.Example:
    """Make the open question of an item, in its own words where ``prompt`` and ``target`` are given."""
    return sn.Example(
        id=f"{item.subtask}/{item.a}/{item.b}",
        prompt=f"What is {item.expression}?" if prompt is None else prompt,
        target=str(item.answer) if target is None else target,
        labels=_labels(item),
        group=item.group,
        fields=_fields(item),
    )


def choice_example(item: Item, target_scores: Mapping[str, float], prompt: str | None = None) -> sn.Example:
    """Make the question of an item with choices, in their order; the target is the one with the highest score."""
    return sn.Example(
        id=f"{item.subtask}/{item.a}/{item.b}",
        prompt=f"What is {item.expression}?" if prompt is None else prompt,
        target=max(target_scores, key=lambda choice: target_scores[choice]),
        choices=tuple(target_scores),
        labels=_labels(item),
        group=item.group,
        fields=_fields(item) | {"target_scores": dict(target_scores)},
    )


def drawn_choices(item: Item, seed: int) -> dict[str, float]:
    """Return the right answer (1) and a wrong one of each kind (0), all different, in an order drawn for the item."""
    rng = random.Random(f"arithmetic/choice/{seed}/{item.subtask}/{item.a}/{item.b}")
    answers = [item.answer]
    for kind in WRONG:
        wrong = wrong_answer(item.answer, kind, rng)
        while wrong in answers or _begins(str(item.answer), str(wrong)):  # two kinds can give the same number
            wrong = wrong_answer(item.answer, kind, rng)
        answers.append(wrong)
    rng.shuffle(answers)
    return {str(answer): float(answer == item.answer) for answer in answers}


def _begins(one: str, other: str) -> bool:
    """Tell whether one text begins the other: the log-probability of the longer could then never be the larger."""
    return one.startswith(other) or other.startswith(one)


def _labels(item: Item) -> dict[str, float]:
    of_operation = {f"is_{operation}": float(item.operation == operation) for operation in OPERATIONS}
    return of_operation | {"carry": float(item.carry)}


def _fields(item: Item) -> dict[str, Any]:
    return {
        "a": item.a,
        "b": item.b,
        "operation": item.operation,
        "answer": item.answer,
        "subtask": item.subtask,
    }
