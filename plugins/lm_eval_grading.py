"""How lm-evaluation-harness judges answers, applied to answers of this harness.

A text is cut at the first of the task's ``until`` strings, goes through one of its filter pipelines, and its ``process_results``
says exact_match (or acc): 1 right, 0 wrong. A choice is right where it has the highest summed log-probability (``acc``);
``acc_norm`` divides by the characters of a choice and ``acc_bytes`` by its bytes, without the delimiter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import skillneurons as sn
from skillneurons.plugins.lm_eval_build import RIGHT, telling


def filter_named(name: str, task: Any, wanted: str | None) -> str:
    """Return the filter pipeline whose figure counts: the one asked for, or the task's first."""
    known = [one.name for one in task._filters]
    if wanted is None or wanted in known:
        return wanted or str(known[0])
    raise sn.UserError(f"tasks.lm-eval/{name}.filter: no filter named {wanted!r}; the task has: {', '.join(known)}")


def judged(task: Any, where: str, doc: Mapping[str, Any], text: str, pipeline: str) -> float:
    """Return what the task says of a text, 0..1, as that harness computes it."""
    from lm_eval.api.instance import Instance

    until = (task.config.generation_kwargs or {}).get("until") or ()
    for stop in [until] if isinstance(until, str) else until:
        text = text.split(stop, 1)[0] if stop else text
    asked = Instance(request_type="generate_until", doc=doc, arguments=("", {}), idx=0, metadata=(task.task_name, 0, 1))
    asked.resps = [text]
    with telling(where, "a text cannot be judged", "its filter_list, metric_list and process_results"):
        next(one for one in task._filters if one.name == pipeline).apply([asked])
        found = task.process_results(doc, [asked.filtered_resps[pipeline]])
        known = [float(found[one]) for one in RIGHT if one in found]
    if not known:
        raise sn.DataError(
            f"{where}: its process_results gives {', '.join(map(str, found))}; {' or '.join(RIGHT)} is needed"
        )
    value = known[0]
    if not 0 <= value <= 1:
        raise sn.DataError(f"{where}: its grading gives {value}, which is no share between 0 and 1")
    return value


def text_scores(
    task: Any, where: str, by_id: Mapping[str, Mapping[str, Any]]
) -> Callable[[Sequence[tuple[sn.Example, sn.Output]]], list[sn.Score]]:
    """Return ``score(pairs)`` of a task of texts: its metric by every filter pipeline."""
    metric = next(iter(task._metric_fn_list))

    def score(pairs: Sequence[tuple[sn.Example, sn.Output]]) -> list[sn.Score]:
        names = [one.name for one in task._filters]
        return [
            _mean(
                str(metric),
                [judged(task, where, by_id[example.id], output.text, pipeline) for example, output in pairs],
                pipeline if len(names) > 1 else "",
            )
            for pipeline in names
        ]

    return score


def choice_scores(pairs: Sequence[tuple[sn.Example, sn.Output]]) -> list[sn.Score]:
    """Return acc, and acc_norm and acc_bytes where log-probabilities are known."""
    scores = [_mean("acc", [output.correct for _, output in pairs])]
    known = [(example, output.choice_log_probs) for example, output in pairs if output.choice_log_probs is not None]
    sizes: dict[str, Callable[[str], int]] = {"acc_norm": len, "acc_bytes": lambda choice: len(choice.encode())}
    for name, size in sizes.items():
        hits = []
        for example, log_probs in known:
            shares = [value / size(choice) for value, choice in zip(log_probs, example.fields["choices"], strict=True)]
            hits.append(float(shares.index(max(shares)) == example.fields["gold"]))
        if hits:
            scores.append(_mean(name, hits))
    return scores


def _mean(name: str, values: Sequence[float], part: str = "") -> sn.Score:
    return sn.Score(name, math.fsum(values) / len(values) if values else math.nan, len(values), part)
