from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from skillneurons.examples import data_hash, load_splits
from skillneurons.tasks import hans
from skillneurons.tasks.hans_grammar import generate_hans
from skillneurons.tasks.hans_source import COLUMNS
from skillneurons.tasks.hans_splits import (
    DISCOVERY_ONLY,
    HELDOUT_ONLY,
    hans_split_of_template,
    in_split,
    quotas,
    sample,
)
from skillneurons.tasks.hans_subcases import HEURISTICS, SUBCASES

SIZES: Mapping[Any, int] = {"train": 200, "validation": 50, "discovery": 230, "heldout": 190}


def task() -> sn.Task:
    registered: list[sn.Task] = []
    hans.register_tasks(registered.append)
    (only,) = registered
    return only


def heuristic_of(example: sn.Example) -> str:
    return str(example.fields["heuristic"])


def test_the_task_declares_itself() -> None:
    hans_task = task()
    assert (hans_task.name, hans_task.version, hans_task.kind, hans_task.chance) == ("hans", "2", "choice", 0.5)
    assert hans_task.form == "premise and hypothesis, yes or no"
    assert hans_task.label_columns == ("lexical_overlap", "subsequence", "constituent", "gold_label")
    assert hans_task.options == {
        **{"path": None, "hub": None, "revision": None, "split": "template"},
        **{"train": "nli", "mnli": None, "mnli_revision": None},
    }
    assert hans_task.sizes == {which: len(hans.load(which)) for which in hans_task.sizes}


def test_an_example_holds_everything_hans_says() -> None:
    example = hans.load("heldout", limit=400)[0]
    fields = example.fields
    assert example.prompt == f"Premise: {fields['premise']} Hypothesis: {fields['hypothesis']} Entailed?"
    assert set(fields) == {"premise", "hypothesis", "heuristic", "subcase", "template", "gold_label"}
    for example in hans.load("heldout", limit=400):
        subcase = SUBCASES[example.fields["subcase"]]
        assert example.target == ("yes" if subcase.gold_label == "entailment" else "no")
        assert example.labels == {
            **{name: float(name == subcase.heuristic) for name in HEURISTICS},
            "gold_label": float(subcase.gold_label == "entailment"),
        }
        assert example.group == example.fields["template"]


def test_train_and_validation_are_nli_without_a_heuristic() -> None:
    for which, size in (("train", 2000), ("validation", 500)):
        examples = hans.load(which)
        assert len(examples) == size
        assert Counter(example.target for example in examples) == {"yes": size // 2, "no": size // 2}
        for example in examples:
            assert all(math.isnan(example.labels[name]) for name in HEURISTICS)
            assert example.labels["gold_label"] == float(example.target == "yes")
            assert list(example.labels) == list(task().label_columns)


@pytest.mark.parametrize("split", ["template", "row"])
def test_the_four_splits_share_no_id_no_group_and_no_text(split: str) -> None:
    splits = load_splits(task(), SIZES, seed=0, options={"split": split})
    assert {name: len(examples) for name, examples in splits.items()} == SIZES
    for of in (
        lambda example: example.id,
        lambda example: example.group,
        lambda example: example.prompt,
    ):
        owners: dict[str, set[str]] = defaultdict(set)
        for name, examples in splits.items():
            for example in examples:
                owners[of(example)].add(name)
        assert all(len(found) == 1 for found in owners.values())


def test_an_nli_pair_that_is_also_a_hans_pair_is_left_out(tmp_path: Path) -> None:
    first = hans.load("train", limit=1)[0]
    row = [
        "entailment",
        first.fields["premise"],
        first.fields["hypothesis"],
        "ex1",
        "constituent",
        "ce_adverb",
        "temp68",
    ]
    file = tmp_path / "hans.tsv"
    file.write_text("\t".join(COLUMNS) + "\n" + "\t".join(row) + "\n", "utf-8")
    assert first.prompt in {example.prompt for example in hans.load("train", limit=50)}
    assert first.prompt not in {example.prompt for example in hans.load("train", limit=50, path=str(file))}


def test_the_whole_set_is_a_hundred_pairs_of_each_subcase() -> None:
    both = hans.load("discovery") + hans.load("heldout")
    assert Counter(example.fields["subcase"] for example in both) == dict.fromkeys(SUBCASES, 100)
    assert len({example.prompt for example in both}) == 3000


def test_both_splits_hold_all_heuristics_and_both_labels_evenly() -> None:
    discovery, heldout = hans.load("discovery"), hans.load("heldout")
    assert len(discovery) == 1700 and len(heldout) == 1300
    for examples in (discovery, heldout):
        cells = Counter((heuristic_of(example), example.target) for example in examples)
        assert len(cells) == 6 and min(cells.values()) >= 0.1 * len(examples)
        assert sum(n for (_, target), n in cells.items() if target == "yes") == len(examples) / 2


def test_a_single_template_subcase_is_whole_and_the_others_stand_in_both() -> None:
    single = {name for name, subcase in SUBCASES.items() if len(subcase.templates) == 1}
    assert len(single) == 18 and {*DISCOVERY_ONLY, *HELDOUT_ONLY} == single
    assert not set(DISCOVERY_ONLY) & set(HELDOUT_ONLY)
    discovery = {example.fields["subcase"] for example in hans.load("discovery")}
    heldout = {example.fields["subcase"] for example in hans.load("heldout")}
    assert discovery == set(SUBCASES) - set(HELDOUT_ONLY) and heldout == set(SUBCASES) - set(DISCOVERY_ONLY)


@pytest.mark.parametrize(
    ("group", "split"),
    [
        ("ln_passive/temp20", "discovery"),
        ("ln_passive/temp21", "heldout"),
        ("sn_NP/Z/temp43", "heldout"),
        ("sn_NP/Z/2", "discovery"),
        ("ln_subject/object_swap/temp1", "discovery"),
        ("cn_after_if_clause/1", "heldout"),
    ],
)
def test_the_split_of_a_template(group: str, split: str) -> None:
    assert hans_split_of_template(group) == split


@pytest.mark.parametrize("group", ["ln_passive/first", "ln_pasive/temp20", "temp20"])
def test_a_template_without_a_split(group: str) -> None:
    with pytest.raises(sn.DataError) as error:
        hans_split_of_template(group)
    assert str(error.value) == (
        f"hans: no split for template {group!r}; it must be written subcase/template, "
        "with a known subcase and a number at the end, as in 'ln_passive/temp20'"
    )


def test_by_row_every_subcase_stands_in_both_and_a_group_is_a_row() -> None:
    discovery, heldout = hans.load("discovery", split="row"), hans.load("heldout", split="row")
    assert len(discovery) + len(heldout) == 3000 and 0.57 < len(discovery) / 3000 < 0.63
    for examples in (discovery, heldout):
        assert {example.fields["subcase"] for example in examples} == set(SUBCASES)
        assert all(example.group == example.id for example in examples)


def test_a_pair_keeps_its_row_split_whatever_the_seed() -> None:
    pairs = generate_hans(20, 0)
    found = {which: {pair.pairID for pair in in_split(pairs, which, "row")} for which in ("discovery", "heldout")}
    again = {which: {pair.pairID for pair in in_split(pairs[::-1], which, "row")} for which in found}
    assert found == again and not found["discovery"] & found["heldout"] and len(set.union(*found.values())) == 600


@pytest.mark.parametrize("split", ["template", "row"])
def test_a_limit_is_spread_over_the_subcases(split: str) -> None:
    full = Counter(example.fields["subcase"] for example in hans.load("discovery", split=split))
    few = Counter(example.fields["subcase"] for example in hans.load("discovery", limit=170, split=split))
    assert sum(few.values()) == 170 and set(few) == set(full)
    for name, n in few.items():
        assert abs(n - 170 * full[name] / sum(full.values())) < 1


def test_a_limit_is_spread_over_the_templates_of_a_subcase() -> None:
    pairs = [pair for pair in generate_hans(120, 0) if pair.subcase == "ln_relative_clause"]
    assert set(Counter(pair.template for pair in sample(pairs, 36, 0)).values()) == {3}


def test_any_limit_up_to_a_thousand_a_subcase_is_met() -> None:
    assert [len(hans.load("heldout", limit=n)) for n in (1, 90, 1301, 1500)] == [1, 90, 1301, 1500]


def test_a_sample_is_mixed_and_the_same_every_time() -> None:
    one, two = hans.load("discovery", limit=100), hans.load("discovery", limit=100)
    assert one == two
    assert {heuristic_of(example) for example in one[:20]} == set(HEURISTICS)
    assert {example.id for example in hans.load("discovery", limit=100, seed=1)} != {example.id for example in one}
    load = task()
    assert data_hash(load_splits(load, SIZES, seed=0, options={})) == data_hash(
        load_splits(load, SIZES, seed=0, options={})
    )


def test_quotas() -> None:
    assert quotas([100, 50, 50], 4) == [2, 1, 1]
    assert quotas([10, 10, 10], 5) == [2, 2, 1]
    assert quotas([1, 9], 5) == [1, 4]  # .5 and 4.5: the earlier one gets the odd pair
    assert quotas([3, 4], 9) == [3, 4]
    assert quotas([3, 4], 0) == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("discovery", {"split": "subcase"}), "hans.split: 'subcase'; known: template, row"),
        (("test", {}), "hans: no split 'test'; known: train, validation, discovery, heldout"),
        (
            ("heldout", {"path": "a.tsv", "hub": "b/c"}),
            "hans: both path 'a.tsv' and hub 'b/c' are given; give one of them",
        ),
        (
            ("heldout", {"revision": "abc"}),
            "hans.revision: 'abc' is given without hans.hub, the data set it belongs to",
        ),
        (("heldout", {"train": "snli"}), "hans.train: 'snli'; known: nli, mnli, hans"),
    ],
)
def test_options_that_cannot_be(arguments: tuple[str, dict[str, Any]], message: str) -> None:
    which, options = arguments
    with pytest.raises(sn.DataError) as error:
        hans.load(which, **options)
    assert str(error.value) == message
