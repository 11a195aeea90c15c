from __future__ import annotations

import random

import pytest
import skillneurons as sn
from skillneurons.tasks import skillmix
from skillneurons.tasks import skillmix_grammar as grammar
from skillneurons.types import SPLITS


def example(*skills: str, topic: str = "Sewing") -> sn.Example:
    return skillmix.example_of(skills, topic, random.Random(0))


def test_the_public_tenth() -> None:
    assert len(grammar.SKILLS) == len(grammar.TOPICS) == 10
    assert {"red herring", "modus ponens", "folk physics"} < set(grammar.SKILLS)
    assert len(skillmix.combinations([2])) == 45 * 10


def test_instruction_names_skills_topic_and_limit() -> None:
    text = skillmix.instruction(["metaphor", "red herring", "accident"], "Knots")
    assert text == "Write at most 2 sentences about Knots showing metaphor, red herring and accident."


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_reference_texts_keep_the_limit_and_show_nothing_unasked(k: int) -> None:
    rng = random.Random(k)
    for skills, topic in rng.sample(skillmix.combinations([k]), 80):
        e = skillmix.example_of(skills, topic, rng)
        shown = {skill for skill in grammar.SKILLS if grammar.shows(e.target, skill)}
        assert shown <= set(skills)
        assert shown == {skill for group in grammar.plan(skills) for skill in group}
        assert len(grammar.split_sentences(e.target)) <= grammar.sentence_limit(k)
        assert grammar.makes_sense(e.target)


def test_most_but_not_all_asked_skills_fit() -> None:
    fractions = [
        sum(len(group) for group in grammar.plan(skills)) / len(skills) for skills, _ in skillmix.combinations([2, 3])
    ]
    assert 0.8 < sum(fractions) / len(fractions) < 0.95 and max(fractions) == 1.0


def test_two_skills_that_stand_alone_do_not_share_a_sentence() -> None:
    assert grammar.plan(["modus ponens", "accident"]) == [["modus ponens"]]
    assert grammar.plan(["metaphor", "self serving bias"]) == [["self serving bias", "metaphor"]]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        # k = 2, one sentence: both skills, topic, sense, length = full marks
        ("The thread is a river of patience , and anyway the soup at lunch was lovely .", (1, 1, 1.0)),
        # two sentences: one too many; all skills with two of the other three, but no fraction
        ("The thread is a river of patience . Anyway the soup at lunch was lovely .", (0, 1, 0.0)),
        # one of two skills
        ("The thread is a river of patience .", (0, 0, 0.5)),
        # the skills are there, but words that make no sense follow
        ("The thread is a river of patience , and anyway the soup at lunch was lovely thread thread .", (0, 1, 0.0)),
        ("", (0, 0, 0.0)),
    ],
)
def test_marks_by_hand(text: str, marks: tuple[int, int, float]) -> None:
    found = skillmix.grade(example("metaphor", "red herring"), text)
    assert (found["full_marks"], found["all_skills"], found["skill_fraction"]) == marks
    assert found["correct"] == found["full_marks"]
    assert found["shown_metaphor"] == float("river" in text)


def test_a_text_off_topic_loses_the_topic_point() -> None:
    found = skillmix.grade(
        example("metaphor", "red herring", topic="Knots"),
        "The thread is a river of patience , and anyway the soup at lunch was lovely .",
    )
    assert found["full_marks"] == 0 and found["all_skills"] == 1


def test_labels_say_what_was_asked() -> None:
    labels = example("metaphor", "accident").labels
    assert {name for name, value in labels.items() if value} == {"asked_metaphor", "asked_accident"}
    assert set(labels) <= set(skillmix.LABELS)


def test_splits_share_no_combination_whatever_the_order() -> None:
    groups = {split: {e.group for e in skillmix.load(split, k=[2, 3], limit=400)} for split in SPLITS}
    for split in SPLITS:
        for other in SPLITS:
            assert split == other or not groups[split] & groups[other]
    assert skillmix.group_of(["a", "b"], "T") == skillmix.group_of(["b", "a"], "T")


def test_same_seed_same_examples() -> None:
    assert skillmix.load("heldout", limit=30) == skillmix.load("heldout", limit=30)


def test_more_skills_than_there_are_is_refused() -> None:
    with pytest.raises(sn.DataError) as error:
        skillmix.load("train", k=11)
    assert str(error.value) == "skillmix.k: [11]; each k must be 1 to 10, the number of skills"
