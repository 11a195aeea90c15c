"""The grader ``judge``: any local causal LM, held to points.

Each item of the rubric is one question that the model answers with Yes or No: the log-probabilities of the two
answers are compared and nothing is written, so every text gets its points. With a ``temperature`` the point is
drawn from the two probabilities, by a number that depends on example, text, item and grading alone: gradings
differ, and repeat. NaN where the model gives no finite number, and only there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import skillneurons as sn
from skillneurons.plugins.grading_prompt import QUESTION, one_question

OPTIONS: dict[str, Any] = {
    "model": None,
    "revision": None,
    "dtype": "float32",
    "device": "auto",
    "temperature": 0.0,
    "batch_size": 16,
    "question_template": QUESTION,
}
DTYPES = ("float32", "bfloat16", "float16")


@lru_cache(maxsize=1)
def _model(name: str, revision: str | None, dtype: str, device: str) -> sn.LanguageModel:
    return sn.load_model(name, revision=revision, dtype=dtype, device=device)


def make(
    *,
    model: str | None,
    revision: str | None,
    dtype: str,
    device: str,
    temperature: float,
    batch_size: int,
    question_template: str,
) -> Callable[[sn.Example, str, Mapping[str, str], int], dict[str, float]]:
    """Return the function that grades; the model is loaded when the first text is graded.

    ``question_template`` is the prompt, with ``{text}`` and ``{question}``, and ``{instruction}`` where wanted.
    """
    if not isinstance(model, str) or not model:
        raise sn.UserError(
            "grader 'judge' needs the option model: 'pocket', a hub id, or a folder saved by save_pretrained "
            "(tasks.skillmix.grader_options: {model: ...})"
        )
    if dtype not in DTYPES:
        raise sn.UserError(f"grader 'judge': dtype {dtype!r}; known: {', '.join(DTYPES)}")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
        raise sn.UserError(f"grader 'judge': temperature {temperature!r} must be a number of at least 0")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise sn.UserError(f"grader 'judge': batch_size {batch_size!r} must be a whole number of at least 1")
    for place in ("{text}", "{question}"):
        if not isinstance(question_template, str) or place not in question_template:
            raise sn.UserError(f"grader 'judge': question_template must have {place} in it, where that is to stand")

    def grade(example: sn.Example, text: str, rubric: Mapping[str, str], grading: int) -> dict[str, float]:
        lm = _model(model, revision, dtype, device)
        answers = ("Yes", "No") if lm.uses_chat_template else (" Yes", " No")
        prompts = [one_question(example, text, question, question_template) for question in rubric.values()]
        _check_room(lm, example, prompts, answers)
        scored = sn.choice_log_probs(lm, prompts, answers, batch_size=batch_size)
        points = {}
        for item, (yes, no) in zip(rubric, scored, strict=True):
            number = sn.stable_hash(f"{example.id}\0{text}\0{item}\0{grading}", "judge")
            points[item] = _point(yes - no, temperature, number)
        return points

    return grade


def _check_room(lm: sn.LanguageModel, example: sn.Example, prompts: Sequence[str], answers: Sequence[str]) -> None:
    answer = max(len(lm.encode_answer(answer)) for answer in answers)
    longest = max((len(lm.encode(lm.text(prompt))) for prompt in prompts), default=0) + answer
    if longest > lm.context_length:
        raise sn.CellError(
            f"grader 'judge', example {example.id!r}: a question about its text takes {longest} tokens, but the context "
            f"of {lm.name!r} is {lm.context_length}; take a model with a longer one, or let shorter texts be written"
        )


def identity(*, model: str, revision: str | None, **options: Any) -> dict[str, str]:
    """Return the resolved revision of the judge's model; its weights are not loaded."""
    return {"model_revision": sn.resolve_model(model, revision)[1]}


def _point(log_odds: float, temperature: float, number: float) -> float:
    """Return the likelier answer's point, or a drawn one: 1 where ``number`` in [0, 1) is below p(yes)."""
    if not math.isfinite(log_odds):
        return math.nan
    if temperature == 0:
        return float(log_odds > 0)
    return float(number < 1 / (1 + math.exp(min(700.0, -log_odds / temperature))))


@sn.hookimpl
def register_graders(register: Any) -> None:
    register(
        sn.Grader(
            "judge", make, options=OPTIONS, description="a local causal LM, Yes or No per item", identity=identity
        )
    )
