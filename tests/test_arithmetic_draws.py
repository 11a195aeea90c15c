"""Which items a split gets: generated and loaded ones by the same groups, a limit evenly over the subtasks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import skillneurons as sn
from arithmetic_files import row_of, write
from skillneurons.examples import load_splits
from skillneurons.tasks import arithmetic
from skillneurons.tasks.arithmetic_draws import generated, lent_groups
from skillneurons.tasks.arithmetic_items import OPERATIONS, Item, draw_items, enumerate_subtask, items_of
from skillneurons.tasks.arithmetic_source import read_questions
from skillneurons.types import SPLITS


def test_one_digit_division_alone_lends_to_validation() -> None:
    pool = items_of("1_digit_division")
    assert not [item for item in pool if item.split == "validation"]
    lent = lent_groups(pool)
    assert len(lent) == 2
    found = {split: generated(split, 100, 0, ["division"], [1]) for split in SPLITS}
    assert {item.group for item in found["validation"]} == lent
    assert sorted(item.group for items in found.values() for item in items) == sorted(item.group for item in pool)
    for split in ("train", "discovery", "heldout"):
        assert {item.split for item in found[split]} == {split}
    assert generated("train", 5, 0, ["division"], [1]) == found["train"][:5]
    assert lent_groups(items_of("1_digit_addition")) == set()  # it has a validation of its own
    assert generated("train", 40, 0, OPERATIONS, [1]) == draw_items("train", 40, 0, OPERATIONS, [1])


def big_folder(tmp_path: Path) -> str:
    """Write 400 two-digit sums, 55 one-digit differences and the 23 one-digit divisions, each in its file."""
    sums = list(enumerate_subtask("addition", 2))[::20][:400]
    for name, items in (
        ("2_digit_addition", sums),
        ("1_digit_subtraction", items_of("1_digit_subtraction")),
        ("1_digit_division", items_of("1_digit_division")),
    ):
        write(tmp_path / name / "task.json", [row_of(item) for item in items], name)
    return str(tmp_path)


@pytest.mark.parametrize("form", ["open", "verification", "choice"])
def test_loaded_items_keep_their_splits_and_groups(tmp_path: Path, form: str) -> None:
    path = big_folder(tmp_path)
    total = 0
    for split in SPLITS:
        examples = arithmetic.load(split, form=form, path=path)
        total += len(examples)
        for e in examples:
            item = Item(int(e.fields["subtask"][0]), e.fields["operation"], e.fields["a"], e.fields["b"])
            assert (item.split, item.group) == (split, e.group)
        assert examples == arithmetic.load(split, form=form, path=path)
        assert [e.id for e in examples] != [e.id for e in arithmetic.load(split, form=form, path=path, seed=1)]
    assert total == 400 + 55 + 23


def test_statements_of_loaded_items_have_their_shares(tmp_path: Path) -> None:
    examples = arithmetic.load("train", form="verification", path=big_folder(tmp_path), limit=120)
    assert Counter(example.fields["kind"] for example in examples) == {
        "right": 60,
        "last_digit": 20,
        "magnitude": 20,
        "neither": 20,
    }


def test_a_limit_is_even_over_the_subtasks_and_not_the_head(tmp_path: Path) -> None:
    path = big_folder(tmp_path)
    some = arithmetic.load("train", form="open", path=path, limit=30)
    assert Counter(example.fields["subtask"] for example in some) == {
        "2_digit_addition": 10,
        "1_digit_subtraction": 10,
        "1_digit_division": 10,
    }
    file = f"{path}/2_digit_addition/task.json"
    in_order = [question.prompt for question in read_questions(file) if question.item.split == "train"]
    drawn = [example.prompt for example in arithmetic.load("train", form="open", path=file, limit=20)]
    assert drawn != in_order[:20] and set(drawn) <= set(in_order)
    assert max(in_order.index(prompt) for prompt in drawn) > len(in_order) // 2
    every = arithmetic.load("train", form="open", path=path)
    assert [example.id for example in every[:30]] == [example.id for example in some]


def test_operations_and_digits_choose_among_loaded_items(tmp_path: Path) -> None:
    path = big_folder(tmp_path)
    found = arithmetic.load("train", form="open", path=path, operations=["addition", "division"], digits=[1])
    assert {example.fields["subtask"] for example in found} == {"1_digit_division"}
    task = sn.get_task("arithmetic-open/2_digit_addition")
    assert {example.fields["subtask"] for example in task.load("train", path=path)} == {"2_digit_addition"}
    with pytest.raises(sn.DataError) as error:
        arithmetic.load("train", form="open", path=path, operations=["multiplication"])
    assert str(error.value) == (
        f"{path}: no question of operations ['multiplication'] and digits [1, 2, 3, 4, 5]; "
        "it has: 2_digit_addition (400), 1_digit_subtraction (55), 1_digit_division (23)"
    )


def test_one_digit_division_from_a_file_has_four_splits(tmp_path: Path) -> None:
    task = sn.get_task("arithmetic-choice/1_digit_division")
    splits = load_splits(task, dict.fromkeys(SPLITS, 30), seed=0, options={"path": big_folder(tmp_path)})
    assert sum(len(examples) for examples in splits.values()) == 23 and len(splits["validation"]) == 2
