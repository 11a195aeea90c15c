"""The built-in metrics on outputs whose numbers are worked out by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import skillneurons as sn
from skillneurons.plugins import confidence, heuristics, labels
from skillneurons.tasks import arithmetic, skillmix
from skillneurons.tasks.arithmetic_items import Item


def test_confidence_of_a_choice_is_normalised_over_the_choices() -> None:
    example = sn.Example("a", "p", "no", choices=("yes", "no"))
    output = sn.Output(
        text="yes",
        correct=0.0,
        target_log_prob=math.log(0.1),
        choice_log_probs=(math.log(0.3), math.log(0.1)),
        predicted="yes",
        predicted_log_prob=math.log(0.3),
        margin=0.5,
        entropy=0.56,
    )
    values = confidence.confidence(example, output)
    assert values == pytest.approx(
        {"p_target": 0.25, "p_predicted": 0.75, "margin": 0.5, "mean_log_prob": math.log(0.1), "neg_entropy": -0.56}
    )


def test_confidence_of_an_open_answer_is_over_its_tokens() -> None:
    output = sn.Output("59", 1.0, math.log(0.5), n_target_tokens=2, predicted_log_prob=math.log(0.5))
    values = confidence.confidence(sn.Example("a", "p", "59"), output)
    assert values["p_target"] == pytest.approx(0.5) and values["mean_log_prob"] == pytest.approx(math.log(0.5) / 2)


def test_labels_come_from_the_example_and_from_the_grader() -> None:
    example = sn.Example("a", "p", "t", labels={"gold": 1.0})
    output = sn.Output("t", 1.0, -1.0, labels={"shown": 0.0, "correct": 1.0})
    assert labels.labels(example, output) == {"gold": 1.0, "shown": 0.0, "correct": 1.0}


def test_arithmetic_heuristics_of_a_wrong_statement() -> None:
    """12 plus 47 equals 69: right last digit, right length and parity, wrong first digit."""
    example = arithmetic.verification_example(Item(2, "addition", 12, 47), "right", random.Random(0))
    example = replace(example, fields={**example.fields, "shown": 69})
    values = heuristics.heuristics(example, sn.Output("no", 1.0, -0.1))
    assert values["last_digit_ok"] == 1 and values["first_digit_ok"] == 0
    assert values["length_ok"] == 1 and values["parity_ok"] == 1
    assert values["correct"] == 0 and values["carry"] == 0
    ones = [name for name, value in values.items() if "_last_digit_" in name and value == 1]
    assert ones == ["a_last_digit_2", "b_last_digit_7"] and values["a_last_digit_3"] == 0
    assert values["magnitude"] == pytest.approx(math.log10(60))


def test_an_open_answer_that_is_no_number_is_not_scored() -> None:
    example = arithmetic.open_example(Item(2, "addition", 12, 47))
    assert "last_digit_ok" not in heuristics.heuristics(example, sn.Output("well", 0.0, -0.1))
    assert heuristics.heuristics(example, sn.Output("49", 0.0, -0.1))["last_digit_ok"] == 1


def test_hans_heuristics() -> None:
    example = sn.Example(
        "a",
        "p",
        "no",
        choices=("yes", "no"),
        fields={
            "premise": "The judge was seen by the actor .",
            "hypothesis": "The judge saw the actor .",
            "gold_label": "non-entailment",
        },
    )
    output = sn.Output("yes", 0.0, -1.0, (math.log(0.6), math.log(0.2)), predicted="yes")
    values = heuristics.heuristics(example, output)
    assert values["p_entailment"] == pytest.approx(0.75)
    assert (
        values["predicted"] == values["heuristic_follows"] == 1 and values["error"] == 1 and values["passive_by"] == 1
    )
    assert values["premise_length"] == 7 and values["comma"] == 0
    assert values["overlap"] == pytest.approx(3 / 7)  # the judge actor / the judge was seen by actor saw


def test_skillmix_heuristics() -> None:
    example = skillmix.example_of(["metaphor", "accident"], "Knots", random.Random(0))
    output = sn.Output("One . Two ?", 0.0, -1.0, labels={"shown_metaphor": 1.0, "shown_accident": 0.0})
    values = heuristics.heuristics(example, output)
    assert values["n_sentences"] == 2 and values["n_shown"] == 1


def test_a_task_of_ones_own_gets_the_lengths() -> None:
    task = sn.Task("mine", "1", lambda split: [])
    assert tuple(heuristics.columns(task)) == ("prompt_length", "answer_length")
    values = heuristics.heuristics(sn.Example("a", "four", "t"), sn.Output("yes", 1.0, 0.0))
    assert values == {"prompt_length": 4.0, "answer_length": 3.0}
