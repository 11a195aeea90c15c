"""Which arithmetic items a split gets: generated ones and loaded ones by the same groups.

A split's items are those whose group belongs to it (``Item.split``). Where the chosen subtasks are so small that
``validation`` has none of them (one-digit division alone: 23 items), ``train`` lends it an eighth of its groups, at
least one and never its only one; discovery and heldout are not touched.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import skillneurons as sn
from skillneurons.tasks.arithmetic_items import ENUMERATED_DIGITS, SUBTASKS, Item, draw_items, enumerate_subtask
from skillneurons.tasks.arithmetic_source import Question

LENT = 8  # one group of so many is lent


def generated(split: str, n: int, seed: int, operations: Sequence[str], digits: Sequence[int]) -> list[Item]:
    """Draw up to ``n`` items of a split (``draw_items``), evenly over the subtasks."""
    if split not in ("train", "validation") or max(digits) > ENUMERATED_DIGITS:
        return draw_items(split, n, seed, operations, digits)
    pool = [item for operation in operations for d in digits for item in enumerate_subtask(operation, d)]
    lent = lent_groups(pool)
    if not lent:
        return draw_items(split, n, seed, operations, digits)
    of_train = draw_items("train", len(pool), seed, operations, digits)
    return [item for item in of_train if (item.group in lent) is (split == "validation")][:n]


def loaded(questions: Sequence[Question], split: str, limit: int | None, seed: int) -> list[Question]:
    """Return the questions of a split, at most ``limit``, drawn evenly over the subtasks (None: all of them)."""
    lent = lent_groups(question.item for question in questions)
    streams = []
    for subtask in SUBTASKS:
        members = [
            question
            for question in questions
            if question.item.subtask == subtask
            and ("validation" if question.item.group in lent else question.item.split) == split
        ]
        random.Random(f"arithmetic/loaded/{split}/{seed}/{subtask}").shuffle(members)
        streams.append(members)
    longest = max(len(members) for members in streams)
    drawn = [members[i] for i in range(longest) for members in streams if i < len(members)]
    return drawn[:limit]


def lent_groups(items: Iterable[Item]) -> set[str]:
    """Return the groups of ``train`` that stand in for an empty ``validation``; none where it has any."""
    of_train = set()
    for item in items:
        if item.split == "validation":
            return set()
        if item.split == "train":
            of_train.add(item.group)
    ordered = sorted(of_train, key=lambda group: sn.stable_hash(group, "arithmetic/lent"))
    return set(ordered[: max(1, len(ordered) // LENT)]) if len(ordered) > 1 else set()
