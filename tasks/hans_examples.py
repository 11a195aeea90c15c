"""The examples that HANS and its tuning data are put to a model as: premise and hypothesis, yes or no.

Labels: the heuristic HANS assigns, one against the rest, and ``gold_label`` (1 = entailment). The three
heuristics are nested as properties and one-hot as labels; they are NaN on pairs that are not of HANS.
"""

from __future__ import annotations

import math
from dataclasses import replace

import skillneurons as sn
from skillneurons.tasks.hans_grammar import HansPair
from skillneurons.tasks.hans_mnli import MnliPair
from skillneurons.tasks.hans_subcases import HEURISTICS, LABELS
from skillneurons.tasks.nli import CHOICES, nli_prompt

LABEL_COLUMNS = (*HEURISTICS, "gold_label")


def example_of(pair: HansPair, group: str) -> sn.Example:
    """Make the example of a HANS pair: yes means entailed."""
    return sn.Example(
        id=pair.pairID,
        prompt=nli_prompt(pair.sentence1, pair.sentence2),
        target=CHOICES[LABELS.index(pair.gold_label)],
        choices=CHOICES,
        labels={name: float(pair.heuristic == name) for name in HEURISTICS}
        | {"gold_label": float(pair.gold_label == LABELS[0])},
        group=group,
        fields={
            "premise": pair.sentence1,
            "hypothesis": pair.sentence2,
            "heuristic": pair.heuristic,
            "subcase": pair.subcase,
            "template": pair.group,
            "gold_label": pair.gold_label,
        },
    )


def training_group(pair: HansPair) -> str:
    """Return the group of a pair of HANS's training split: its premise."""
    return f"hans train: {pair.sentence1}"


def training_example_of(pair: HansPair) -> sn.Example:
    """Make the example of a pair of HANS's training split, whose pairIDs are those of the evaluation set again."""
    return replace(example_of(pair, training_group(pair)), id=f"train/{pair.pairID}")


def mnli_example_of(pair: MnliPair) -> sn.Example:
    """Make the example of an MNLI pair: neutral and contradiction are both not entailed."""
    entailed = pair.label == LABELS[0]
    return with_nli_labels(
        sn.Example(
            id=pair.id,
            prompt=nli_prompt(pair.premise, pair.hypothesis),
            target=CHOICES[0 if entailed else 1],
            choices=CHOICES,
            group=f"mnli: {pair.premise}",
            fields={
                "premise": pair.premise,
                "hypothesis": pair.hypothesis,
                "gold_label": LABELS[0 if entailed else 1],
                "mnli_label": pair.label,
            },
        )
    )


def with_nli_labels(example: sn.Example) -> sn.Example:
    """Return the example of a pair that is not of HANS with its labels: no heuristic is scored."""
    return replace(
        example, labels=dict.fromkeys(HEURISTICS, math.nan) | {"gold_label": float(example.target == CHOICES[0])}
    )
