"""Checks of a task's answers: what a guess gets, that an example can be passed as well as failed, and what grades say."""

from __future__ import annotations

import math
from collections import Counter

from skillneurons.errors import SkillNeuronsError
from skillneurons.testing.checks import NotApplicable, check, said
from skillneurons.testing.task_case import STRANGE, TaskCase, grades
from skillneurons.testing.task_checks import first_difference
from skillneurons.types import Example

SURE = 3.0  # standard errors
SHARE = 15  # examples per answer: of fewer, one may be missing by chance


@check("task", "chance")
def chance(case: TaskCase) -> str | None:
    """The declared chance level is that of a guess, and no constant answer beats it."""
    task, examples = case.task, case.measured if case.splits else []
    if task.chance is None:
        raise NotApplicable(f"{case.subject} declares no chance level")
    if isinstance(task.chance, bool) or not isinstance(task.chance, int | float) or not 0 <= task.chance <= 1:
        return f"{case.subject}: chance {task.chance!r} must be a number from 0 to 1: the accuracy of a guess"
    if task.kind != "choice" or not examples:
        return None
    guess = sum(1 / len(example.choices or ("",)) for example in examples) / len(examples)
    if abs(guess - task.chance) > 0.01:
        return f"{case.subject}: chance is declared {task.chance:g}, but a guess among the choices is right {guess:.3f} of the time"
    for answer, accuracy, error in _constant_answers(examples):
        if accuracy > guess + max(SURE * error, 0.05):
            return (
                f"{case.subject}: {answer} is right for {accuracy:.3f} of {len(examples)} examples where a guess is "
                f"{guess:.3f}; put the target in another place and spread it over the answers"
            )
    return None


@check("task", "balance")
def balance(case: TaskCase) -> str | None:
    """Where all examples have the same choices, none is the answer of less than a fifth of its even share, in train and discovery."""
    examples = [example for split in ("train", "discovery") for example in case.splits[split]]
    fixed = {example.choices for example in examples}
    if case.task.kind != "choice" or len(fixed) != 1:
        raise NotApplicable(f"{case.subject} has no set of choices that is the same for all examples")
    choices = next(iter(fixed)) or ()
    for split in ("train", "discovery"):
        targets = Counter(example.target for example in case.splits[split])
        share = targets.total() / len(choices)
        for choice in choices:
            if share >= SHARE and targets[choice] < share / 5:
                return (
                    f"{case.subject}: {choice!r} is the answer of {targets[choice]} of the first {targets.total()} {split} "
                    f"examples, where an even share is {share:.0f}; shuffle by the seed before [:limit], and balance the answers"
                )
    return None


def _constant_answers(examples: list[Example]) -> list[tuple[str, float, float]]:
    """Return the accuracy of each answer that reads nothing (as the harness counts it), with its standard error."""
    places = Counter((example.choices or ()).index(example.target) for example in examples)
    answers = Counter(example.target for example in examples)
    same_choices = len({example.choices for example in examples}) == 1
    found = []
    if not same_choices:  # with the same choices for all, accuracy is balanced over targets: a constant is at chance
        found += [(f"always the choice at place {place}", count) for place, count in sorted(places.items())]
        found += [(f"always {answer!r}", count) for answer, count in sorted(answers.items())]
    elif len(answers) < 2:
        found += [(f"always {answer!r}", count) for answer, count in answers.items()]
    n = len(examples)
    return [(what, count / n, math.sqrt(max(count / n * (1 - count / n), 1 / n) / n)) for what, count in found]


@check("task", "can be passed")
def can_be_passed(case: TaskCase) -> str | None:
    """The target of an example is graded as right; of a generation task, that of some example (it is a reference text)."""
    best = math.nan
    for example in case.graded:
        correct = grades(case.task, example, example.target)["correct"]
        best = correct if math.isnan(best) else max(best, correct)
        if correct < 1 and case.task.kind != "generation":
            return (
                f"{case.subject}, example {example.id!r}: its own target {example.target!r} is graded {correct:g}; "
                "grade must give correct = 1 to the expected answer"
            )
    if not best >= 1:
        return (
            f"{case.subject}: no target is graded as right (the best of {len(case.graded)} has correct = {best:g}), so "
            "nobody can pass it; grade must give correct = 1 to an expected answer"
        )
    return None


@check("task", "can be failed")
def can_be_failed(case: TaskCase) -> str | None:
    """Another answer is graded as wrong."""
    for example in case.graded:
        for text in wrong_answers(case, example):
            correct = grades(case.task, example, text)["correct"]
            if case.task.kind == "choice" and correct == 1:
                return (
                    f"{case.subject}, example {example.id!r}: the choice {text!r} counts as right, but the target is "
                    f"{example.target!r}; choices must differ in more than white space"
                )
            if correct < 1:
                break
        else:
            return (
                f"{case.subject}, example {example.id!r}: every answer is right, even {STRANGE!r} and an empty text; "
                "grade must tell right from wrong"
            )
    return None


def wrong_answers(case: TaskCase, example: Example) -> list[str]:
    """Return answers that are not the expected one."""
    if case.task.kind == "choice":
        return [choice for choice in example.choices or () if choice != example.target]
    return [STRANGE, ""]


@check("task", "grades")
def graded(case: TaskCase) -> str | None:
    """Grades are declared, correct is 0 to 1 or NaN, and the same text gets the same grades, an empty one too."""
    task = case.task
    if task.grade is None:
        raise NotApplicable(f"{case.subject} has no grade: an answer is right when it equals the target")
    for example in case.graded:
        for text in (example.target, STRANGE, ""):
            where = f"{case.subject}, example {example.id!r}, text {text!r}"
            try:
                found, again = (grades(task, example, text) for _ in range(2))
            except SkillNeuronsError as error:
                return f"{where}: {said(error)}; grade any text, an empty one too"
            fault = _fault_of(task.label_columns, found)
            if fault:
                return f"{where}: {fault}"
            if repr(found) != repr(again):
                return f"{where}: grade gives {found} and then {again}; the same text must get the same numbers"
    first = _grades_of(case.fingerprint())
    where = first_difference(first, _grades_of(case.context.fresh_values(f"task {case.name}")))
    return f"{case.subject}: {where} differs in a fresh process; grade must depend on the text alone" if where else None


def _fault_of(columns: tuple[str, ...], found: dict[str, float]) -> str | None:
    for name, value in found.items():
        if name not in columns and name != "correct":
            return (
                f"grade gives {name!r}, which is not in Task.label_columns ({', '.join(columns) or 'none'}); declare it"
            )
        if math.isinf(value) or (name == "correct" and not (math.isnan(value) or 0 <= value <= 1)):
            rule = "from 0 to 1" if name == "correct" else "finite"
            return f"grade gives {name} = {value:g}; it must be {rule}, or NaN where it is not scored"
    return None


@check("task", "labels")
def labels(case: TaskCase) -> str | None:
    """Every declared label has a number for some example or answer."""
    columns = case.task.label_columns
    if not columns:
        raise NotApplicable(f"{case.subject} declares no labels")
    scored = {name for example in case.measured for name, value in example.labels.items() if not math.isnan(value)}
    if case.task.grade is not None:
        for example in case.graded:
            for text in (example.target, STRANGE):
                scored |= {name for name, value in grades(case.task, example, text).items() if not math.isnan(value)}
    empty = [name for name in columns if name not in scored]
    if empty:
        return (
            f"{case.subject}: the label {empty[0]!r} is declared, but NaN or absent for each of {len(case.measured)} "
            "examples; give it, or leave it out of Task.label_columns"
        )
    return None


def _grades_of(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name.startswith("grade ") or name == "error"}
