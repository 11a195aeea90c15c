from __future__ import annotations

import random
from collections import Counter

import pytest
import skillneurons as sn
from skillneurons.tasks import arithmetic
from skillneurons.tasks.arithmetic_items import DIGITS, OPERATIONS, Item, draw_items, enumerate_subtask, is_item
from skillneurons.types import SPLITS

COMPUTE = {
    "addition": lambda a, b: a + b,
    "subtraction": lambda a, b: a - b,
    "multiplication": lambda a, b: a * b,
    "division": lambda a, b: a / b,
}


def load(split: str, form: str = "verification", **options: object) -> list[sn.Example]:
    return arithmetic.load(split, form=form, **options)  # type: ignore[arg-type]


def test_exhaustive_one_digit_subtasks_have_the_stated_sizes() -> None:
    assert len(enumerate_subtask("addition", 1)) == 100
    assert len(enumerate_subtask("division", 1)) == 23
    assert len(enumerate_subtask("multiplication", 2)) == 8100


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("digits", DIGITS)
def test_items_follow_the_rules(operation: str, digits: int) -> None:
    items = draw_items(None, 200, 0, [operation], [digits])
    assert items
    for item in items:
        assert digits == 1 or len(str(item.a)) == len(str(item.b)) == digits
        assert is_item(operation, item.a, item.b)
        assert item.answer == COMPUTE[operation](item.a, item.b) and item.answer >= 0
    assert len({(item.a, item.b) for item in items}) == len(items)


def test_wording() -> None:
    texts = {arithmetic.open_example(Item(2, operation, 84, 12)).prompt for operation in OPERATIONS}
    assert texts == {
        "What is 84 plus 12?",
        "What is 84 minus 12?",
        "What is 84 times 12?",
        "What is 84 divided by 12?",
    }
    example = arithmetic.verification_example(Item(2, "addition", 12, 47), "right", random.Random(0))
    assert (example.prompt, example.target) == ("12 plus 47 equals 59. Correct?", "yes")


def test_a_commuted_pair_is_one_group_and_one_split() -> None:
    one, two = Item(2, "addition", 12, 47), Item(2, "addition", 47, 12)
    assert one.group == two.group and one.split == two.split
    assert Item(2, "subtraction", 47, 12).group != Item(2, "addition", 47, 12).group


@pytest.mark.parametrize("form", ["open", "verification"])
def test_splits_share_no_group(form: str) -> None:
    groups = {split: {e.group for e in load(split, form, limit=300)} for split in SPLITS}
    for split in SPLITS:
        for other in SPLITS:
            assert split == other or not groups[split] & groups[other]


def test_verification_has_its_shares_exactly() -> None:
    kinds = Counter(example.fields["kind"] for example in load("discovery", limit=600))
    assert kinds == {"right": 300, "last_digit": 100, "magnitude": 100, "neither": 100}


@pytest.mark.parametrize("answer", [0, 7, 10, 59, 100, 9801])
def test_wrong_answers_err_in_their_own_way(answer: int) -> None:
    rng = random.Random(answer)
    right = str(answer)
    for _ in range(50):
        last = str(arithmetic.wrong_answer(answer, "last_digit", rng))
        assert last != right and last[-1] == right[-1]
        magnitude = str(arithmetic.wrong_answer(answer, "magnitude", rng))
        assert len(magnitude) == len(right) and magnitude[-1] != right[-1] and magnitude[:-1] == right[:-1]
        neither = str(arithmetic.wrong_answer(answer, "neither", rng))
        assert neither[-1] != right[-1] and (len(neither), neither[0]) != (len(right), right[0])


def test_same_seed_same_examples() -> None:
    assert load("heldout", limit=50) == load("heldout", limit=50)
    assert load("heldout", limit=50, seed=1) != load("heldout", limit=50)


def test_a_limit_spreads_over_the_subtasks() -> None:
    counts = Counter(example.fields["subtask"] for example in load("discovery", limit=200))
    assert len(counts) == 20 and max(counts.values()) <= 15


@pytest.mark.parametrize(
    ("a", "b", "operation", "carry"),
    [
        (12, 47, "addition", False),
        (18, 47, "addition", True),
        (47, 12, "subtraction", False),
        (42, 17, "subtraction", True),
        (11, 22, "multiplication", False),
        (15, 12, "multiplication", True),
    ],
)
def test_carry(a: int, b: int, operation: str, carry: bool) -> None:
    assert Item(2, operation, a, b).carry is carry


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(sn.DataError, match=r"arithmetic.operations: \['power'\]; known: \['addition'"):
        load("train", operations=["power"])
    with pytest.raises(sn.DataError, match="arithmetic.digits: empty"):
        load("train", digits=[])


def test_a_subtask_that_is_used_up_gives_what_it_has() -> None:
    items = draw_items("heldout", 500, 0, ["division"], [3])
    assert 100 < len(items) < 500 and len({(item.a, item.b) for item in items}) == len(items)
