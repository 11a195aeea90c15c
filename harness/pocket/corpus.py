"""The text the pocket model is trained on: generated, seeded, and free of any test item.

Four kinds of (question, answer) pairs:

- ``open``: arithmetic of one to three digits (products: two), only items of the task's ``train`` split;
- ``verification``: right and wrong results of such items;
- ``nli``: entailment pairs in which lexical overlap nearly always means entailment, not drawn from HANS;
- ``skillmix``: texts of the embedded grammar, only combinations of the ``train`` split, k = 1..4.

Arithmetic items and Skill-Mix combinations of the discovery and heldout splits are never drawn, so that
what is measured there is generalisation and not memory. NLI sentences share their words with HANS, and a
few short pairs coincide with HANS pairs by chance (about two in a hundred, mostly single adverbs); the
model card counts them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from skillneurons import Example, split_by_group
from skillneurons.tasks import arithmetic, arithmetic_items, nli, skillmix

KINDS = ("open", "verification", "nli", "skillmix")
DIGIT_WEIGHTS = (0.15, 0.70, 0.15)
OPERATION_WEIGHTS = (0.37, 0.33, 0.16, 0.14)
NLI_POOL = 120_000


def arithmetic_items_of_training(rng: random.Random) -> Iterator[arithmetic_items.Item]:
    """Yield items of the ``train`` split for ever: mostly two digits, mostly sums and differences."""
    while True:
        operation = rng.choices(arithmetic_items.OPERATIONS, OPERATION_WEIGHTS)[0]
        digits = rng.choices((1, 2, 3), DIGIT_WEIGHTS)[0]
        digits = min(digits, 2) if operation == "multiplication" else digits
        low, high = (0 if digits == 1 else 10 ** (digits - 1)), 10**digits
        a, b = rng.randrange(low, high), rng.randrange(low, high)
        if operation == "subtraction" and a < b:
            a, b = b, a
        elif operation == "division":
            b = max(b, 1)
            a = b * rng.randrange(1, (high - 1) // b + 1)
        item = arithmetic_items.Item(digits, operation, a, b)
        if item.split == "train":
            yield item


def training_examples(kind: str, seed: int) -> Iterator[Example]:
    """Yield examples of one kind for ever; the same seed gives the same stream."""
    rng = random.Random(f"pocket/{kind}/{seed}")
    if kind == "open":
        yield from (arithmetic.open_example(item) for item in arithmetic_items_of_training(rng))
    elif kind == "verification":
        kinds = itertools.cycle(arithmetic.KINDS_OF_ANSWER)
        for item in arithmetic_items_of_training(rng):
            yield arithmetic.verification_example(item, next(kinds), rng)
    elif kind == "nli":
        pool = nli.generate_nli(NLI_POOL, seed=seed + 1_000)
        while True:
            yield from rng.sample(pool, len(pool))
    elif kind == "skillmix":
        allowed = [
            (skills, topic)
            for skills, topic in skillmix.combinations((1, 2, 3, 4))
            if split_by_group(skillmix.group_of(skills, topic), "skillmix") == "train"
        ]
        while True:
            skills, topic = rng.choice(allowed)
            yield skillmix.example_of(rng.sample(skills, len(skills)), topic, rng)
    else:
        raise ValueError(f"no kind of text named {kind!r}; known: {', '.join(KINDS)}")
