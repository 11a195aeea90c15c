"""The figures of arithmetic: of open answers, of choices, of verdicts; overall (part "") and per subtask.

- open: ``exact_match``, the share of answers that equal the target;
- choice: ``multiple_choice_grade``, the mean over examples of the chosen option's target score;
- verification: ``balanced_accuracy``, the mean of two shares, right among the statements to accept and right among
  those to refuse (NaN where one of the two is absent), so that a model that always says the same has 0.5; and
  ``accuracy`` on each kind of answer (``right``, and three kinds of wrong ones).

An output that was not scored (``correct`` is NaN) counts nowhere. Subtasks are marked as details.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import skillneurons as sn
from skillneurons.tasks.arithmetic_examples import VERDICTS, WRONG
from skillneurons.tasks.arithmetic_items import SUBTASKS

Pair = tuple[sn.Example, sn.Output]


def score_open(pairs: Sequence[Pair]) -> list[sn.Score]:
    """Return ``exact_match`` overall and of each subtask that has an example."""
    return _overall_and_by_subtask("exact_match", pairs, _accuracy)


def score_choice(pairs: Sequence[Pair]) -> list[sn.Score]:
    """Return ``multiple_choice_grade`` overall and of each subtask that has an example."""
    return _overall_and_by_subtask("multiple_choice_grade", pairs, _grade)


def score_verification(pairs: Sequence[Pair]) -> list[sn.Score]:
    """Return ``balanced_accuracy`` overall, ``accuracy`` of each kind of answer, then the subtasks."""
    overall, *subtasks = _overall_and_by_subtask("balanced_accuracy", pairs, _balanced)
    by_kind = []
    for kind in ("right", *WRONG):
        members = [pair for pair in pairs if pair[0].fields["kind"] == kind]
        by_kind.append(sn.Score("accuracy", _accuracy(_scored(members)), len(_scored(members)), kind))
    return [overall, *by_kind, *subtasks]


def read_verdict(example: sn.Example, prediction: str) -> str:
    """Return the verdict that a text of a predictions file stands for, in whatever case; DataError for any other."""
    verdict = prediction.strip().lower()
    if verdict not in VERDICTS:
        raise sn.DataError(f"{prediction!r} is no answer of {example.id!r}; known: {', '.join(VERDICTS)}")
    return verdict


def _overall_and_by_subtask(
    name: str, pairs: Sequence[Pair], figure: Callable[[Sequence[Pair]], float]
) -> list[sn.Score]:
    scores = [sn.Score(name, figure(_scored(pairs)), len(_scored(pairs)))]
    for subtask in SUBTASKS:
        members = [pair for pair in pairs if pair[0].fields["subtask"] == subtask]
        if members:
            scores.append(sn.Score(name, figure(_scored(members)), len(_scored(members)), subtask, detail=True))
    return scores


def _scored(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if not math.isnan(pair[1].correct)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _accuracy(pairs: Sequence[Pair]) -> float:
    return _mean([output.correct for _, output in pairs])


def _balanced(pairs: Sequence[Pair]) -> float:
    shares = [_accuracy([pair for pair in pairs if pair[0].target == verdict]) for verdict in VERDICTS]
    return sum(shares) / len(shares)


def _grade(pairs: Sequence[Pair]) -> float:
    points = []
    for example, output in pairs:
        chosen = output.text if output.predicted is None else output.predicted
        if chosen not in example.fields["target_scores"]:
            raise sn.DataError(
                f"{chosen!r} is no answer of {example.id!r}; known: {', '.join(example.fields['target_scores'])}"
            )
        points.append(example.fields["target_scores"][chosen])
    return _mean(points)
