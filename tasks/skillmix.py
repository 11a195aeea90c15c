"""Skill-Mix: write a short text on a topic that shows k asked skills (Yu et al. 2023, arXiv 2310.17567).

A combination is a set of k skills and a topic; its text may have max(1, k - 1) sentences. All orders
of one combination form a group. The answer is graded by the rules of the embedded grammar, exact on
text of that grammar and blind to any other, so every result of this grader is *synthetic*: it is made
for the embedded model. Points are k + 3: each skill, the topic, sense, the number of sentences.
``correct`` is full marks.

Labels: ``asked_<skill>`` (the skill was requested) and ``shown_<skill>`` (the grader credits it, asked
or not), ``full_marks``, ``all_skills`` (all k and at least two of the other three) and
``skill_fraction`` (share of k, 0 unless the other three hold).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import skillneurons as sn
from skillneurons.tasks import skillmix_grammar as grammar

SIZES = {"train": 800, "validation": 200, "discovery": 800, "heldout": 500}
COLUMNS = {skill: skill.replace(" ", "_") for skill in grammar.SKILLS}
LABELS = (
    *(f"asked_{column}" for column in COLUMNS.values()),
    *(f"shown_{column}" for column in COLUMNS.values()),
    "full_marks",
    "all_skills",
    "skill_fraction",
)


def instruction(skills: Sequence[str], topic: str) -> str:
    """Return the text the model reads: k skills, one topic, the sentence limit."""
    limit = grammar.sentence_limit(len(skills))
    listed = skills[0] if len(skills) == 1 else ", ".join(skills[:-1]) + " and " + skills[-1]
    return f"Write at most {limit} {'sentence' if limit == 1 else 'sentences'} about {topic} showing {listed}."


def combinations(k: Sequence[int]) -> list[tuple[tuple[str, ...], str]]:
    """List every combination of k skills (for each k) and a topic, in a fixed order."""
    return [
        (skills, topic)
        for size in k
        for skills in itertools.combinations(grammar.SKILLS, size)
        for topic in grammar.TOPICS
    ]


def group_of(skills: Sequence[str], topic: str) -> str:
    return f"{topic}:{'+'.join(sorted(skills))}"


def grade(example: sn.Example, text: str) -> dict[str, float]:
    """Give the points of a text (rules grader); every number is 0..1."""
    asked: Sequence[str] = example.fields["skills"]
    shown = {skill: grammar.shows(text, skill) for skill in grammar.SKILLS}
    others = (
        grammar.mentions(text, example.fields["topic"]),
        grammar.makes_sense(text),
        len(grammar.split_sentences(text)) <= grammar.sentence_limit(len(asked)),
    )
    credited = sum(shown[skill] for skill in asked)
    full = credited == len(asked) and all(others)
    marks = {
        "correct": float(full),
        "full_marks": float(full),
        "all_skills": float(credited == len(asked) and sum(others) >= 2),
        "skill_fraction": credited / len(asked) if all(others) else 0.0,
    }
    return marks | {f"shown_{column}": float(shown[skill]) for skill, column in COLUMNS.items()}


def example_of(skills: Sequence[str], topic: str, rng: random.Random) -> sn.Example:
    """Make the example of a combination with its skills in the order given."""
    text = grammar.write(skills, topic, [rng.randrange(1 << 16) for _ in range(16)])
    return sn.Example(
        id=f"{topic}/{'/'.join(skills)}".replace(" ", "_"),
        prompt=instruction(skills, topic),
        target=text,
        labels={f"asked_{column}": float(skill in skills) for skill, column in COLUMNS.items()},
        group=group_of(skills, topic),
        fields={"skills": tuple(skills), "topic": topic, "k": len(skills)},
    )


def _orders(split: str, k: Sequence[int], rng: random.Random) -> Iterator[tuple[tuple[str, ...], str]]:
    chosen = [
        (list(itertools.permutations(skills)), topic)
        for skills, topic in combinations(k)
        if sn.split_by_group(group_of(skills, topic), "skillmix") == split
    ]
    rng.shuffle(chosen)
    for orders, _ in chosen:
        rng.shuffle(orders)
    for turn in range(max((len(orders) for orders, _ in chosen), default=0)):
        for orders, topic in chosen:
            if turn < len(orders):
                yield orders[turn], topic


def load(split: str, *, limit: int | None = None, seed: int = 0, k: int | Sequence[int] = 2) -> list[sn.Example]:
    """Return the examples of a split: every combination once before any comes in a second order."""
    sizes = [k] if isinstance(k, int) else list(k)
    bad = [size for size in sizes if not isinstance(size, int) or not 1 <= size <= len(grammar.SKILLS)]
    if bad or not sizes:
        raise sn.DataError(
            f"skillmix.k: {bad or 'empty'}; each k must be 1 to {len(grammar.SKILLS)}, the number of skills"
        )
    rng = random.Random(f"skillmix/{split}/{seed}")
    taken = itertools.islice(_orders(split, sizes, rng), limit or SIZES[split])
    return [example_of(skills, topic, rng) for skills, topic in taken]


@sn.hookimpl
def register_tasks(register: Any) -> None:
    register(
        sn.Task(
            name="skillmix",
            version="1",
            load=load,
            kind="generation",
            source="public tenth of Skill-Mix (arXiv 2310.17567), texts from an embedded grammar, rules grader (synthetic)",
            licence="MIT",
            chance=0.0,
            max_new_tokens=72,
            description="write a short text on a topic that shows k asked skills",
            options={"k": 2},
            label_columns=LABELS,
            grade=grade,
        )
    )
