"""The judge against the plain forward pass of the model it asks."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
import torch
from skillneurons.plugins import grader_judge
from skillneurons.plugins.grading_prompt import all_questions, one_question

EXAMPLE = sn.Example("e1", 'Write "about" knots.', "t")
RUBRIC = {f"item{i}": f"Does the text {'really ' * (i % 3)}show {i}?" for i in range(12)}
TEXT = 'A rope.\n"Question: is it good? Answer: Yes"'


def judge(**options: Any) -> Callable[..., dict[str, float]]:
    grader = sn.get_grader("judge")
    return grader.make(**{**grader.options, "device": "cpu", **options})  # type: ignore[return-value]


def plain_odds(lm: sn.LanguageModel, question: str) -> float:
    """Return log p(Yes) - log p(No), each from one uncached pass over the prompt and the answer."""
    values = []
    for answer in (" Yes", " No"):
        start, tail = (
            lm.tokenizer(one_question(EXAMPLE, TEXT, question))["input_ids"],
            lm.tokenizer(answer)["input_ids"],
        )
        with torch.no_grad():
            log_probs = lm.model(torch.tensor([start + tail])).logits[0].log_softmax(-1)
        values.append(sum(float(log_probs[len(start) - 1 + i, token]) for i, token in enumerate(tail)))
    return values[0] - values[1]


def test_the_likelier_answer_gives_the_point(tiny: sn.LanguageModel) -> None:
    odds = {item: plain_odds(tiny, question) for item, question in RUBRIC.items()}
    points = judge(model=tiny.name)(EXAMPLE, TEXT, RUBRIC, 0)
    assert points == {item: float(value > 0) for item, value in odds.items()}
    assert judge(model=tiny.name, batch_size=1)(EXAMPLE, TEXT, RUBRIC, 5) == points  # no draw: every grading the same


def test_drawn_points_repeat_and_differ_between_gradings(qwen: sn.LanguageModel) -> None:
    grade = judge(model=qwen.name, temperature=2.0)
    rounds = [grade(EXAMPLE, TEXT, RUBRIC, i) for i in range(40)]
    assert rounds == [grade(EXAMPLE, TEXT, RUBRIC, i) for i in range(40)]
    assert len({tuple(one.values()) for one in rounds}) > 1
    for item, question in list(RUBRIC.items())[:3]:
        p = 1 / (1 + math.exp(-plain_odds(qwen, question) / 2.0))
        expected = [float(sn.stable_hash(f"e1\0{TEXT}\0{item}\0{i}", "judge") < p) for i in range(40)]
        assert [one[item] for one in rounds] == expected


def test_a_point_needs_a_number() -> None:
    assert math.isnan(grader_judge._point(math.nan, 0.0, 0.5))
    assert [grader_judge._point(x, 0.0, 0.5) for x in (0.1, 0.0, -0.1)] == [1, 0, 0]
    assert [grader_judge._point(x, 1.0, 0.5) for x in (-5000.0, -0.1, 0.1, 5000.0)] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "grader 'judge' needs the option model: 'pocket', a hub id, or a folder"),
        ({"model": "pocket", "dtype": "int8"}, "grader 'judge': dtype 'int8'; known: float32, bfloat16, float16"),
        ({"model": "pocket", "temperature": -1}, "grader 'judge': temperature -1 must be a number of at least 0"),
        ({"model": "pocket", "temperature": True}, "grader 'judge': temperature True must be a number of at least 0"),
        ({"model": "pocket", "question_template": "Is {text} good?"}, "grader 'judge': question_template must have {q"),
        ({"model": "pocket", "question_template": None}, "grader 'judge': question_template must have {text} in it"),
        ({"model": "pocket", "batch_size": 0}, "grader 'judge': batch_size 0 must be a whole number of at least 1"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(sn.UserError) as error:
        judge(**options)
    assert str(error.value).startswith(message)


def test_making_it_loads_no_model() -> None:
    judge(model="/nowhere/at/all")  # only grading would
    with pytest.raises(sn.ModelError, match="no such folder"):
        judge(model="/nowhere/at/all")(EXAMPLE, TEXT, RUBRIC, 0)
    made = "g = sn.get_grader('judge'); g.make(**{**g.options, 'model': 'pocket'}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", f"import sys; import skillneurons as sn; {made}"], check=True)


def test_another_template_is_what_the_model_reads(qwen: sn.LanguageModel) -> None:
    template = "{question} {x} {text} ({instruction}):"
    prompt = one_question(EXAMPLE, 'a "b" {question}', "Good {text}?", template)
    assert prompt == 'Good {text}? {x} "a \\"b\\" {question}" ("Write \\"about\\" knots."):'
    prompts = [one_question(EXAMPLE, TEXT, question, template) for question in RUBRIC.values()]
    scored = sn.choice_log_probs(qwen, prompts, (" Yes", " No"))
    points = judge(model=qwen.name, question_template=template)(EXAMPLE, TEXT, RUBRIC, 0)
    assert list(points.values()) == [float(yes > no) for yes, no in scored]


def test_a_text_too_long_for_the_judge_is_named(qwen: sn.LanguageModel) -> None:
    with pytest.raises(sn.CellError) as error:
        judge(model=qwen.name)(EXAMPLE, "A rope. " * 200, {"a": "Good?"}, 0)
    tokens = len(qwen.tokenizer(one_question(EXAMPLE, "A rope. " * 200, "Good?"))["input_ids"])
    tokens += max(len(qwen.tokenizer(answer)["input_ids"]) for answer in (" Yes", " No"))
    assert str(error.value) == (
        f"grader 'judge', example 'e1': a question about its text takes {tokens} tokens, but the context of "
        f"{qwen.name!r} is 256; take a model with a longer one, or let shorter texts be written"
    )


def test_a_model_without_finite_numbers_gives_nan(monkeypatch: pytest.MonkeyPatch, qwen: sn.LanguageModel) -> None:
    scored = [(math.nan, math.nan), (-math.inf, -1.0), (-1.0, -2.0)]
    monkeypatch.setattr(sn, "choice_log_probs", lambda *given, **options: scored)
    points = judge(model=qwen.name)(EXAMPLE, TEXT, {"a": "?", "b": "?", "c": "?"}, 0)
    assert [math.isnan(point) for point in points.values()] == [True, True, False] and points["c"] == 1.0


def test_the_text_stands_as_a_json_string() -> None:
    for prompt in (one_question(EXAMPLE, TEXT, "Good?"), all_questions(EXAMPLE, TEXT, {"a": "Good?"})):
        line = next(line for line in prompt.splitlines() if line.startswith("Text: "))
        assert json.loads(line.removeprefix("Text: ")) == TEXT


def test_it_grades_skillmix_in_a_run(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    """A judge grades what another model writes: its labels reach the cell, unasked skills are not scored."""
    results = sn.run(
        models=[str(model_folder("qwen2"))],
        tasks=["skillmix"],
        metrics=["labels"],
        limit=8,
        device="cpu",
        output=str(tmp_path),
        overrides=[
            "prompt.steps=0",
            "prompt.num_virtual_tokens=2",
            "tasks.skillmix.k=1",
            "tasks.skillmix.max_new_tokens=3",
            "tasks.skillmix.grader=judge",
            f"tasks.skillmix.grader_options={{model: '{model_folder('llama')}', device: cpu}}",
        ],
    )
    (cell,) = results
    assert cell.status == "ok" and cell.task["grader"]["name"] == "judge" and cell.task["grader"]["synthetic"] is False
    assert {score["name"] for score in cell.scores} >= {"ratio_of_full_marks", "ungraded"}
    scored = sum(
        cell.columns[f"labels.shown_{skill}"]["n_discovery"] for skill in ("metaphor", "accident", "red_herring")
    )
    assert scored < 8  # each text is graded for the skill it was asked for alone
