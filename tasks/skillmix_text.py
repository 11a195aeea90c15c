"""Skill-Mix, text only: read a text without the instruction it was written to, and name its skills.

Where the prompt names the skills, a neuron may track the names and not the skills. Here the model reads the
text alone; the soft prompt is what asks for the skills, and the answer is the names of those that the text
shows ("none" where it shows none), right in any order. Texts are the reference texts of the embedded grammar, or a model's own on
discovery and heldout: ``texts`` is a file that ``skillneurons predict skillmix`` wrote. Only embedded skills can be read this way,
because ``shown_<skill>`` is told by the rules of the grammar.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import skillneurons as sn
from skillneurons.tasks.skillmix_catalogue import catalogue
from skillneurons.tasks.skillmix_examples import example_of
from skillneurons.tasks.skillmix_rules import grade as points_of
from skillneurons.tasks.skillmix_scores import marks

NONE = "none"


def named(text: str) -> set[str]:
    """Return the embedded skills that a text names."""
    return {skill.name for skill in catalogue().skills if re.search(rf"\b{re.escape(skill.name)}\b", text)}


def grade(example: sn.Example, text: str) -> dict[str, float]:
    """Tell whether an answer names exactly the skills that the text shows."""
    return {"correct": float(named(text) == named(example.target) and bool(text.strip()))}


def reading(example: sn.Example, text: str) -> sn.Example:
    """Return the example that reads ``text``, which was written to the instruction of ``example``."""
    rubric = dict.fromkeys(example.fields["columns"], "")
    points = points_of(example, text, rubric, 0)
    labels = {name: value for name, value in marks(example, text, points).items() if name != "correct"}
    shown = [skill.name for skill in catalogue().skills if points[skill.column]]
    answer = NONE if not shown else ", ".join(shown[:-1]) + (" and " if shown[1:] else "") + shown[-1]
    return replace(example, prompt=text, target=answer, labels={**example.labels, **labels})


def load(
    split: str,
    *,
    limit: int | None = None,
    seed: int = 0,
    k: int | Sequence[int] = 2,
    texts: str | None = None,
) -> list[sn.Example]:
    """Return the texts of a split with the skills that were asked of them; the prompt is tuned on reference texts."""
    load_instructed = sn.get_task("skillmix").load
    if texts is None or split in ("train", "validation"):
        return [reading(one, one.target) for one in load_instructed(split, limit=limit, seed=seed, k=k)]
    by_k: dict[int, list[sn.Example]] = {}
    for one in _read_texts(texts):
        if sn.split_by_group(one.group, "skillmix") == split:
            by_k.setdefault(one.fields["k"], []).append(one)
    for size, examples in by_k.items():
        random.Random(f"skillmix-text/{split}/{seed}/{size}").shuffle(examples)
    in_turn = itertools.zip_longest(*(by_k[size] for size in sorted(by_k)))
    return [one for row in in_turn for one in row if one is not None][:limit]


@lru_cache(maxsize=2)
def _read_texts(path: str) -> tuple[sn.Example, ...]:
    """Read the first text of each id from JSON Lines with ``id`` and ``prediction``; empty texts are passed over."""
    file = Path(path)
    try:
        lines = [line for line in file.read_bytes().decode("utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise sn.DataError(
            f"skillmix-text.texts: cannot read {path!r} ({error}); write it with: skillneurons predict skillmix"
        ) from error
    examples: dict[str, sn.Example] = {}
    for number, line in enumerate(lines, 1):
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise sn.DataError(f"{file}:{number}: not JSON ({error.msg}, column {error.colno})") from error
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("id", "prediction")):
            raise sn.DataError(f"{file}:{number}: an object with the texts 'id' and 'prediction' is needed")
        if row["prediction"].strip() and row["id"] not in examples:
            examples[row["id"]] = reading(_asked(f"{file}:{number}", row["id"]), row["prediction"])
    if not examples:
        raise sn.DataError(f"{file}: no texts; write them with: skillneurons predict skillmix -o {file}")
    return tuple(examples.values())


def _asked(where: str, name: str) -> sn.Example:
    """Return the example that an id of ``skillmix`` stands for: topic and skills, parted by slashes."""
    topics = {topic.replace(" ", "_"): topic for topic in catalogue().topics}
    skills = {skill.name.replace(" ", "_"): skill.name for skill in catalogue().skills}
    topic, *asked = name.split("/")
    unknown = [part for part in asked if part not in skills]
    if topic not in topics or unknown or not asked:
        raise sn.DataError(
            f"{where}: id {name!r} is not of the form topic/skill/skill with embedded topics and skills, "
            "as in 'Sewing/metaphor/folk_physics'"
        )
    return example_of([skills[part] for part in asked], topics[topic], random.Random(0))


def text_task(sizes: Mapping[Any, int], label_columns: tuple[str, ...], shared: Mapping[str, Any]) -> sn.Task:
    """Return the task ``skillmix-text``."""
    return sn.Task(
        name="skillmix-text",
        version="1",
        load=load,
        kind="open",
        form="text only, name the skills",
        source="texts of skillmix without their instruction",
        max_new_tokens=32,
        description="which skills does a text show?",
        options={"k": 2, "texts": None},
        label_columns=label_columns,
        primary=("labels.shown_modus_ponens", "confidence.mean_log_prob", "heuristics.prompt_length"),
        grade=grade,
        sizes=sizes,
        **{**shared, "tuned_on": tuned_on},
    )


def tuned_on(**options: Any) -> str:
    """Say what the prompt is tuned on."""
    return "texts of the embedded grammar, other combinations"
