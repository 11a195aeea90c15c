"""The grader ``judge``: any local causal LM, held to points.

Each item of the rubric is one question that the model answers with Yes or No: the log-probabilities of the two
answers are compared and nothing is written, so every text gets its points. With a ``temperature`` the point is
drawn from the two probabilities, by a number that depends on example, text, item and grading alone: gradings
differ, and repeat. NaN where the model gives no finite number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import skillneurons as sn
from skillneurons.plugins.grading_prompt import one_question

OPTIONS: dict[str, Any] = {
    "model": None,
    "revision": None,
    "dtype": "float32",
    "device": "auto",
    "temperature": 0.0,
    "batch_size": 16,
}
DTYPES = ("float32", "bfloat16", "float16")


@lru_cache(maxsize=1)
def _model(name: str, revision: str | None, dtype: str, device: str) -> sn.LanguageModel:
    return sn.load_model(name, revision=revision, dtype=dtype, device=device)


def make(
    *, model: str | None, revision: str | None, dtype: str, device: str, temperature: float, batch_size: int
) -> Callable[[sn.Example, str, Mapping[str, str], int], dict[str, float]]:
    """Return the function that grades; the model is loaded when the first text is graded."""
    if not isinstance(model, str) or not model:
        raise sn.UserError(
            "grader 'judge' needs the option model: 'pocket', a hub id, or a folder saved by save_pretrained "
            "(tasks.skillmix.grader_options: {model: ...})"
        )
    if dtype not in DTYPES:
        raise sn.UserError(f"grader 'judge': dtype {dtype!r}; known: {', '.join(DTYPES)}")
    if not isinstance(temperature, int | float) or not 0 <= temperature < math.inf:
        raise sn.UserError(f"grader 'judge': temperature {temperature!r} must be a number of at least 0")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise sn.UserError(f"grader 'judge': batch_size {batch_size!r} must be a whole number of at least 1")

    def grade(example: sn.Example, text: str, rubric: Mapping[str, str], grading: int) -> dict[str, float]:
        lm = _model(model, revision, dtype, device)
        answers = ("Yes", "No") if lm.uses_chat_template else (" Yes", " No")
        prompts = [one_question(example, text, question) for question in rubric.values()]
        scored = sn.choice_log_probs(lm, prompts, answers, batch_size=batch_size)
        points = {}
        for item, (yes, no) in zip(rubric, scored, strict=True):
            number = sn.stable_hash(f"{example.id}\0{text}\0{item}\0{grading}", "judge")
            points[item] = _point(yes - no, temperature, number)
        return points

    return grade


def _point(log_odds: float, temperature: float, number: float) -> float:
    """Return the likelier answer's point, or a drawn one: 1 where ``number`` in [0, 1) is below p(yes)."""
    if math.isnan(log_odds):
        return math.nan
    if temperature == 0:
        return float(log_odds > 0)
    return float(number < 1 / (1 + math.exp(min(700.0, -log_odds / temperature))))


@sn.hookimpl
def register_graders(register: Any) -> None:
    register(sn.Grader("judge", make, options=OPTIONS, description="a local causal LM, Yes or No per item"))
