from __future__ import annotations

import json
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.tasks import skillmix_text
from skillneurons.tasks.skillmix_text import grade, load
from skillneurons.types import SPLITS

TEXT = "The thread is a river of patience , and anyway the soup at lunch was lovely ."


def test_the_prompt_is_the_text_alone_and_the_answer_the_skills_it_shows() -> None:
    for one in load("heldout", limit=60, k=[1, 2, 3]):
        assert "Write" not in one.prompt and not any(skill in one.prompt.lower() for skill in one.fields["skills"])
        shown = {
            name.removeprefix("shown_").replace("_", " ")
            for name, v in one.labels.items()
            if v == 1 and name.startswith("shown_")
        }
        assert skillmix_text.named(one.target) == shown
        assert {n for n, v in one.labels.items() if n.startswith("asked_") and v} == {
            f"asked_{column}" for column in one.fields["columns"]
        }
        assert set(one.labels) <= set(sn.get_task("skillmix-text").label_columns)


def test_an_answer_is_right_when_it_names_exactly_what_is_shown() -> None:
    one = next(one for one in load("train", limit=50, k=2) if " and " in one.target)
    first, second = one.target.split(" and ")
    answers = (one.target, f"{second}, {first}", first, f"{one.target} and accident metaphor modus ponens", "", "none")
    assert [grade(one, answer)["correct"] for answer in answers] == [1, 1, 0, 0, 0, 0]


def test_texts_of_a_model(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [
        {"id": "Sewing/metaphor/red_herring", "prediction": TEXT},
        {"id": "Sewing/metaphor/red_herring", "prediction": "another generation", "generation": 1},
        {"id": "Knots/folk_physics", "prediction": "nothing of the kind"},
        {"id": "Knots/accident", "prediction": " "},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {one.id: one for split in ("discovery", "heldout") for one in load(split, texts=str(file))}
    found |= {one.id: one for one in skillmix_text._read_texts(str(file))}
    one = found["Sewing/metaphor/red_herring"]
    assert one.prompt == TEXT and one.target == "red herring and metaphor" and one.labels["full_marks"] == 1
    assert found["Knots/folk_physics"].target == "none" and len(found) == 2
    splits = {split: {one.group for one in load(split, texts=str(file), limit=500)} for split in SPLITS}
    assert not splits["discovery"] & splits["heldout"] and len(splits["train"]) > 50


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", ":1: not JSON (Expecting property name enclosed in double quotes, column 2)"),
        ('{"id": 3, "prediction": "x"}', ":1: an object with the texts 'id' and 'prediction' is needed"),
        (
            '{"id": "Tea/metaphor", "prediction": "x"}',
            ":1: id 'Tea/metaphor' is not of the form topic/skill/skill with embedded topics and skills, "
            "as in 'Sewing/metaphor/folk_physics'",
        ),
        ("", ": no texts; write them with: skillneurons predict skillmix -o {file}"),
    ],
)
def test_a_bad_file_of_texts(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(line)
    with pytest.raises(sn.DataError) as error:
        load("heldout", texts=str(file))
    assert str(error.value) == f"{file}{message}".replace("{file}", str(file))
