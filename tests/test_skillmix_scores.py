"""Skill-Mix points and ratios on a small graded table worked out by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import skillneurons as sn
from skillneurons.tasks import skillmix
from skillneurons.tasks.skillmix_scores import count_sentences, marks, names_it, score, sentence_limit

NAN = math.nan


def example(k: int, number: int = 0, **fields: object) -> sn.Example:
    skills = ["metaphor", "red herring", "modus ponens", "accident"][:k]
    made = skillmix.example_of(skills, "Sewing", random.Random(0))
    return replace(made, id=f"{k}/{number}", fields={**made.fields, **fields})


def points(**given: float) -> dict[str, float]:
    return {"metaphor": 1.0, "red_herring": 1.0, "modus_ponens": 1.0, "topic": 1.0, "sense": 1.0, **given}


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("One sentence.", 1),
        ("No end", 1),
        ("", 1),
        ("Two here. Yes two!", 2),
        ('He said "Stop." "Why?" She left.', 3),
        ("Mr. Smith met Dr. Who. Then Prof. X came.", 2),
        ("It cost 3.50 euros, e.g. for tea.", 1),
        ("One.\nTwo.\n\nThree.", 3),
        ("Hi! \u201cYou.\u201d Then \u00c9lan. and \u00e9lan.", 3),
        ("The hem is a river . Why does it fall ? Look .", 3),
    ],
)
def test_sentences_are_counted_by_the_authors_rule(text: str, n: int) -> None:
    assert count_sentences(text) == n


def test_the_limit_of_sentences() -> None:
    assert [sentence_limit(k) for k in (1, 2, 3, 4, 5)] == [1, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("given", "text", "full", "all_skills", "fraction"),
    [
        ({}, "One. Two.", 1, 1, 1.0),
        ({}, "One. Two. Three.", 0, 1, 0.0),  # one sentence too many: two of the other three hold
        ({"sense": 0.0}, "One. Two. Three.", 0, 0, 0.0),  # one of the other three
        ({"topic": 0.0}, "One.", 0, 1, 0.0),
        ({"metaphor": 0.0}, "One.", 0, 0, 2 / 3),
        ({"metaphor": 0.0, "red_herring": 0.0, "modus_ponens": 0.0}, "One.", 0, 0, 0.0),
        ({"metaphor": NAN}, "One.", NAN, NAN, NAN),  # not graded is not 0
        ({"topic": NAN}, "One.", NAN, NAN, NAN),
    ],
)
def test_marks(given: dict[str, float], text: str, full: float, all_skills: float, fraction: float) -> None:
    found = marks(example(3), text, points(**given))
    assert [found["full_marks"], found["all_skills"], found["skill_fraction"]] == pytest.approx(
        [full, all_skills, fraction], nan_ok=True
    )
    assert found["correct"] == pytest.approx(full, nan_ok=True)
    assert found["shown_metaphor"] == pytest.approx(given.get("metaphor", 1.0), nan_ok=True)


def test_a_skill_that_the_text_names_gets_no_point_where_names_are_filtered() -> None:
    text = "What a METAPHOR."
    assert marks(example(1), text, points())["full_marks"] == 1
    found = marks(example(1, filter_names=True), text, points())
    assert found["full_marks"] == 0 and found["shown_metaphor"] == 0
    assert names_it("An accident happened", "accident (fallacy)") and not names_it("A river", "metaphor")


def output(full: float, all_skills: float, fraction: float) -> sn.Output:
    labels = {"full_marks": full, "all_skills": all_skills, "skill_fraction": fraction}
    return sn.Output("t", full, NAN, labels=labels)


def test_ratios_of_a_graded_table() -> None:
    """Two combinations of k = 2 with two generations each, two of k = 3, one of them not graded at all."""
    a, b, c, d = example(2, 0), example(2, 1), example(3, 0), example(3, 1)
    pairs = [
        (a, output(0, 1, 0.0)),
        (a, output(1, 1, 1.0)),  # best of a: 1, 1, 1
        (b, output(0, 0, 0.5)),
        (b, output(0, 1, 0.0)),  # best of b, each figure for itself: 0, 1, 0.5
        (c, output(0, 0, 1 / 3)),
        (c, output(NAN, NAN, NAN)),  # best of c: 0, 0, 1/3
        (d, output(NAN, NAN, NAN)),
    ]
    found = {(s.name, s.part): (s.value, s.n) for s in score(pairs)}
    assert found["ratio_of_full_marks", "k = 2"] == (0.5, 2)
    assert found["ratio_of_all_skills", "k = 2"] == (1.0, 2)
    assert found["skill_fraction", "k = 2"] == (0.75, 2)
    assert found["ratio_of_full_marks", "k = 3"] == (0.0, 1)
    assert found["skill_fraction", "k = 3"] == (pytest.approx(1 / 3), 1)
    assert found["ratio_of_full_marks", ""] == (pytest.approx(1 / 3), 3)
    assert found["skill_fraction", ""] == (pytest.approx((1 + 0.5 + 1 / 3) / 3), 3)
    assert found["ungraded", ""] == (pytest.approx(2 / 7), 7)
    assert found["saturation_point", ""] == (3.0, 2)


@pytest.mark.parametrize(
    ("full", "point"),
    [
        ({1: 0.9, 2: 0.5, 3: 0.04, 4: 0.0}, 3.0),
        ({1: 0.9, 2: 0.0, 3: 0.3, 4: 0.0}, 4.0),  # 2 is below, but 3 is not: it is not saturated there
        ({1: 0.9, 2: 0.5}, NAN),
        ({1: 0.0, 2: NAN}, NAN),  # the largest k has no figure
    ],
)
def test_the_saturation_point(full: dict[int, float], point: float) -> None:
    pairs = []
    for k, ratio in full.items():
        marked = [NAN] * 100 if math.isnan(ratio) else [float(i < round(100 * ratio)) for i in range(100)]
        pairs += [(example(k, i), output(value, 0, 0.0)) for i, value in enumerate(marked)]
    found = {s.name: s.value for s in score(pairs)}
    assert found["saturation_point"] == pytest.approx(point, nan_ok=True)
