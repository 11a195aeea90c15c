"""Skill-Mix: write a short text on a topic that shows k asked skills (Yu et al. 2023, arXiv 2310.17567).

A combination is a set of k skills and a topic; its text may have max(1, k - 1) sentences. All orders of one
combination form a group. The model writes, is asked to improve its text within the limit (``turns: 1`` leaves
that out), and the second text is graded: k + 3 points, see ``skillmix_scores``. ``correct`` is full marks.

Skills and topics are the public tenth, or come from files in the authors' form (``skills``, ``topics``). The
prompt is tuned on reference texts: those of the embedded grammar, or, for a user's own skills, the catalogue's
examples one after the other. The grader ``rules`` is exact on text of that grammar and blind to any other, so
its results are *synthetic*; ``judge`` and ``api`` read any text. ``instruction: full`` gives definitions and
examples of the skills, ``brief`` only names them (the default for the embedded skills).

Labels: ``asked_<skill>`` (the skill was requested) and ``shown_<skill>`` (the grader credits it), the points
``on_topic``, ``makes_sense``, ``within_limit``, and the figures ``full_marks``, ``all_skills``, ``skill_fraction``.
``skillmix-text`` reads a text without its instruction (``skillmix_text``).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import skillneurons as sn
from skillneurons.tasks.skillmix_catalogue import Catalogue, catalogue
from skillneurons.tasks.skillmix_draws import draws, group_of
from skillneurons.tasks.skillmix_examples import example_of, full_revision, instruction, revision
from skillneurons.tasks.skillmix_scores import OTHERS, marks, score
from skillneurons.tasks.skillmix_text import text_task

SIZES: dict[Any, int] = {"train": 800, "validation": 200, "discovery": 800, "heldout": 500}
FIGURES = (*OTHERS, "full_marks", "all_skills", "skill_fraction")
INSTRUCTIONS = ("brief", "full")
__all__ = ["combinations", "example_of", "group_of", "instruction", "load", "revision"]
OPTIONS: dict[str, Any] = {
    "k": 2,
    "skills": None,
    "topics": None,
    "instruction": None,
    "turns": 2,
    "max_new_tokens": 72,
    "grader": "rules",
    "grader_options": None,
    "gradings": 1,
    "filter_names": False,
}


def combinations(k: Sequence[int], known: Catalogue | None = None) -> list[tuple[tuple[str, ...], str]]:
    """List every combination of k skills (for each k) and a topic, in a fixed order."""
    known = known or catalogue()
    names = [skill.name for skill in known.skills]
    return [(skills, topic) for size in k for skills in itertools.combinations(names, size) for topic in known.topics]


def follow_up(example: sn.Example, text: str) -> str | None:
    """Return the second turn, or None where one turn is asked."""
    if example.fields["turns"] == 1:
        return None
    return (full_revision if example.fields["full"] else revision)(example.fields["k"])


def rubric(example: sn.Example) -> dict[str, str]:
    """Return the items a grader gives points for; the number of sentences is counted, not graded."""
    fields = example.fields
    skills = zip(fields["columns"], fields["skills"], fields["definitions"], strict=True)
    return {
        **{column: f'Does the text show the skill "{name}" ({definition})?' for column, name, definition in skills},
        "topic": f'Does the text pertain to the topic "{fields["topic"]}"?',
        "sense": "Does the text make sense?",
    }


def label_columns(known: Catalogue) -> tuple[str, ...]:
    """Return the names of all labels."""
    columns = [skill.column for skill in known.skills]
    return (*(f"asked_{c}" for c in columns), *(f"shown_{c}" for c in columns), *FIGURES)


def fit(**options: Any) -> dict[str, Any]:
    """Return the fields of the task that depend on its options."""
    tokens = options["max_new_tokens"]
    if not isinstance(tokens, int) or tokens < 1:
        raise sn.DataError(f"skillmix.max_new_tokens: {tokens!r} must be a whole number of at least 1")
    known = catalogue(options["skills"], options["topics"])
    if options["grader"] == "rules" and not known.embedded:
        raise sn.DataError(
            "skillmix.grader: 'rules' knows the embedded skills and topics only; with skills or topics of your own "
            "use grader: judge or grader: api"
        )
    return {"label_columns": label_columns(known), "max_new_tokens": tokens}


def tuned_on(**options: Any) -> str:
    """Say what the prompt is tuned on."""
    if catalogue(options["skills"], options["topics"]).embedded:
        return "texts of the embedded grammar, other combinations"
    return "the catalogue's examples, other combinations"


def load(
    split: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    k: int | Sequence[int] = 2,
    skills: str | None = None,
    topics: str | None = None,
    instruction: str | None = None,
    turns: int = 2,
    filter_names: bool = False,
    **grading: Any,
) -> list[sn.Example]:
    """Return the examples of a split, as many of each k: every combination once before any in a second order."""
    known = catalogue(skills, topics)
    sizes = [k] if isinstance(k, int) else list(k)
    bad = [size for size in sizes if not isinstance(size, int) or not 1 <= size <= len(known.skills)]
    if bad or not sizes:
        raise sn.DataError(
            f"skillmix.k: {bad or 'empty'}; each k must be 1 to {len(known.skills)}, the number of skills"
        )
    if len(set(sizes)) < len(sizes):
        raise sn.DataError(f"skillmix.k: {sizes}; each k must be given once")
    if instruction not in (None, *INSTRUCTIONS):
        raise sn.DataError(f"skillmix.instruction: {instruction!r}; known: {', '.join(INSTRUCTIONS)}")
    if turns not in (1, 2):
        raise sn.DataError(f"skillmix.turns: {turns!r}; known: 1 (write), 2 (write, then improve)")
    full = instruction == "full" or (instruction is None and not known.embedded)
    rng = random.Random(f"skillmix/{split}/{seed}")
    drawn = itertools.islice(draws(split, sizes, known, rng), limit or SIZES[split])
    return [
        example_of(skills_, topic, rng, known, full=full, turns=turns, filter_names=filter_names)
        for skills_, topic in list(drawn)
    ]


def grade(example: sn.Example, text: str) -> Mapping[str, float]:
    """Grade a text by the rules: what the task does where no grader was set up."""
    return marks(example, text, sn.get_grader("rules").make()(example, text, rubric(example), 0))


@sn.hookimpl
def register_tasks(register: Any) -> None:
    public = catalogue()
    shared: dict[str, Any] = {"licence": "MIT", "chance": 0.0, "tuned_on": tuned_on}
    register(
        sn.Task(
            name="skillmix",
            version="2",
            load=load,
            kind="generation",
            form="two-turn generation, k + 3 points",
            source="public tenth of Skill-Mix (arXiv 2310.17567), definitions and texts written here",
            max_new_tokens=OPTIONS["max_new_tokens"],
            description="write a short text on a topic that shows k asked skills",
            options=OPTIONS,
            label_columns=label_columns(public),
            primary=("labels.shown_modus_ponens", "confidence.mean_log_prob", "heuristics.n_sentences"),
            grade=grade,
            sizes=SIZES,
            score=score,
            follow_up=follow_up,
            rubric=rubric,
            marks=marks,
            fit=fit,
            **shared,
        )
    )
    register(text_task(SIZES, label_columns(public), shared))
