"""Checks of a task's examples: they load, stay apart, stay the same."""

from __future__ import annotations

import inspect

from skillneurons.errors import DataError, SkillNeuronsError
from skillneurons.testing.checks import NotApplicable, check, told
from skillneurons.testing.task_case import MANY, MOST, TaskCase, hash_of
from skillneurons.types import SPLITS, Example

FEW = 7


@check("task", "loads")
def loads(case: TaskCase) -> str | None:
    """Every split loads with the default options, and its examples have the form of examples."""
    try:
        inspect.signature(case.registered.load).bind(SPLITS[0], limit=1, seed=0)
    except TypeError as error:
        return (
            f"{case.subject}: load cannot be called as load('train', limit=1, seed=0) ({error}); "
            "define it as load(split, *, limit=None, seed=0)"
        )
    return told(case, case.outcome) if isinstance(case.outcome, SkillNeuronsError) else None


@check("task", "options")
def options(case: TaskCase) -> str | None:
    """Load takes every option that is declared, and its own default is the declared one."""
    task = case.registered
    if not task.options:
        raise NotApplicable(f"{case.subject} declares no options")
    for name, value in task.options.items():
        try:
            inspect.signature(task.load).bind("train", limit=1, seed=0, **{name: value})
        except TypeError as error:
            return f"{case.subject}: declares the option {name!r}, but load does not take it ({error}); add the keyword"
    case.splits  # noqa: B018 - not applicable without examples
    for mine, theirs in zip(case.load("train", FEW), case.load("train", FEW, **task.options), strict=False):
        if hash_of(mine) != hash_of(theirs):
            return (
                f"{case.subject}: load gives another example with the declared defaults ({theirs.prompt!r}) than without "
                f"options ({mine.prompt!r}); declare the defaults that load has"
            )
    return None


@check("task", "subtasks")
def subtasks(case: TaskCase) -> str | None:
    """Every subtask fixes options that there are, and each of its splits has examples."""
    if not case.registered.subtasks:
        raise NotApplicable(f"{case.subject} has no subtasks")
    for part, fixed in case.registered.subtasks.items():
        unknown = sorted(set(fixed) - set(case.registered.options))
        if unknown:
            return f"{case.subject}: subtask {part!r} fixes {unknown[0]!r}, which is no option of the task; declare it"
        for split in SPLITS:
            try:
                found = case.load(split, 2, **fixed)
            except Exception as error:
                return f"{case.subject}: subtask {part!r} cannot load its {split} split: {told(case, error)}"
            if not found:
                return f"{case.subject}: subtask {part!r} has no example in {split}; every split needs examples"
    return None


@check("task", "splits")
def splits(case: TaskCase) -> str | None:
    """No split is empty, ids are unique, and no id, group or item (whatever its id) stands in two splits, of 5,000 examples each."""
    from skillneurons.examples import load_splits

    found = case.many
    try:
        load_splits(case.with_examples(found), dict.fromkeys(SPLITS, MANY), seed=0, options={})
    except DataError as error:
        return str(error)
    seen: dict[str, tuple[str, str]] = {}
    for split, examples in found.items():
        for example in examples:  # the same prompt with other labels is another item
            item = repr((example.prompt, example.choices, example.target, sorted(example.labels.items())))
            where, before = seen.setdefault(item, (split, example.id))
            if where != split:
                return (
                    f"{case.subject}: {before!r} in {where} and {example.id!r} in {split} are the same item "
                    f"({example.prompt!r}); give both one group, which belongs to one split"
                )
    return None


@check("task", "limit")
def limit(case: TaskCase) -> str | None:
    """With a limit a split has that many examples, or all that there are where these are fewer."""
    for split, examples in case.splits.items():
        for most in (1, FEW):
            found = len(case.load(split, most))
            if found != min(most, len(examples)):
                return (
                    f"{case.subject}: its {split} split has {found} examples with limit {most}, and {len(examples)} with "
                    f"limit {MOST}; limit=N gives N of them, or all where there are fewer"
                )
    return None


@check("task", "same seed")
def same_seed(case: TaskCase) -> str | None:
    """The same seed gives the same examples, in this process and in a fresh one, and loading sets no seed for others."""
    case.splits  # noqa: B018 - not applicable without examples
    states = _random_states()
    case.load("train", FEW)
    for name, before, now in zip(("random", "numpy.random"), states, _random_states(), strict=True):
        if before != now:
            return f"{case.subject}: load changes the state of {name}, which is everybody's; draw from random.Random(seed) alone"
    first, again = (_examples_of(case.fingerprint()) for _ in range(2))
    remedy = "draw from random.Random(seed) alone, and sort what comes from a set"
    where = first_difference(first, again)
    if where:
        return f"{case.subject}: {where} differs when it is loaded again; {remedy}"
    where = first_difference(first, _examples_of(case.context.fresh_values(f"task {case.name}")))
    return (
        f"{case.subject}: {where} differs in a fresh process with another PYTHONHASHSEED; {remedy}" if where else None
    )


def _random_states() -> tuple[str, str]:
    import random

    import numpy as np

    return repr(random.getstate()), repr([np.asarray(part).tolist() for part in np.random.get_state(legacy=True)])


@check("task", "stable ids")
def stable_ids(case: TaskCase) -> str | None:
    """An id means one item whatever the limit and the seed: the same content, or a variant of the same group."""
    known: dict[str, tuple[str, Example, str]] = {}
    for seed in (0, 1):
        for most in (MOST, FEW):
            for split in SPLITS:
                for example in case.splits[split] if (seed, most) == (0, MOST) else case.load(split, most, seed):
                    here = f"seed {seed}, limit {most}, {split}"
                    content, before, place = known.setdefault(example.id, (hash_of(example), example, here))
                    if content != hash_of(example) and not (example.group and example.group == before.group):
                        return (
                            f"{case.subject}: the id {example.id!r} is {before.prompt!r} ({place}) and {example.prompt!r} "
                            f"({here}); make the id from the content (skillneurons.stable_hash), or give both one group"
                        )
    return None


def first_difference(mine: dict[str, str], theirs: dict[str, str]) -> str:
    """Return the first name whose texts differ or that one side lacks, '' where all are the same."""
    if "error" in theirs:
        return f"loading ({theirs['error']})"
    return next((name for name in [*mine, *theirs] if mine.get(name) != theirs.get(name)), "")


def _examples_of(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if not name.startswith("grade ")}
