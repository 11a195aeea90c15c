"""What the prompt is tuned on, whatever the source: balanced, mixed, and without any HANS evaluation pair."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from skillneurons.examples import load_splits
from skillneurons.tasks import hans
from skillneurons.tasks.hans_grammar import HansPair, generate_hans
from skillneurons.tasks.hans_mnli import FILES
from skillneurons.tasks.hans_source import COLUMNS
from skillneurons.tasks.hans_subcases import HEURISTICS, SUBCASES
from skillneurons.tasks.hans_train import tuned_on

SIZES: Mapping[Any, int] = {"train": 120, "validation": 40, "discovery": 230, "heldout": 190}
MNLI_LABELS = ("entailment", "neutral", "contradiction")


def task() -> sn.Task:
    registered: list[sn.Task] = []
    hans.register_tasks(registered.append)
    return registered[0]


def write_mnli(folder: Path, extra: tuple[tuple[str, str], ...] = ()) -> str:
    """Write the authors' two files: 200 and 100 premises with a pair of each label, and pairs of ``extra``."""
    folder.mkdir(exist_ok=True)
    for which, n in (("train", 200), ("validation", 100)):
        rows = [
            {"gold_label": label, "sentence1": f"Premise {i} of {which}.", "sentence2": f"It is {label} {i}!"}
            for i in range(n)
            for label in MNLI_LABELS
        ]
        rows += [{"gold_label": "entailment", "sentence1": p, "sentence2": h} for p, h in extra]
        (folder / FILES[which]).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(folder)


def write_hans(file: Path, pairs: list[HansPair]) -> None:
    rows = ["\t".join(getattr(pair, column) for column in COLUMNS) for pair in pairs]
    file.write_text("\n".join(("\t".join(COLUMNS), *rows)) + "\n", "utf-8")


@pytest.fixture
def hans_folder(tmp_path: Path) -> Path:
    """Return a folder with both files of the authors; the pairs of the two share their pairIDs and two texts."""
    evaluation, training = (generate_hans(20, seed) for seed in (0, "other"))
    training = [pair for pair in training if pair not in evaluation]
    numbered = [
        [HansPair(**{c: getattr(pair, c) for c in COLUMNS} | {"pairID": f"ex{i}"}) for i, pair in enumerate(pairs)]
        for pairs in (evaluation, [*training, *evaluation[:2]])
    ]
    write_hans(tmp_path / "heuristics_evaluation_set.txt", numbered[0])
    write_hans(tmp_path / "heuristics_train_set.txt", numbered[1])
    return tmp_path


@pytest.fixture(params=["nli", "mnli", "hans", "hans from a folder"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "mnli":
        return {"train": "mnli", "mnli": write_mnli(tmp_path / "mnli")}
    if request.param == "hans from a folder":
        return {"train": "hans", "path": str(request.getfixturevalue("hans_folder"))}
    return {"train": request.param}


@pytest.mark.parametrize("split", ["template", "row"])
def test_the_four_splits_share_nothing(options: dict[str, Any], split: str) -> None:
    splits = load_splits(task(), SIZES, seed=0, options={**options, "split": split})
    assert {name: len(examples) for name, examples in splits.items()} == SIZES
    for field in ("id", "group", "prompt"):
        owners: dict[str, set[str]] = defaultdict(set)
        for name, examples in splits.items():
            for example in examples:
                owners[getattr(example, field)].add(name)
        assert all(len(found) == 1 for found in owners.values()), field
        assert field == "group" or len(owners) == sum(SIZES.values())


def test_every_even_prefix_is_balanced_and_every_seed_another_sample(options: dict[str, Any]) -> None:
    examples = hans.load("train", limit=60, **options)
    for n in range(2, 61, 2):
        assert Counter(example.target for example in examples[:n]) == {"yes": n // 2, "no": n // 2}
    assert hans.load("train", limit=60, **options) == examples == hans.load("train", limit=90, **options)[:60]
    assert {e.prompt for e in hans.load("train", limit=60, seed=1, **options)} != {e.prompt for e in examples}
    for example in examples:
        assert list(example.labels) == list(task().label_columns)
        assert example.labels["gold_label"] == float(example.target == "yes")
        assert example.fields["gold_label"] == ("entailment" if example.target == "yes" else "non-entailment")
        assert example.prompt == (
            f"Premise: {example.fields['premise']} Hypothesis: {example.fields['hypothesis']} Entailed?"
        )


def test_mnli_collapses_its_labels_and_is_no_head(tmp_path: Path) -> None:
    examples = hans.load("train", limit=100, train="mnli", mnli=write_mnli(tmp_path))
    assert Counter((e.fields["mnli_label"], e.target) for e in examples) == {
        ("entailment", "yes"): 50,
        ("neutral", "no"): 25,
        ("contradiction", "no"): 25,
    }
    lines = [int(example.id.removeprefix("mnli/train/line")) for example in examples]
    assert max(lines) > 500 and lines != sorted(lines)
    assert all(math.isnan(example.labels[name]) for example in examples for name in HEURISTICS)
    assert examples[0].fields["hypothesis"].endswith("!")  # texts stay as they stand


def test_mnli_gives_what_it_has_in_balance(tmp_path: Path) -> None:
    folder = write_mnli(tmp_path)
    train = hans.load("train", train="mnli", mnli=folder)
    assert len(train) == 400 and Counter(example.target for example in train) == {"yes": 200, "no": 200}
    assert len(hans.load("validation", train="mnli", mnli=folder)) == 200


@pytest.mark.parametrize("which", ["train", "validation"])
def test_an_mnli_pair_that_is_a_hans_pair_or_comes_twice_is_left_out(which: str, tmp_path: Path) -> None:
    pair = hans.load("heldout", limit=1)[0].fields
    of_hans = (pair["premise"], pair["hypothesis"])
    again = ("Premise 3 of validation.", "It is entailment 3!")
    folder = write_mnli(tmp_path, (of_hans, again))
    examples = hans.load(which, train="mnli", mnli=folder)
    assert len({example.prompt for example in examples}) == len(examples) > 100
    assert of_hans not in {(e.fields["premise"], e.fields["hypothesis"]) for e in examples}
    premises = {example.fields["premise"] for example in examples}
    assert (again[0] in premises) == (which == "train")  # it stands in both files: train keeps it


def test_hans_training_pairs_come_from_every_subcase_evenly() -> None:
    examples = hans.load("train", limit=600, train="hans")
    assert Counter(example.fields["subcase"] for example in examples) == dict.fromkeys(SUBCASES, 20)
    for example in examples:
        subcase = SUBCASES[example.fields["subcase"]]
        assert [name for name in HEURISTICS if example.labels[name]] == [subcase.heuristic]
        assert example.id.startswith(f"train/{example.fields['template']}/")
        assert example.group == f"hans train: {example.fields['premise']}"
    assert len(hans.load("train", train="hans")) == 2000 and len(hans.load("validation", train="hans")) == 500


def test_hans_training_pairs_of_a_folder(hans_folder: Path) -> None:
    path = str(hans_folder)
    both = [hans.load(which, train="hans", path=path) for which in ("train", "validation")]
    evaluation = {e.prompt for which in ("discovery", "heldout") for e in hans.load(which, path=path)}
    assert len(evaluation) == 600
    assert not evaluation & {example.prompt for example in itertools.chain(*both)}
    assert len(both[0]) > 300 and len(both[1]) > 60
    assert all(example.id.startswith("train/ex") for example in itertools.chain(*both))


def test_hans_training_pairs_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str | None, str]] = []

    def load_dataset(name: str, *, revision: str | None, split: str) -> Any:
        asked.append((name, revision, split))
        return [
            {
                "premise": pair.sentence1,
                "hypothesis": pair.sentence2,
                "label": int(pair.gold_label != "entailment"),
                **{"heuristic": pair.heuristic, "subcase": pair.subcase, "template": pair.template},
            }
            for pair in generate_hans(4, split)
        ]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    examples = hans.load("train", train="hans", hub="jhu-cogsci/hans", revision="abc")
    assert asked == [("jhu-cogsci/hans", "abc", "validation"), ("jhu-cogsci/hans", "abc", "train")]
    assert len(examples) > 60 and all(example.id.startswith("train/row") for example in examples)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "generated NLI"),
        ({"train": "mnli"}, "MNLI (nyu-mll/glue)"),
        ({"train": "mnli", "mnli": "me/glue", "mnli_revision": "abc"}, "MNLI (me/glue)"),
        ({"train": "hans"}, "HANS's own training split, generated (same templates)"),
        ({"train": "hans", "path": "hans"}, "HANS's own training split (same templates)"),
        ({"train": "hans", "hub": "jhu-cogsci/hans"}, "HANS's own training split (same templates)"),
    ],
)
def test_what_it_is_tuned_on_in_words(given: dict[str, Any], words: str) -> None:
    assert tuned_on(**{**task().options, **given}) == words


def test_a_folder_is_called_by_its_name(tmp_path: Path) -> None:
    folder = write_mnli(tmp_path / "multinli_1.0")
    assert tuned_on(**{**task().options, "train": "mnli", "mnli": folder}) == "MNLI (multinli_1.0)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": "snli"}, "hans.train: 'snli'; known: nli, mnli, hans"),
        ({"mnli": "me/glue"}, "hans.mnli: 'me/glue' is given, but hans.train is 'nli'; set hans.train: mnli"),
        (
            {"train": "hans", "mnli_revision": "abc"},
            "hans.mnli_revision: 'abc' is given, but hans.train is 'hans'; set hans.train: mnli",
        ),
    ],
)
def test_options_that_cannot_be(given: dict[str, Any], message: str) -> None:
    for ask in (lambda: hans.load("train", **given), lambda: tuned_on(**{**task().options, **given})):
        with pytest.raises(sn.DataError) as error:
            ask()
        assert str(error.value) == message
