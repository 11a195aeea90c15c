"""The keys of a task file of lm-evaluation-harness: which there are, what each may hold, which no task here can have.

That harness takes a file as it is and fails wherever a wrong value is first used; here it is told before anything is built,
with the key, the value and the rule. Where ``!function`` stands, any key that takes a function may hold one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import skillneurons as sn

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
NOT_OF_A_TASK = ("class", "group", "task_list", "include")  # keys of a file that are no field of its task

Rule = tuple[str, Callable[[Any], bool]]


def whole(value: Any, least: int) -> bool:
    """Return whether a value is a whole number that is large enough."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _stops(value: Any) -> bool:
    return _text(value) or (isinstance(value, list) and all(map(_text, value)))


def _filters(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(_mapping(one) and _text(one.get("name")) and _steps(one.get("filter")) for one in value)
    )


def _steps(value: Any) -> bool:
    return isinstance(value, list) and all(_mapping(one) and "function" in one for one in value)


def _metrics(value: Any) -> bool:
    return isinstance(value, list) and all(
        _mapping(one) and (_text(one.get("metric")) or callable(one.get("metric"))) for one in value
    )


def _said(value: Any) -> bool:
    return callable(value) or (isinstance(value, str | int | list) and not isinstance(value, bool))


TEXT: Rule = ("a text", _text)
MAPPING: Rule = ("a mapping", _mapping)
TRUTH: Rule = ("true or false", lambda value: isinstance(value, bool))
FUNCTION: Rule = ("a function (!function file.name)", callable)
RULES: Mapping[str, Rule] = {
    "task": TEXT,
    "dataset_path": TEXT,
    "dataset_kwargs": MAPPING,
    "training_split": TEXT,
    "validation_split": TEXT,
    "test_split": TEXT,
    "fewshot_split": TEXT,
    "doc_to_text": ("a text, a number or a function", _said),
    "doc_to_target": ("a text, a number, a list or a function", _said),
    "doc_to_choice": ("a text, a list, a mapping or a function", lambda value: _said(value) or _mapping(value)),
    "description": ("a text", lambda value: _text(value) or callable(value)),
    "target_delimiter": TEXT,
    "fewshot_delimiter": TEXT,
    "fewshot_config": MAPPING,
    "num_fewshot": ("a whole number of at least 0", lambda value: whole(value, 0)),
    "metric_list": ("a list of mappings with a metric each", _metrics),
    "output_type": TEXT,
    "generation_kwargs": MAPPING,
    "repeats": ("a whole number of at least 1", lambda value: whole(value, 1)),
    "filter_list": ("a list of filters, each with a name and a list of functions", _filters),
    "should_decontaminate": TRUTH,
    "gen_prefix": ("a text", lambda value: _text(value) or callable(value)),
    "metadata": ("a mapping", lambda value: isinstance(value, Mapping)),
}
GENERATION: Mapping[str, Rule] = {
    "until": ("a text or a list of texts", _stops),
    "do_sample": TRUTH,
    "temperature": ("a number", _number),
    **dict.fromkeys(LENGTHS, ("a whole number of at least 1", lambda value: whole(value, 1))),
}
FUNCTIONS: Mapping[str, Rule] = dict.fromkeys(("process_docs", "process_results", "custom_dataset"), FUNCTION)
NEEDED = ("doc_to_text", "doc_to_target")


def check_keys(name: str, file: Path, config: Mapping[str, Any]) -> None:
    """Raise DataError for the first key of a task's file that is unknown, missing, or holds what it cannot."""
    from dataclasses import fields

    from lm_eval.config.task import TaskConfig

    where, known = f"lm-eval/{name}, {file}", {field.name for field in fields(TaskConfig)}
    for key in config:
        if key not in known and key not in NOT_OF_A_TASK:
            near = difflib.get_close_matches(str(key), sorted(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else "take it out"
            raise sn.DataError(f"{where}: {key}: unknown key; {hint}")
    if "class" in config:  # told by what refuses it
        return
    _check(where, "", config, RULES)
    _check(where, "generation_kwargs.", config.get("generation_kwargs") or {}, GENERATION)
    for key in NEEDED:
        if config.get(key) is None and not config.get("use_prompt"):
            raise sn.DataError(f"{where}: {key}: missing; a task needs it")
    if config.get("dataset_path") is None and config.get("custom_dataset") is None:
        raise sn.DataError(f"{where}: dataset_path: missing; name a data set, or json with dataset_kwargs.data_files")


def check_functions(name: str, file: Path, config: Mapping[str, Any]) -> None:
    """Raise DataError for a key that holds something else than the function that it needs; functions are resolved."""
    _check(f"lm-eval/{name}, {file}", "", config, FUNCTIONS)


def _check(where: str, prefix: str, values: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    for key, (rule, fits) in rules.items():
        if values.get(key) is not None and not fits(values[key]):
            raise sn.DataError(f"{where}: {prefix}{key}: {values[key]!r} must be {rule}")
