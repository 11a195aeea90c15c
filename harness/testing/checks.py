"""What a check is, and what it found.

A check is a function of one subject (a plugin, a task, a metric, a statistic, a grader). It returns None where all is
well, else the message: the value, the rule, the remedy. Where it has nothing to look at it raises NotApplicable with
the reason. Its docstring's first line is the rule in words; its name is what a finding says.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["plugin", "task", "metric", "attribution", "grader"]
KINDS: tuple[Kind, ...] = ("plugin", "task", "metric", "attribution", "grader")
MODULES = tuple(
    f"skillneurons.testing.{name}_checks"
    for name in ("plugin", "task", "answer", "text", "metric", "attribution", "grader")
)
Status = Literal["ok", "failed", "skipped"]
Rule = Callable[[Any], str | None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found of one subject (``metric shouting``); ``message`` is empty where all is well."""

    subject: str
    check: str
    status: Status
    message: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A rule of the contract: what it is about, its name, the rule in a line, and the function that looks."""

    kind: Kind
    name: str
    doc: str
    rule: Rule

    def of(self, subject: str, case: Any) -> Finding:
        """Look at a subject; whatever the rule raises is a finding too."""
        try:
            message = self.rule(case)
        except NotApplicable as reason:
            return Finding(subject, self.name, "skipped", str(reason))
        except (Exception, SystemExit) as error:  # a plugin may fail in any way; the finding says which
            return Finding(subject, self.name, "failed", f"{subject}: {told(case, error)}; {self.doc}")
        return Finding(subject, self.name, "failed" if message else "ok", message or "")


class NotApplicable(Exception):
    """A check has nothing to look at; the text says why."""


_CHECKS: list[Check] = []


def check(kind: Kind, name: str) -> Callable[[Rule], Rule]:
    """Make a function a check of the contract, under the name that findings give."""

    def add(rule: Rule) -> Rule:
        doc = (rule.__doc__ or "").strip().splitlines()[0].rstrip(".")
        _CHECKS.append(Check(kind, name, doc[:1].lower() + doc[1:], rule))
        return rule

    return add


def known_checks(kind: Kind | None = None) -> list[Check]:
    """Return every check, or those of one kind of subject, in the order in which they are made."""
    for module in MODULES:  # each adds its checks
        importlib.import_module(module)
    order = {module: place for place, module in enumerate(MODULES)}
    here = [one for one in _CHECKS if kind in (None, one.kind)]
    return sorted(here, key=lambda one: order[one.rule.__module__])  # whichever was imported first


def said(error: BaseException) -> str:
    """Return an error in one line: its text where the harness raised it, else its type and text."""
    from skillneurons.errors import SkillNeuronsError
    from skillneurons.plugin_calls import error_line

    return " ".join(str(error).split()) if isinstance(error, SkillNeuronsError) else error_line(error)


def told(case: Any, error: BaseException) -> str:
    """Return an error in one line, with plugin, file and line where a plugin's code raised it."""
    context = getattr(case, "context", None)
    return said(error) if context is None else " ".join(context.registry.told(error).split())
