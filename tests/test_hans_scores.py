"""HANS accuracies, worked out by hand and on sets whose figures are known beforehand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.evaluation import evaluated_examples, score_predictions
from skillneurons.predictions import Prediction, read_predictions, write_predictions
from skillneurons.tasks import hans
from skillneurons.tasks.hans_examples import example_of
from skillneurons.tasks.hans_grammar import HansPair
from skillneurons.tasks.hans_scores import PREDICTIONS, answered, score
from skillneurons.tasks.hans_subcases import HEURISTICS, SUBCASES

ORIGINAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "hans_eval_3000.tsv"
PARTS = [f"{heuristic}: {label}" for label in ("entailment", "non-entailment") for heuristic in HEURISTICS]


def task() -> sn.Task:
    registered: list[sn.Task] = []
    hans.register_tasks(registered.append)
    return registered[0]


def example(subcase: str, template: str, number: int) -> sn.Example:
    of = SUBCASES[subcase]
    pair = HansPair(of.gold_label, "A b .", "B a .", f"ex{number}", of.heuristic, subcase, template)
    return example_of(pair, pair.group)


def said(text: str, predicted: str | None = None) -> sn.Output:
    return sn.Output(text, 0.0, math.nan, predicted=predicted)


def test_the_accuracies_of_a_small_table() -> None:
    pairs = [
        (example("ce_adverb", "temp68", 0), said("yes")),
        (example("ce_adverb", "temp68", 1), said("no")),
        (example("ln_passive", "temp21", 2), said("no")),
        (example("ln_passive", "temp21", 3), said("yes")),
        (example("ln_passive", "temp20", 4), said("maybe")),  # anything else is not entailment, and so right here
        (example("le_passive", "temp35", 5), said("yes", "no")),  # what was predicted counts, not the text
    ]
    table = [(one.part, one.n, one.detail) for one in score(pairs)]
    assert table == [
        ("", 6, False),
        *zip(PARTS, (1, 0, 2, 3, 0, 0), [False] * 6, strict=True),
        *(("subcase ln_passive", 3, True), ("subcase le_passive", 1, True), ("subcase ce_adverb", 2, True)),
        *(("template ln_passive/temp20", 1, True), ("template ln_passive/temp21", 2, True)),
        *(("template le_passive/temp35", 1, True), ("template ce_adverb/temp68", 2, True)),
    ]
    nan = math.nan
    assert [one.value for one in score(pairs)] == pytest.approx(
        [3 / 6, 0, nan, 1 / 2, 2 / 3, nan, nan, 2 / 3, 0, 1 / 2, 1, 1 / 2, 0, 1 / 2], nan_ok=True
    )
    assert {one.name for one in score(pairs)} == {"accuracy"}


def test_nothing_to_score_and_an_example_that_is_not_of_hans() -> None:
    assert [(one.part, one.n) for one in score([])] == [("", 0), *((part, 0) for part in PARTS)]
    assert all(math.isnan(one.value) for one in score([]))
    (first,) = hans.load("train", limit=1)
    with pytest.raises(sn.DataError) as error:
        score([(first, said("yes"))])
    assert str(error.value) == (
        f"hans: example {first.id!r} is not a HANS pair; the accuracies are those of discovery and heldout"
    )


def always_entailment(examples: list[sn.Example]) -> None:
    scores = score([(one, said("yes", "yes")) for one in examples])
    values = {one.part: (one.value, one.n) for one in scores}
    assert values[""] == (0.5, 3000)
    assert [values[part] for part in PARTS] == [(1.0, 500)] * 3 + [(0.0, 500)] * 3
    for name, subcase in SUBCASES.items():
        assert values[f"subcase {name}"] == (float(subcase.gold_label == "entailment"), 100)
    templates = [one for one in scores if one.part.startswith("template ")]
    assert len(templates) == 18 + 42 and sum(one.n for one in templates) == 3000
    assert [one.part for one in scores if not one.detail] == ["", *PARTS]


def test_always_entailment_on_the_generated_set() -> None:
    always_entailment(evaluated_examples(task(), {}))


@pytest.mark.skipif(not ORIGINAL.exists(), reason=f"the sample of the original HANS pairs is not at {ORIGINAL}")
@pytest.mark.parametrize("split", ["template", "row"])
def test_always_entailment_on_the_original(split: str) -> None:
    always_entailment(evaluated_examples(task(), {"path": str(ORIGINAL), "split": split}))


def test_answers_in_the_authors_words() -> None:
    one = example("ce_adverb", "temp68", 0)
    assert PREDICTIONS.columns == ("pairID", "gold_label")
    outputs = [said("yes"), said(" yes\n"), said("no"), said(""), said("no", "yes"), said("yes", "no")]
    words = [PREDICTIONS.write(one, output) for output in outputs]
    assert words == [answered(output) for output in outputs]
    assert words == ["entailment", "entailment", *["non-entailment"] * 2, "entailment", "non-entailment"]
    read = {
        text: PREDICTIONS.read(one, text)
        for text in (
            "entailment",
            " entailment\n",
            "non-entailment",
            "neutral",
            "contradiction",
            "Entailment",
            "yes",
            "",
        )
    }
    assert [text for text, answer in read.items() if answer == "yes"] == ["entailment", " entailment\n"]
    assert set(read.values()) == {"yes", "no"}


def test_a_predictions_file_in_the_authors_form(tmp_path: Path) -> None:
    examples = [
        example("ce_adverb", "temp68", 0),
        example("ln_passive", "temp20", 1),
        example("cn_adverb", "temp58", 2),
    ]
    file = tmp_path / "predictions.txt"
    outputs = [said("yes", "yes"), said("yes", "yes"), said("no", "no")]
    write_predictions(file, task(), [Prediction(*row) for row in zip(examples, outputs, strict=True)])
    assert file.read_text("utf-8") == "pairID,gold_label\nex0,entailment\nex1,entailment\nex2,non-entailment\n"
    assert [(one.output.predicted, one.output.correct) for one in read_predictions(file, task(), examples)] == [
        *(("yes", 1.0), ("yes", 0.0), ("no", 1.0))
    ]
    file.write_text("pairID,gold_label\nex0,neutral\nex1,contradiction\nex2,entailment\n", "utf-8")
    scores, _ = score_predictions(task(), file, examples)
    assert {one.part: one.value for one in scores if one.n} == {
        "": pytest.approx(1 / 3),
        "constituent: entailment": 0.0,
        "lexical_overlap: non-entailment": 1.0,
        "constituent: non-entailment": 0.0,
        **{"subcase ln_passive": 1.0, "subcase cn_adverb": 0.0, "subcase ce_adverb": 0.0},
        **{"template ln_passive/temp20": 1.0, "template cn_adverb/temp58": 0.0, "template ce_adverb/temp68": 0.0},
    }
