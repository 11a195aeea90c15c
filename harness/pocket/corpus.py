"""The text the pocket model is trained on: generated, seeded, and free of any test item.

Four kinds of (question, answer) pairs:

- ``open``: arithmetic of one to three digits (products: two), only items of the task's ``train`` split;
- ``verification``: right and wrong results of such items;
- ``nli``: entailment pairs in which lexical overlap nearly always means entailment, none of them of HANS;
- ``skillmix``: texts of the embedded grammar, only combinations of the ``train`` split, k = 1..4, in one
  turn or, every second one, in two: a draft (as good, or with a part missing), the request to improve it,
  and the text.

Arithmetic items and Skill-Mix combinations of the other splits are never drawn, so that what is measured
there is generalisation and not memory. NLI sentences share words with HANS, but every premise has a noun
that no HANS sentence has, so no pair is a HANS pair, generated or original.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import replace

from skillneurons import Example, split_by_group
from skillneurons.tasks import arithmetic, arithmetic_items, nli, skillmix
from skillneurons.tasks.skillmix_grammar import split_sentences

KINDS = ("open", "verification", "nli", "skillmix")
DIGIT_WEIGHTS = (0.15, 0.70, 0.15)
OPERATION_WEIGHTS = {"open": (0.37, 0.33, 0.16, 0.14), "verification": (0.28, 0.27, 0.29, 0.16)}
NLI_POOL = 120_000


def arithmetic_items_of_training(kind: str, rng: random.Random) -> Iterator[arithmetic_items.Item]:
    """Yield items of the ``train`` split for ever: mostly two digits, mostly sums and differences.

    ``kind`` is ``open`` or ``verification``; products are more frequent in the latter.
    """
    while True:
        operation = rng.choices(arithmetic_items.OPERATIONS, OPERATION_WEIGHTS[kind])[0]
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


def second_turn(example: Example, rng: random.Random) -> Example:
    """Return a Skill-Mix example as its second turn; in half of the drafts a sentence or its second part is missing."""
    draft = example.target
    if rng.random() < 0.5:
        sentences = split_sentences(draft)
        if len(sentences) > 1:
            sentences.remove(rng.choice(sentences))
        else:
            sentences = [re.sub(r" , and .*", " .", draft)]
        draft = " ".join(sentences)
    return replace(example, prompt="\n".join((example.prompt, draft, skillmix.revision(example.fields["k"]))))


def training_examples(kind: str, seed: int) -> Iterator[Example]:
    """Yield examples of one kind for ever; the same seed gives the same stream."""
    rng = random.Random(f"pocket/{kind}/{seed}")
    if kind == "open":
        yield from (arithmetic.open_example(item) for item in arithmetic_items_of_training(kind, rng))
    elif kind == "verification":
        kinds = itertools.cycle(arithmetic.KINDS_OF_ANSWER)
        for item in arithmetic_items_of_training(kind, rng):
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
        for i in itertools.count():
            skills, topic = rng.choice(allowed)
            example = skillmix.example_of(rng.sample(skills, len(skills)), topic, rng)
            yield second_turn(example, rng) if i % 2 else example
    else:
        raise ValueError(f"no kind of text named {kind!r}; known: {', '.join(KINDS)}")
