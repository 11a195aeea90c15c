"""A task under examination: its examples, and what it says of answers to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from skillneurons.errors import DataError, SkillNeuronsError
from skillneurons.plugin_calls import PluginCall, PluginCallError
from skillneurons.testing.checks import NotApplicable, said
from skillneurons.types import SPLITS, Example, Split, Task

if TYPE_CHECKING:
    from skillneurons.testing.subjects import Context

MOST = 120  # examples of a split that are looked at
MANY = 5000  # of those, and more, that are compared between splits
GRADED = 25  # answers of a split that are graded
STRANGE = "zxqv ..."  # a text that answers nothing
REMEDY = "with its default options a task works from what it generates, or from files it brings"
Splits = Mapping[Split, tuple[Example, ...]]


class TaskCase:
    """A task with its default options, loaded once."""

    def __init__(self, context: Context, name: str) -> None:
        self.context, self.name = context, name
        self.registered: Task = context.registry.task(name)

    @property
    def subject(self) -> str:
        """Return what messages call it."""
        return f"task {self.name!r}"

    @cached_property
    def task(self) -> Task:
        """Return the task with its options applied, ready to grade."""
        from skillneurons.task_setup import apply_options

        return apply_options(self.context.registry, self.registered, {}).task

    def load(self, which: Split, limit: int, seed_: int = 0, /, **options: Any) -> list[Any]:
        """Return what ``load`` gives, unchecked."""
        return list(self.registered.load(which, limit=limit, seed=seed_, **options))

    @cached_property
    def outcome(self) -> Splits | SkillNeuronsError:
        """Return the examples of every split, or why they cannot be had or have not the form of examples."""
        try:
            return {split: self._checked(split, MOST) for split in SPLITS}
        except SkillNeuronsError as error:
            return error

    def _checked(self, split: Split, limit: int) -> tuple[Example, ...]:
        from skillneurons.examples import load_split

        given: Any = []
        try:
            given = self.task.load(split, limit=limit, seed=0)
            given = list(given) if isinstance(given, Iterator) else given
        except SkillNeuronsError as error:  # what the plugin says of its data
            raise DataError(f"{said(error)}; {REMEDY}") from error
        except Exception as error:
            raise PluginCallError(PluginCall("task", self.name, "load", f"{split} split"), error) from error
        return load_split(replace(self.task, load=lambda *_, **__: given), split, limit=limit, seed=0, options={})

    @cached_property
    def many(self) -> Splits:
        """Return up to MANY examples of every split; NotApplicable where they cannot be had."""
        few = self.splits
        return {split: self._checked(split, MANY) if len(few[split]) >= MOST else few[split] for split in SPLITS}

    @property
    def splits(self) -> Splits:
        """Return the examples of every split; raise NotApplicable where they cannot be had."""
        if isinstance(self.outcome, SkillNeuronsError):
            raise NotApplicable(f"{self.subject} gives no examples (see loads)")
        return self.outcome

    @property
    def measured(self) -> list[Example]:
        """Return the examples that metrics are measured on: of discovery and heldout."""
        return [*self.splits["discovery"], *self.splits["heldout"]]

    @property
    def graded(self) -> list[Example]:
        """Return the examples whose answers are graded."""
        return [*self.splits["discovery"][:GRADED], *self.splits["heldout"][:GRADED]]

    def with_examples(self, splits: Splits) -> Task:
        """Return the task with examples that were loaded before."""
        return replace(self.task, load=lambda split, **options: splits[split])

    def fingerprint(self) -> dict[str, str]:
        """Return a hash of each example, by split, place and id, and of each grade."""
        found = {}
        for split in SPLITS:
            for place, example in enumerate(self.load(split, MOST)):
                found[f"{split} example {place} ({example.id!r})"] = hash_of(example)
        for example in self.graded if self.task.grade is not None else []:
            found[f"grade {example.id!r}"] = repr(grades(self.task, example, example.target))
        return found


def hash_of(example: Example) -> str:
    """Return a hash over all that an example holds."""
    from skillneurons.examples import data_hash

    empty: dict[Split, Sequence[Example]] = dict.fromkeys(SPLITS, ())
    return data_hash({**empty, "train": (example,)})


def grades(task: Task, example: Example, text: str) -> dict[str, float]:
    """Return what is said of a text, ``correct`` always among it; NaN as None, so that the same compares as the same."""
    from skillneurons.task_setup import grade_text, is_correct

    labels = {} if task.kind == "choice" else grade_text(task, example, text)
    return {**labels, "correct": is_correct(example, text, labels)}


def digest(parts: Sequence[str]) -> str:
    """Return a short hash of texts."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
