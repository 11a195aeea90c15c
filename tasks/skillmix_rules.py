"""The grader ``rules``: exact on text of the embedded grammar, blind to any other, so its results are synthetic.

It grades all ten embedded skills, asked or not, the topic (a word of it occurs) and sense (every sentence is
made of the grammar's forms).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import skillneurons as sn
from skillneurons.tasks import skillmix_grammar as grammar
from skillneurons.tasks.skillmix_catalogue import catalogue


def grade(example: sn.Example, text: str, rubric: Mapping[str, str], grading: int) -> dict[str, float]:
    """Give the points of a text; every grading gives the same."""
    topic = example.fields.get("topic")
    unknown = sorted(set(rubric) - {skill.column for skill in catalogue().skills} - {"topic", "sense"})
    if unknown or topic not in grammar.TOPICS:
        what = f"skill {unknown[0]!r}" if unknown else f"topic {topic!r}"
        raise sn.UserError(
            f"grader 'rules' does not know the {what}; it grades the embedded skills and topics only, "
            "use tasks.skillmix.grader: judge or api"
        )
    shown = {skill.column: float(grammar.shows(text, skill.name)) for skill in catalogue().skills}
    return {**shown, "topic": float(grammar.mentions(text, topic)), "sense": float(grammar.makes_sense(text))}


def make() -> Callable[[sn.Example, str, Mapping[str, str], int], Mapping[str, float]]:
    """Return the function that grades; it has no options."""
    return grade


@sn.hookimpl
def register_graders(register: Any) -> None:
    register(sn.Grader("rules", make, synthetic=True, description="exact on text of the embedded grammar"))
