"""Heuristics: cheap readings of an example and its answer that could explain what the model does.

For every task: ``prompt_length`` and ``answer_length`` (characters). For arithmetic, the stated (or
given) number is held against the right one: ``last_digit_ok``, ``first_digit_ok``, ``length_ok``,
``parity_ok``, ``correct``; of the problem itself ``magnitude`` (log10 of the right result plus 1),
``carry``, and the last digit of each operand, one against the rest (``a_last_digit_7``). For HANS:
``predicted`` (1: entailment) and ``heuristic_follows``, which is the same, because every one of the three
heuristics would say entailment; ``error``, ``p_entailment``, ``overlap`` (shared words / words of premise or
hypothesis), ``premise_length`` (words), ``comma``, ``passive_by``. For Skill-Mix: ``n_sentences`` and
``n_shown`` (skills the grader credits).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import skillneurons as sn

GENERAL = ("prompt_length", "answer_length")


DIGITS = tuple(f"{operand}_last_digit_{digit}" for operand in "ab" for digit in range(10))


def arithmetic(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Compare the stated number (verification), or the given one (open, choice), with the right result."""
    fields, right = example.fields, str(example.fields["answer"])
    given = str(fields["shown"]) if "shown" in fields else output.text.strip()
    correct = float(given == right)
    values = dict.fromkeys(DIGITS, 0.0) | {
        "magnitude": math.log10(abs(fields["answer"]) + 1),
        "carry": example.labels.get("carry", math.nan),
        f"a_last_digit_{fields['a'] % 10}": 1.0,
        f"b_last_digit_{fields['b'] % 10}": 1.0,
    }
    right, given = right.removeprefix("-"), given.removeprefix("-")  # the sign counts in ``correct`` alone
    if not given.isdecimal():  # no number was given: nothing to hold against the right one
        return values
    return values | {
        "last_digit_ok": float(given[-1] == right[-1]),
        "first_digit_ok": float(given[0] == right[0]),
        "length_ok": float(len(given) == len(right)),
        "parity_ok": float(int(given[-1]) % 2 == int(right[-1]) % 2),
        "correct": correct,
    }


def hans(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Read a pair of sentences and the model's verdict on it."""
    premise, hypothesis = (re.findall(r"\w+", example.fields[name].lower()) for name in ("premise", "hypothesis"))
    shared, either = set(premise) & set(hypothesis), set(premise) | set(hypothesis)
    predicted = float(output.predicted == (example.choices or ("",))[0])
    return {
        "predicted": predicted,
        "heuristic_follows": predicted,
        "error": 1.0 - output.correct,
        "p_entailment": _share_of_first(output.choice_log_probs),
        "overlap": len(shared) / len(either),
        "premise_length": float(len(premise)),
        "comma": float("," in example.fields["premise"]),
        "passive_by": float(bool(re.search(r"\b(was|were) \w+ by\b", example.fields["premise"]))),
    }


def _share_of_first(log_probs: Sequence[float] | None) -> float:
    """Return the probability of the first choice among the choices; NaN where none were scored."""
    if not log_probs:
        return math.nan
    top = max(log_probs)
    return math.exp(log_probs[0] - top) / math.fsum(math.exp(value - top) for value in log_probs)


def skillmix(example: sn.Example, output: sn.Output) -> dict[str, float]:
    """Count the sentences of a text and the skills it was credited with (NaN where none was graded)."""
    shown = [v for name, v in output.labels.items() if name.startswith("shown_") and not math.isnan(v)]
    return {
        "n_sentences": float(len(re.findall(r"[.?!](?:\s|$)", output.text))),
        "n_shown": sum(shown) if shown else math.nan,
    }


Reader = Callable[[sn.Example, sn.Output], Mapping[str, float]]
READERS: dict[str, tuple[tuple[str, ...], Reader]] = {
    "arithmetic": (
        ("last_digit_ok", "first_digit_ok", "length_ok", "parity_ok", "correct", "magnitude", "carry", *DIGITS),
        arithmetic,
    ),
    "hans": (
        (
            *("predicted", "heuristic_follows", "error", "p_entailment"),
            *("overlap", "premise_length", "comma", "passive_by"),
        ),
        hans,
    ),
    "skillmix": (("n_sentences", "n_shown"), skillmix),
}
READERS |= dict.fromkeys(("arithmetic-open", "arithmetic-choice"), READERS["arithmetic"])
MARKS = {  # the fields that tell whose example it is
    "arithmetic": {"a", "b", "operation", "answer"},
    "hans": {"premise", "hypothesis", "gold_label"},
    "skillmix": {"skills", "topic", "k"},
}


def columns(task: sn.Task) -> tuple[str, ...]:
    """Return the heuristics of a task: its own, if there are any, and the lengths."""
    own, _ = READERS.get(task.name.partition("/")[0], ((), None))
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
