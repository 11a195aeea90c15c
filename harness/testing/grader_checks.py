"""Checks of a grader: it is made at no cost, and gives points that are 1, 0 or NaN."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from skillneurons.testing.checks import NotApplicable, check
from skillneurons.testing.grader_case import GraderCase
from skillneurons.testing.task_checks import first_difference


@check("grader", "make")
def make(case: GraderCase) -> str | None:
    """Make takes every option that is declared and returns a function."""
    for name, value in case.grader.options.items():
        try:
            inspect.signature(case.grader.make).bind_partial(**{name: value})
        except TypeError as error:
            return f"{case.subject}: declares the option {name!r}, but make does not take it ({error}); add the keyword"
    try:
        inspect.signature(case.grader.make).bind(**case.grader.options)
    except TypeError as error:
        return (
            f"{case.subject}: make cannot be called with the declared options ({error}); declare each with its default"
        )
    made: Any = case.made
    if not callable(made):
        return f"{case.subject}: make gives {made!r}; it must give the function (example, text, rubric, grading)"
    return None


@check("grader", "light make")
def light_make(case: GraderCase) -> str | None:
    """Making it loads no heavy library: a dry run makes it too."""
    plugin = case.context.registry.graders[case.name].plugin.name
    heavy = case.context.fresh["imports"].get(plugin, {"made": {}})["made"].get(case.name, [])
    if heavy:
        return f"{case.subject}: make loads {', '.join(heavy)}; load what is heavy when the first text is graded"
    return None


@check("grader", "points")
def points(case: GraderCase) -> str | None:
    """Every item gets 1, 0 or NaN, whatever the text, an empty one too."""
    for where, found in case.points().items():
        if not isinstance(found, Mapping):
            return f"{case.subject}, {where}: gives {found!r}; it must give a mapping from items to points"
        for item, value in found.items():
            if not isinstance(value, int | float) or not (value in (0, 1) or math.isnan(value)):
                return f"{case.subject}, {where}: {item!r} gets {value!r}; a point is 1, 0 or NaN"
    return None


@check("grader", "deterministic")
def deterministic(case: GraderCase) -> str | None:
    """A synthetic grader gives the same text the same points, in this process and in a fresh one."""
    if not case.grader.synthetic:
        raise NotApplicable(f"{case.subject} is not synthetic: its gradings may differ")
    first = case.fingerprint()
    for what, other in (
        ("when it is graded again", case.fingerprint()),
        ("in a fresh process", case.context.fresh_values(f"grader {case.name}")),
    ):
        where = first_difference(first, other)
        if where:
            return f"{case.subject}: the points of {where} differ {what}; a synthetic grader goes by the text alone"
    return None
