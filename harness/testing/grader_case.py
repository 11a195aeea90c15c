"""A grader under examination, and the texts it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from skillneurons.errors import SkillNeuronsError
from skillneurons.testing.checks import NotApplicable, said
from skillneurons.testing.task_case import STRANGE
from skillneurons.types import Example, Grader

if TYPE_CHECKING:
    from skillneurons.testing.subjects import Context

MOST = 4  # examples whose texts are graded
Points = Callable[[Example, str, Mapping[str, str], int], Any]


class GraderCase:
    """A grader, made with its default options."""

    def __init__(self, context: Context, name: str) -> None:
        self.context, self.name = context, name
        self.grader: Grader = context.registry.grader(name)

    @property
    def subject(self) -> str:
        """Return what messages call it."""
        return f"grader {self.name!r}"

    @cached_property
    def made(self) -> Points:
        """Return the function that grades; NotApplicable where options are wanted first, or make does not take them."""
        try:
            return self.grader.make(**self.grader.options)
        except SkillNeuronsError as error:
            raise NotApplicable(f"{self.subject} wants options first: {said(error)}") from error
        except Exception as error:
            raise NotApplicable(f"{self.subject} cannot be made (see make)") from error

    @cached_property
    def texts(self) -> list[tuple[Example, str, Mapping[str, str]]]:
        """Return examples with a text and its rubric, of a task that has one: the plugin's own first."""
        for name in self.context.tasks_to_try():
            case = self.context.task_case(name)
            rubric = case.registered.rubric
            if rubric is None or isinstance(case.outcome, SkillNeuronsError):
                continue
            return [(e, text, rubric(e)) for e in case.measured[:MOST] for text in (e.target, STRANGE, "")]
        raise NotApplicable(f"{self.subject}: no task that is there has a rubric")

    def points(self, grading: int = 0) -> dict[str, Any]:
        """Return the points of every text, by what it is."""
        made = self.made
        return {f"example {e.id!r}, text {text!r}": made(e, text, rubric, grading) for e, text, rubric in self.texts}

    def fingerprint(self) -> dict[str, str]:
        """Return the points of every text, as text; nothing of a grader whose points may change."""
        if not self.grader.synthetic:
            return {}
        return {name: repr(dict(points)) for name, points in self.points().items()}
