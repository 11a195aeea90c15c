"""The tasks of lm-evaluation-harness: ``lm-eval/NAME`` is any of its multiple-choice or exact-match tasks.

The package (extra ``lm-eval``) is imported when such a task is set up, not before. Options:

- ``path``: a folder or a YAML file with tasks of one's own, looked in instead of the installed tasks;
- ``num_fewshot``: few-shot documents in the prompt (default: as many as the task's file says, 0 where it says nothing);
- ``revision``: of the data set on the hub;
- ``filter``: the filter pipeline whose figure says whether a text is right (default: the task's first);
- ``max_new_tokens``: how long a text may be (default: the task's own);
- ``leave_out``: go on without documents that cannot be examples (default: tell the first as an error);
- ``allow_code``: let a file of ``path`` run the Python beside it (``!function``).

The version of such a task is its own with a hash of everything in its file that shapes prompts and grading.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import skillneurons as sn
from skillneurons.plugins import lm_eval_build as building
from skillneurons.plugins.lm_eval_examples import Documents, documents, mean_chance
from skillneurons.plugins.lm_eval_files import task_file
from skillneurons.plugins.lm_eval_grading import choice_scores, filter_named, judged, text_scores
from skillneurons.plugins.lm_eval_keys import whole

OPTIONS: Mapping[str, Any] = {
    "path": None,
    "num_fewshot": None,
    "revision": None,
    "filter": None,
    "max_new_tokens": None,
    "leave_out": False,
    "allow_code": False,
}


def _text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "")


def _whole(value: Any, least: int) -> bool:
    return value is None or whole(value, least)


RULES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "path": ("a folder or a YAML file", _text),
    "num_fewshot": ("a whole number of at least 0", partial(_whole, least=0)),
    "revision": ("a revision of the data set", _text),
    "filter": ("the name of a filter pipeline of the task", _text),
    "max_new_tokens": ("a whole number of at least 1", partial(_whole, least=1)),
    "leave_out": ("true or false", lambda value: isinstance(value, bool)),
    "allow_code": ("true or false", lambda value: isinstance(value, bool)),
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class AnyTask(Mapping[str, Mapping[str, Any]]):
    """Every name is a part; which the harness knows is seen when one is set up, so none is listed."""

    def __getitem__(self, part: str) -> Mapping[str, Any]:
        if not NAME.fullmatch(part):
            raise KeyError(part)
        return {"task": part}

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def set_up(task: str, options: Mapping[str, Any]) -> tuple[Documents, str]:
    """Return the documents of a task with its options applied, and the filter pipeline that counts."""
    if not task:
        raise sn.UserError(
            "task 'lm-eval' stands for every task of lm-evaluation-harness; name one of them, such as lm-eval/arc_easy"
        )
    given = {**OPTIONS, **options}
    for name, (rule, fits) in RULES.items():
        if not fits(given[name]):
            raise sn.UserError(f"tasks.lm-eval/{task}.{name}: {given[name]!r} must be {rule}")
    file, config = task_file(task, given["path"], allow_code=given["allow_code"])
    built = building.build(task, file, config, given["revision"])
    pipeline = filter_named(task, built, given["filter"])
    shots = built.config.num_fewshot or 0 if given["num_fewshot"] is None else given["num_fewshot"]
    where = f"lm-eval/{task}, {file}"
    found = documents(
        task, where, built, shots, given["leave_out"], right=lambda doc, text: judged(built, where, doc, text, pipeline)
    )
    return found, pipeline


def load(
    split: sn.Split, *, limit: int | None = None, seed: int = 0, task: str = "", **options: Any
) -> Sequence[sn.Example]:
    """Return the examples of one split."""
    return set_up(task, options)[0].load(split, limit=limit, seed=seed)


def fit(*, task: str = "", max_new_tokens: int | None = None, **options: Any) -> dict[str, Any]:
    """Return what the task is: all that its file and data say."""
    found, pipeline = set_up(task, {**options, "max_new_tokens": max_new_tokens})
    import lm_eval  # known to be there by now

    config = found.task.config
    data = "/".join(str(one) for one in (config.dataset_path, config.dataset_name) if one)
    fields: dict[str, Any] = {
        "load": found.load,
        "version": f"{found.task.VERSION}+{building.config_hash(config)}",
        "form": str(found.task.OUTPUT_TYPE),
        "source": f"lm-evaluation-harness {lm_eval.__version__}, task {task}; data: {data}",
    }
    if found.is_choice:
        return {**fields, "kind": "choice", "chance": mean_chance(found.task, found.where), "score": choice_scores}

    def grade(example: sn.Example, text: str) -> dict[str, float]:
        return {"correct": judged(found.task, found.where, found.by_id[example.id], text, pipeline)}

    return {
        **fields,
        "kind": "open",
        "chance": 0.0,
        "max_new_tokens": max_new_tokens or building.longest_text(config),
        "grade": grade,
        "label_columns": ("correct",),
        "score": text_scores(found.task, found.where, found.by_id),
    }


@sn.hookimpl
def register_tasks(register: Any) -> None:
    register(
        sn.Task(
            name="lm-eval",
            version="1",
            load=load,
            fit=fit,
            family=True,
            kind="choice",
            form="multiple_choice or generate_until",
            source="lm-evaluation-harness",
            licence="that of the task's data set",
            description="lm-eval/NAME: a multiple-choice or exact-match task of lm-evaluation-harness, or of a YAML file",
            options=OPTIONS,
            subtasks=AnyTask(),
        )
    )
