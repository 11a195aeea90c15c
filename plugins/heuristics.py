"""Heuristics: cheap readings of an example and its answer that could explain what the model does.

For every task: ``prompt_length`` and ``answer_length`` (characters). For arithmetic, the stated (or
given) number is held against the right one: ``last_digit_ok``, ``first_digit_ok``, ``length_ok``,
``parity_ok``, with ``answer_magnitude`` (log10 of the right result) and the operands' last digits. For
HANS: ``heuristic_follows`` (the model says entailment, as every one of the three heuristics would),
``error``, ``overlap`` (shared words / words of premise or hypothesis), ``premise_length`` (words),
``comma``, ``passive_by``. For Skill-Mix: ``n_sentences`` and ``n_shown`` (skills the grader credits).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import skillneurons as sn

GENERAL = ("prompt_length", "answer_length")


def arithmetic(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Compare the stated number (verification), or the given one (open), with the right result."""
    fields, right = example.fields, str(example.fields["answer"])
    given = str(fields["shown"]) if "shown" in fields else output.text.strip()
    values = {
        "answer_magnitude": math.log10(fields["answer"] + 1),
        "a_last_digit": float(fields["a"] % 10),
        "b_last_digit": float(fields["b"] % 10),
    }
    if not given.isdecimal():  # no number was given: nothing to hold against the right one
        return values
    return values | {
        "last_digit_ok": float(given[-1] == right[-1]),
        "first_digit_ok": float(given[0] == right[0]),
        "length_ok": float(len(given) == len(right)),
        "parity_ok": float(int(given[-1]) % 2 == int(right[-1]) % 2),
    }


def hans(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Read a pair of sentences and the model's verdict on it."""
    premise, hypothesis = (re.findall(r"\w+", example.fields[name].lower()) for name in ("premise", "hypothesis"))
    shared, either = set(premise) & set(hypothesis), set(premise) | set(hypothesis)
    return {
        "heuristic_follows": float(output.predicted == (example.choices or ("",))[0]),
        "error": 1.0 - output.correct,
        "overlap": len(shared) / len(either),
        "premise_length": float(len(premise)),
        "comma": float("," in example.fields["premise"]),
        "passive_by": float(bool(re.search(r"\b(was|were) \w+ by\b", example.fields["premise"]))),
    }


def skillmix(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Count the sentences of a text and the skills it was credited with."""
    return {
        "n_sentences": float(len(re.findall(r"[.?!](?:\s|$)", output.text))),
        "n_shown": sum(value for name, value in output.labels.items() if name.startswith("shown_")),
    }


Reader = Callable[[sn.Example, sn.Output], Mapping[str, float]]
READERS: dict[str, tuple[tuple[str, ...], Reader]] = {
    "arithmetic": (
        (
            "last_digit_ok",
            "first_digit_ok",
            "length_ok",
            "parity_ok",
            "answer_magnitude",
            "a_last_digit",
            "b_last_digit",
        ),
        arithmetic,
    ),
    "hans": (("heuristic_follows", "error", "overlap", "premise_length", "comma", "passive_by"), hans),
    "skillmix": (("n_sentences", "n_shown"), skillmix),
}
READERS["arithmetic-open"] = READERS["arithmetic"]
MARKS = {  # the fields that tell whose example it is
    "arithmetic": {"a", "b", "operation", "answer"},
    "hans": {"premise", "hypothesis", "gold_label"},
    "skillmix": {"skills", "topic", "k"},
}


def columns(task: sn.Task) -> tuple[str, ...]:
    """Return the heuristics of a task: its own, if there are any, and the lengths."""
    own, _ = READERS.get(task.name, ((), None))
    return (*own, *GENERAL)


def heuristics(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Return the heuristics of one example; those of other tasks are left out."""
    values: dict[str, float] = {
        "prompt_length": float(len(example.prompt)),
        "answer_length": float(len(output.text)),
    }
    for name, marks in MARKS.items():
        if marks <= set(example.fields):
            values |= READERS[name][1](example, output)
    return values


@sn.hookimpl
def register_metrics(register: Any) -> None:
    register(sn.Metric("heuristics", heuristics, columns, description="cheap readings of example and answer"))
