from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from skillneurons.tasks import skillmix
from skillneurons.tasks import skillmix_grammar as grammar
from skillneurons.tasks.skillmix_catalogue import catalogue
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
    assert set(labels) <= set(sn.get_task("skillmix").label_columns)


def test_the_full_instruction_gives_definition_and_example_and_the_second_turn_follows() -> None:
    (one,) = skillmix.load("heldout", limit=1, k=1, instruction="full")
    (skill,) = one.fields["skills"]
    known = catalogue().skill(skill)
    assert one.prompt == (
        f"Write a short natural text in the context of {one.fields['topic']} that shows all of these skills:\n"
        f"- {skill}: {known.definition} An example: {known.example}\n"
        "Use at most 1 sentence. Do not name the skills. Answer with the text alone."
    )
    assert skillmix.follow_up(one, "x") == (
        "Check that your text shows every skill, and improve it. It must keep to the topic and have at most 1 sentence. "
        "Answer with the improved text alone."
    )


def test_brief_turns() -> None:
    (two,) = skillmix.load("heldout", limit=1, k=3)
    (one,) = skillmix.load("heldout", limit=1, k=3, turns=1)
    assert skillmix.follow_up(two, "x") == "Improve it in at most 2 sentences, showing every skill."
    assert skillmix.follow_up(one, "x") is None and one.prompt == two.prompt


def test_the_rubric_asks_for_each_skill_the_topic_and_sense() -> None:
    items = skillmix.rubric(example("metaphor", "folk physics"))
    assert list(items) == ["metaphor", "folk_physics", "topic", "sense"]
    assert items["topic"] == 'Does the text pertain to the topic "Sewing"?'
    assert items["folk_physics"] == (
        'Does the text show the skill "folk physics" (The everyday understanding of how physical things behave.)?'
    )


SKILLS = "category,skill,definition,example,comments,status,added by\nx,irony (verbal),saying the opposite,What luck.,,,\nx,pun,wordplay,A sole sold.,,,\n"


def own_files(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "skills.csv").write_text(SKILLS)
    (tmp_path / "topics.txt").write_text("Tea\nRain\nIce\nFog\nSun\nSea\n")
    return {"skills": str(tmp_path / "skills.csv"), "topics": str(tmp_path / "topics.txt")}


def test_skills_of_ones_own_bring_their_labels_their_texts_and_the_full_instruction(tmp_path: Path) -> None:
    files = own_files(tmp_path)
    made = [one for split in SPLITS for one in skillmix.load(split, k=[1, 2], limit=50, **files)]
    assert len({one.group for one in made}) == 6 * 3
    one = next(one for one in made if one.fields["skills"] == ("pun", "irony (verbal)"))
    assert one.target == "A sole sold. What luck." and one.prompt.startswith(
        "Write a short natural text in the context"
    )
    assert one.labels == {"asked_irony": 1.0, "asked_pun": 1.0} and one.fields["columns"] == ("pun", "irony")
    options = {**skillmix.OPTIONS, **files, "grader": "judge", "max_new_tokens": 9}
    assert skillmix.fit(**options) == {
        "label_columns": (
            *("asked_irony", "asked_pun", "shown_irony", "shown_pun"),
            *("on_topic", "makes_sense", "within_limit", "full_marks", "all_skills", "skill_fraction"),
        ),
        "max_new_tokens": 9,
    }
    assert skillmix.tuned_on(**options) == "the catalogue's examples, other combinations"


def test_rules_refuse_skills_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(sn.DataError) as error:
        skillmix.fit(**{**skillmix.OPTIONS, **own_files(tmp_path)})
    assert str(error.value) == (
        "skillmix.grader: 'rules' knows the embedded skills and topics only; with skills or topics of your own "
        "use grader: judge or grader: api"
    )
    one = sn.Example("a", "p", "t", fields={"topic": "Tea"})
    with pytest.raises(sn.UserError, match="grader 'rules' does not know the topic 'Tea'; it grades the embedded"):
        sn.get_grader("rules").make()(one, "text", {"metaphor": "?"}, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 11}, "skillmix.k: [11]; each k must be 1 to 10, the number of skills"),
        ({"k": []}, "skillmix.k: empty; each k must be 1 to 10, the number of skills"),
        ({"k": [2, 2]}, "skillmix.k: [2, 2]; each k must be given once"),
        ({"turns": 3}, "skillmix.turns: 3; known: 1 (write), 2 (write, then improve)"),
        ({"instruction": "long"}, "skillmix.instruction: 'long'; known: brief, full"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(sn.DataError) as error:
        skillmix.load("train", **options)
    assert str(error.value) == message


def test_splits_share_no_combination_whatever_the_order() -> None:
    groups = {split: {e.group for e in skillmix.load(split, k=[2, 3], limit=400)} for split in SPLITS}
    for split in SPLITS:
        for other in SPLITS:
            assert split == other or not groups[split] & groups[other]
    assert skillmix.group_of(["a", "b"], "T") == skillmix.group_of(["b", "a"], "T")


def test_same_seed_same_examples() -> None:
    assert skillmix.load("heldout", limit=30) == skillmix.load("heldout", limit=30)
