"""One Skill-Mix example: its instruction, its second turn, its reference text, its labels."""

from __future__ import annotations

import random
from collections.abc import Sequence

import skillneurons as sn
from skillneurons.tasks import skillmix_grammar as grammar
from skillneurons.tasks.skillmix_catalogue import Catalogue, catalogue
from skillneurons.tasks.skillmix_draws import group_of
from skillneurons.tasks.skillmix_scores import sentence_limit


def _sentences(k: int) -> str:
    limit = sentence_limit(k)
    return f"at most {limit} {'sentence' if limit == 1 else 'sentences'}"


def instruction(skills: Sequence[str], topic: str) -> str:
    """Return the brief text the model reads: k skills, one topic, the sentence limit."""
    listed = skills[0] if len(skills) == 1 else ", ".join(skills[:-1]) + " and " + skills[-1]
    return f"Write {_sentences(len(skills))} about {topic} showing {listed}."


def full_instruction(skills: Sequence[str], topic: str, known: Catalogue) -> str:
    """Return the text a model reads that does not know the skills: with their definitions and examples."""
    lines = [f"- {skill.name}: {skill.definition} An example: {skill.example}" for skill in map(known.skill, skills)]
    return "\n".join(
        (
            f"Write a short natural text in the context of {topic} that shows all of these skills:",
            *lines,
            f"Use {_sentences(len(skills))}. Do not name the skills. Answer with the text alone.",
        )
    )


def revision(k: int) -> str:
    """Return the brief second turn: the text again, within the limit."""
    return f"Improve it in {_sentences(k)}, showing every skill."


def full_revision(k: int) -> str:
    """Return the second turn of the full instruction."""
    return (
        f"Check that your text shows every skill, and improve it. It must keep to the topic and have {_sentences(k)}. "
        "Answer with the improved text alone."
    )


def reference(skills: Sequence[str], topic: str, rng: random.Random, known: Catalogue) -> str:
    """Return the text to tune on: of the grammar where it knows the skills, else the catalogue's examples."""
    if known.embedded:
        return grammar.write(skills, topic, [rng.randrange(1 << 16) for _ in range(16)])
    return " ".join(known.skill(name).example for name in skills)


def example_of(
    skills: Sequence[str],
    topic: str,
    rng: random.Random,
    known: Catalogue | None = None,
    *,
    full: bool = False,
    turns: int = 2,
    filter_names: bool = False,
) -> sn.Example:
    """Make the example of a combination with its skills in the order given."""
    known = known or catalogue()
    columns = {skill.name: skill.column for skill in known.skills}
    return sn.Example(
        id=f"{topic}/{'/'.join(skills)}".replace(" ", "_"),
        prompt=full_instruction(skills, topic, known) if full else instruction(skills, topic),
        target=reference(skills, topic, rng, known),
        labels={f"asked_{column}": float(name in skills) for name, column in columns.items()},
        group=group_of(skills, topic),
        fields={
            "skills": tuple(skills),
            "columns": tuple(columns[name] for name in skills),
            "definitions": tuple(known.skill(name).definition for name in skills),
            "topic": topic,
            "k": len(skills),
            "full": full,
            "turns": turns,
            "filter_names": filter_names,
        },
    )
