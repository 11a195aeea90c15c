"""The authors' evaluation of HANS, and their predictions file (McCoy, Pavlick, Linzen 2019, arXiv 1902.01007).

``accuracy`` on all pairs; on the pairs of each heuristic that are entailed, then on those that are not; of each
subcase; of each template. Only "entailment" counts as entailment: neutral, contradiction and anything else is
"non-entailment". A model that always says entailment has 1 on the entailed pairs and 0 on the others.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence

import skillneurons as sn
from skillneurons.tasks.hans_subcases import HEURISTICS, LABELS, SUBCASES
from skillneurons.tasks.nli import CHOICES


def answered(output: sn.Output) -> str:
    """Return what an output says: ``entailment`` for yes, ``non-entailment`` for anything else."""
    answer = output.text if output.predicted is None else output.predicted
    return LABELS[0 if answer.strip() == CHOICES[0] else 1]


def score(pairs: Sequence[tuple[sn.Example, sn.Output]]) -> list[sn.Score]:
    """Return the accuracies in the authors' order; NaN for a heuristic and label without a pair.

    Subcases and templates are listed where they have a pair, and marked as details. DataError for an example that
    is not a HANS pair.
    """
    points: dict[str, list[float]] = defaultdict(list)
    templates: dict[str, tuple[str, str]] = {}
    for example, output in pairs:
        fields = example.fields
        if "subcase" not in fields:
            raise sn.DataError(
                f"hans: example {example.id!r} is not a HANS pair; the accuracies are those of discovery and heldout"
            )
        right = float(answered(output) == fields["gold_label"])
        templates[fields["template"]] = (fields["subcase"], fields["template"])
        for part in (
            "",
            f"{fields['heuristic']}: {fields['gold_label']}",
            f"subcase {fields['subcase']}",
            f"template {fields['template']}",
        ):
            points[part].append(right)
    by_heuristic = [f"{heuristic}: {label}" for label in LABELS for heuristic in HEURISTICS]
    details = [
        *(f"subcase {name}" for name in SUBCASES),
        *(f"template {name}" for name in sorted(templates, key=lambda name: _place(*templates[name]))),
    ]
    return [
        *(_accuracy(part, points[part]) for part in ("", *by_heuristic)),
        *(_accuracy(part, points[part], detail=True) for part in details if part in points),
    ]


def _place(subcase: str, template: str) -> tuple[int, int, str]:
    number = re.search(r"\d+$", template)
    return list(SUBCASES).index(subcase), int(number[0]) if number else 0, template


def _accuracy(part: str, points: Sequence[float], *, detail: bool = False) -> sn.Score:
    value = math.fsum(points) / len(points) if points else math.nan
    return sn.Score("accuracy", value, len(points), part, detail)


def write_answer(example: sn.Example, output: sn.Output) -> str:
    """Return the text that stands for an output in the authors' file."""
    return answered(output)


def read_answer(example: sn.Example, prediction: str) -> str:
    """Return the answer that a text of the authors' file stands for: yes for entailment, no for anything else."""
    return CHOICES[0 if prediction.strip() == LABELS[0] else 1]


PREDICTIONS = sn.PredictionForm(("pairID", "gold_label"), write_answer, read_answer)
