from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import skillneurons as sn
from parity_task import parity_examples
from skillneurons.examples import data_hash, load_splits
from skillneurons.types import SPLITS

SIZES = dict.fromkeys(SPLITS, 8)
GOOD = sn.Example("a", "p", "yes", choices=("yes", "no"))


def task_of(change: Callable[[str, list[sn.Example]], list[sn.Example]], **settings: object) -> sn.Task:
    def load(split: str, *, limit: int | None = None, seed: int = 0) -> list[sn.Example]:
        return change(split, parity_examples(split, limit or 8))

    return sn.Task("parity", "1", load, kind="choice", label_columns=("even",), **settings)  # type: ignore[arg-type]


def error_of(change: Callable[[str, list[sn.Example]], list[sn.Example]]) -> str:
    with pytest.raises(sn.UserError) as error:
        load_splits(task_of(change), SIZES, seed=0, options={})
    return str(error.value)


def test_good_splits_come_back_whole() -> None:
    splits = load_splits(task_of(lambda split, rows: rows), SIZES, seed=0, options={})
    assert [len(splits[split]) for split in SPLITS] == [8] * 4


def test_a_group_in_two_splits() -> None:
    message = error_of(lambda split, rows: [replace(row, group="same") for row in rows])
    assert message == (
        "task 'parity': group 'same' stands in train and in validation; "
        "a group belongs to one split (skillneurons.split_by_group assigns it)"
    )


def test_an_id_twice() -> None:
    message = error_of(lambda split, rows: [*rows[:-1], rows[0]])
    assert message == "task 'parity': example id 'train/0' stands 2 times in train; ids must be unique"


def test_an_empty_split() -> None:
    message = error_of(lambda split, rows: [] if split == "heldout" else rows)
    assert message == "task 'parity': its heldout split is empty; every split needs examples"


def test_a_target_that_is_no_choice() -> None:
    message = error_of(lambda split, rows: [replace(rows[0], target="maybe"), *rows[1:]])
    assert message.startswith(
        "task 'parity', train example 0 ('train/0'): an example of a choice task needs two or more"
    )


def test_an_undeclared_label() -> None:
    message = error_of(lambda split, rows: [replace(rows[0], labels={"odd": 1.0})])
    assert message == (
        "task 'parity', train example 0 ('train/0'): label 'odd' is not declared; Task.label_columns has: even"
    )


def test_not_an_example() -> None:
    message = error_of(lambda split, rows: [{"prompt": "p"}])  # type: ignore[list-item]
    assert message == "task 'parity', train example 0: load must return skillneurons.Example objects, got dict"


def test_choices_that_are_no_tuple() -> None:
    message = error_of(lambda split, rows: [replace(rows[0], choices=["yes", "no"])])  # type: ignore[arg-type]
    assert message == (
        "task 'parity', train example 0 ('train/0'): choices must be a tuple, got ['yes', 'no']; write ('yes', 'no')"
    )


@pytest.mark.parametrize("given", [None, 7])
def test_a_loader_that_gives_no_list(given: object) -> None:
    assert error_of(lambda split, rows: given) == (  # type: ignore[arg-type,return-value]
        f"task 'parity': load gives {given} for its train split; it must return a list of skillneurons.Example"
    )


def test_a_loader_that_raises_is_named() -> None:
    def broken(split: str, rows: list[sn.Example]) -> list[sn.Example]:
        raise ValueError("no such column")

    assert error_of(broken) == "task 'parity', load, train split: ValueError: no such column"


def test_the_hash_covers_every_field() -> None:
    def hash_of(example: sn.Example) -> str:
        return data_hash({split: [replace(example, id=split)] for split in SPLITS})

    changed = [
        replace(GOOD, prompt="q"),
        replace(GOOD, target="no"),
        replace(GOOD, choices=("yes", "no", "maybe")),
        replace(GOOD, labels={"x": 1.0}),
        replace(GOOD, group="g"),
        replace(GOOD, fields={"n": 1}),
    ]
    hashes = {hash_of(example) for example in [GOOD, *changed]}
    assert len(hashes) == len(changed) + 1
    assert hash_of(replace(GOOD, fields={"a": 1, "b": 2})) == hash_of(replace(GOOD, fields={"b": 2, "a": 1}))
