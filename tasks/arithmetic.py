"""Arithmetic: open ("What is 12 plus 47?") and verification ("12 plus 47 equals 69. Correct?").

``arithmetic`` is the verification form, a choice between yes and no. Half of the statements are
right. The wrong ones come in three kinds in equal parts: right last digit and wrong number, right
magnitude (first digit and length) and wrong last digit, neither; that separates ``last_digit_ok``
from ``correct``. ``arithmetic-open`` is the open form; its answer is the greedy continuation.

Items follow the rules of BIG-bench ``arithmetic`` (Srivastava et al. 2022, arXiv 2206.04615), whose
files carry a canary and are not committed here: the items are generated.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import skillneurons as sn
from skillneurons.tasks.arithmetic_items import DIGITS, OPERATIONS, Item, draw_items

KINDS_OF_ANSWER = ("right", "last_digit", "right", "magnitude", "right", "neither")
SIZES = {"train": 1200, "validation": 300, "discovery": 1200, "heldout": 600}
LABELS = ("correct", *(f"is_{operation}" for operation in OPERATIONS), "carry")


def wrong_answer(answer: int, kind: str, rng: random.Random) -> int:
    """Return a wrong answer of a kind: ``last_digit``, ``magnitude`` or ``neither`` (never negative)."""
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
        choices=("yes", "no"),
        labels=_labels(item) | {"correct": float(kind == "right")},
        group=item.group,
        fields=_fields(item) | {"shown": shown, "kind": kind},
    )


def open_example(item: Item) -> sn.Example:
    """Make the open question of an item."""
    return sn.Example(
        id=f"{item.subtask}/{item.a}/{item.b}",
        prompt=f"What is {item.expression}?",
        target=str(item.answer),
        labels=_labels(item),
        group=item.group,
        fields=_fields(item),
    )


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


def load(
    split: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    form: str,
    operations: Sequence[str] = OPERATIONS,
    digits: Sequence[int] = DIGITS,
) -> list[sn.Example]:
    """Return the examples of a split, spread evenly over the chosen subtasks."""
    for option, values, known in (("operations", operations, OPERATIONS), ("digits", digits, DIGITS)):
        unknown = [value for value in values if value not in known]
        if unknown or not values:
            raise sn.DataError(f"arithmetic.{option}: {unknown or 'empty'}; known: {list(known)}")
    items = draw_items(split, limit or SIZES[split], seed, operations, digits)
    if form == "open":
        return [open_example(item) for item in items]
    rng = random.Random(f"arithmetic/verification/{split}/{seed}")
    rng.shuffle(items)
    return [verification_example(item, KINDS_OF_ANSWER[i % len(KINDS_OF_ANSWER)], rng) for i, item in enumerate(items)]


@sn.hookimpl
def register_tasks(register: Any) -> None:
    shared: dict[str, Any] = {
        "version": "1",
        "source": "generated to the rules of BIG-bench arithmetic (arXiv 2206.04615)",
        "licence": "MIT",
        "options": {"operations": list(OPERATIONS), "digits": list(DIGITS)},
    }
    register(
        sn.Task(
            name="arithmetic",
            load=partial(load, form="verification"),
            kind="choice",
            chance=0.5,
            description="is a stated result right? half are; wrong ones err in three ways",
            label_columns=LABELS,
            **shared,
        )
    )
    register(
        sn.Task(
            name="arithmetic-open",
            load=partial(load, form="open"),
            kind="open",
            chance=0.0,
            max_new_tokens=12,
            description="what is the result?",
            label_columns=LABELS[1:],
            **shared,
        )
    )
