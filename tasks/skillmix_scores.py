"""Skill-Mix grading and figures, as its authors define them (Yu et al. 2023, arXiv 2310.17567, section 4).

A text on k skills and a topic has k + 3 points: each skill, pertains to the topic, makes sense, and at most
max(1, k - 1) sentences. The last is counted by rule, never by a grader. Per item the majority over the
gradings counts (the harness takes it). Per text: full marks (all k + 3), all skills (all k and at least two of
the other three), skill fraction (share of k, 0 unless the other three hold). Per combination the best of its
generations counts, each figure for itself; a ratio is the mean over combinations.

NaN (not graded) is never 0: a text one of whose points is NaN has no figure, a combination without any graded
text is left out, and ``ungraded`` says how many texts that are.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import skillneurons as sn

TITLES = re.compile(r"\b(Mr|Mrs|Ms|Dr|Prof)\. ")
QUOTES = "'\"\u2018\u2019\u201c\u201d"
BOUNDARY = re.compile(rf"[.!?][{QUOTES}]* [{QUOTES}]*(?=(\w))")
RATIOS = {
    "full_marks": "ratio_of_full_marks",
    "all_skills": "ratio_of_all_skills",
    "skill_fraction": "skill_fraction",
}
SATURATED = 0.05
OTHERS = ("on_topic", "makes_sense", "within_limit")


def sentence_limit(k: int) -> int:
    """Return the number of sentences a text that shows ``k`` skills may have."""
    return max(1, k - 1)


def count_sentences(text: str) -> int:
    """Count sentences by the authors' rule: one more than the ends of a sentence that a capital follows.

    White space of any kind counts as a space, curly quotes as quotes and any letter's capital as a capital: there the
    authors' own code, which knows the plain ones only, misses the end of a line.
    """
    following: list[str] = BOUNDARY.findall(TITLES.sub(r"\1.", " ".join(text.split())))
    return 1 + sum(1 for letter in following if letter.isupper())


def names_it(text: str, skill: str) -> bool:
    """Tell whether a text names a skill (its name without what stands in brackets)."""
    return skill.split("(", maxsplit=1)[0].strip().lower() in text.lower()


def marks(example: sn.Example, text: str, points: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers that follow from the points of a text.

    ``points`` has the asked skills by their columns, ``topic`` and ``sense``; further skills in it are
    reported as shown too. With ``filter_names`` a skill that the text names gets no point.
    """
    columns: Sequence[str] = example.fields["columns"]
    asked = []
    for column, name in zip(columns, example.fields["skills"], strict=True):
        named = example.fields["filter_names"] and names_it(text, name)
        asked.append(0.0 if named else points.get(column, math.nan))
    others = (
        points.get("topic", math.nan),
        points.get("sense", math.nan),
        float(count_sentences(text) <= sentence_limit(len(columns))),
    )
    credited, rest, k = sum(asked), sum(others), len(columns)
    graded = not math.isnan(credited + rest)
    full = float(credited == k and rest == len(others)) if graded else math.nan
    shown = {f"shown_{column}": value for column, value in points.items() if column not in ("topic", "sense")}
    return {
        "correct": full,
        "full_marks": full,
        "all_skills": float(credited == k and rest >= len(others) - 1) if graded else math.nan,
        "skill_fraction": (credited / k if rest == len(others) else 0.0) if graded else math.nan,
        **dict(zip(OTHERS, others, strict=True)),
        **shown,
        **{f"shown_{column}": value for column, value in zip(columns, asked, strict=True)},
    }


def score(pairs: Sequence[tuple[sn.Example, sn.Output]]) -> list[sn.Score]:
    """Return the ratios per k and overall, the share of ungraded texts, and the saturation point.

    Several pairs of one example are its generations. The saturation point is the smallest k from which on the
    ratio of full marks stays below ``SATURATED`` (NaN where it never does).
    """
    generations: dict[str, list[sn.Output]] = defaultdict(list)
    sizes: dict[str, int] = {}
    for example, output in pairs:
        generations[example.id].append(output)
        sizes[example.id] = example.fields["k"]
    parts = {
        "": set(sizes),
        **{f"k = {k}": {i for i, size in sizes.items() if size == k} for k in sorted(set(sizes.values()))},
    }
    scores = []
    for part, ids in parts.items():
        for label, name in RATIOS.items():
            best = [_best([output.labels.get(label, math.nan) for output in generations[i]]) for i in sizes if i in ids]
            scored = [value for value in best if not math.isnan(value)]
            mean = math.fsum(scored) / len(scored) if scored else math.nan
            scores.append(sn.Score(name, mean, len(scored), part))
    texts = [output.labels.get("full_marks", math.nan) for output in (output for _, output in pairs)]
    ungraded = sum(math.isnan(value) for value in texts)
    scores.append(sn.Score("ungraded", ungraded / len(texts) if texts else math.nan, len(texts)))
    return [*scores, _saturation(scores)]


def _best(values: Sequence[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _saturation(scores: Sequence[sn.Score]) -> sn.Score:
    full = {int(s.part.removeprefix("k = ")): s.value for s in scores if s.name == RATIOS["full_marks"] and s.part}
    point = math.nan
    for k in sorted(full, reverse=True):
        if not full[k] < SATURATED:
            break
        point = float(k)
    return sn.Score("saturation_point", point, len(full))
