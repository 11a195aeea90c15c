"""The figures of arithmetic on small tables worked out by hand."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.evaluation import score_predictions
from skillneurons.tasks import arithmetic
from skillneurons.tasks.arithmetic_items import Item
from skillneurons.tasks.arithmetic_scores import read_verdict, score_choice, score_open, score_verification

NAN = math.nan
TWO, ONE, TIMES = Item(2, "addition", 12, 47), Item(1, "addition", 3, 4), Item(2, "multiplication", 11, 11)


def said(example: sn.Example, text: str) -> tuple[sn.Example, sn.Output]:
    predicted = text if example.choices else None
    return example, sn.Output(text, float(text == example.target), NAN, predicted=predicted)


def unscored(example: sn.Example) -> tuple[sn.Example, sn.Output]:
    return example, sn.Output("", NAN, NAN)


def statement(item: Item, kind: str) -> sn.Example:
    return arithmetic.verification_example(item, kind, random.Random(0))


def table(scores: list[sn.Score]) -> dict[tuple[str, str], tuple[float, int]]:
    return {(score.name, score.part): (score.value, score.n) for score in scores}


def test_exact_match() -> None:
    asked = [arithmetic.open_example(item) for item in (TWO, ONE, TIMES)]
    scores = score_open([said(asked[0], "59"), said(asked[0], "58"), said(asked[1], "7"), unscored(asked[2])])
    assert table(scores) == {
        ("exact_match", ""): (pytest.approx(2 / 3), 3),
        ("exact_match", "1_digit_addition"): (1.0, 1),
        ("exact_match", "2_digit_addition"): (0.5, 2),
        ("exact_match", "2_digit_multiplication"): (pytest.approx(NAN, nan_ok=True), 0),
    }
    assert [score.detail for score in scores] == [False, True, True, True]


def test_the_grade_of_a_choice_is_its_score() -> None:
    two = arithmetic.choice_example(TWO, {"banana": 0.0, "59": 1.0, "58": 0.25})
    one = arithmetic.choice_example(ONE, {"7": 1.0, "8": 0.0})
    scores = score_choice([said(two, "58"), said(two, "59"), said(one, "8"), unscored(one)])
    assert table(scores) == {
        ("multiple_choice_grade", ""): (pytest.approx((0.25 + 1 + 0) / 3), 3),
        ("multiple_choice_grade", "1_digit_addition"): (0.0, 1),
        ("multiple_choice_grade", "2_digit_addition"): (0.625, 2),
    }
    with pytest.raises(sn.DataError) as error:
        score_choice([said(two, "60")])
    assert str(error.value) == "'60' is no answer of '2_digit_addition/12/47'; known: banana, 59, 58"


def test_balanced_accuracy_and_the_kinds() -> None:
    pairs = [
        said(statement(TWO, "right"), "yes"),
        said(statement(TWO, "right"), "no"),
        said(statement(TWO, "right"), "yes"),
        said(statement(TWO, "right"), "yes"),  # 3 of 4 accepted
        said(statement(TWO, "last_digit"), "yes"),
        said(statement(TWO, "magnitude"), "no"),  # 1 of 2 refused
        said(statement(ONE, "right"), "no"),
        said(statement(ONE, "neither"), "no"),
        unscored(statement(ONE, "neither")),
        said(statement(TIMES, "neither"), "no"),
    ]
    scores = score_verification(pairs)
    assert table(scores) == {
        ("balanced_accuracy", ""): (pytest.approx((3 / 5 + 3 / 4) / 2), 9),
        ("accuracy", "right"): (0.6, 5),
        ("accuracy", "last_digit"): (0.0, 1),
        ("accuracy", "magnitude"): (1.0, 1),
        ("accuracy", "neither"): (1.0, 2),
        ("balanced_accuracy", "1_digit_addition"): (0.5, 2),
        ("balanced_accuracy", "2_digit_addition"): (0.625, 6),
        ("balanced_accuracy", "2_digit_multiplication"): (pytest.approx(NAN, nan_ok=True), 1),  # none to accept
    }
    assert [score.part for score in scores if not score.detail] == ["", "right", "last_digit", "magnitude", "neither"]


@pytest.mark.parametrize("always", ["no", "yes"])
@pytest.mark.parametrize("limit", [7, 60, 61])
def test_a_model_that_always_says_the_same_has_a_half(always: str, limit: int) -> None:
    examples = arithmetic.load("heldout", form="verification", limit=limit)
    scores = table(score_verification([said(example, always) for example in examples]))
    assert scores["balanced_accuracy", ""] == (0.5, limit)
    assert scores["accuracy", "right"][0] == float(always == "yes")
    assert scores["accuracy", "neither"][0] == float(always == "no")


def test_nothing_to_score() -> None:
    for score in (score_open, score_choice, score_verification):
        scores = score([])
        assert all(math.isnan(one.value) and one.n == 0 for one in scores) and scores[0].part == ""


def test_a_verdict_in_whatever_case() -> None:
    example = statement(TWO, "right")
    assert [read_verdict(example, text) for text in ("yes", "No", " YES ")] == ["yes", "no", "yes"]
    with pytest.raises(sn.DataError) as error:
        read_verdict(example, "maybe")
    assert str(error.value) == "'maybe' is no answer of '2_digit_addition/12/47/right'; known: yes, no"


def test_predictions_files(tmp_path: Path) -> None:
    file = tmp_path / "answers.csv"
    examples = [statement(TWO, "right"), statement(TWO, "neither"), statement(ONE, "right")]
    file.write_text("id,prediction\n" + "".join(f"{example.id},No\n" for example in examples), "utf-8")
    scores, _ = score_predictions(sn.get_task("arithmetic"), file, examples)
    assert scores[0] == sn.Score("balanced_accuracy", 0.5, 3)
    file.write_text(f"id,prediction\n{examples[0].id},nope\n", "utf-8")
    with pytest.raises(sn.DataError) as error:
        score_predictions(sn.get_task("arithmetic"), file, examples, partial=True)
    assert str(error.value) == f"{file}:2: 'nope' is no answer of '2_digit_addition/12/47/right'; known: yes, no"

    choice = arithmetic.choice_example(TWO, {"59": 1.0, "58": 0.0})
    file.write_text(f"id,prediction\n{choice.id},59\n", "utf-8")
    assert score_predictions(sn.get_task("arithmetic-choice"), file, [choice])[0][0].value == 1.0
    asked = arithmetic.open_example(TWO)
    file.write_text(f"id,prediction\n{asked.id}, 59\n", "utf-8")
    assert score_predictions(sn.get_task("arithmetic-open"), file, [asked])[0][0].value == 1.0
