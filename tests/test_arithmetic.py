from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import skillneurons as sn
from arithmetic_files import row_of, write
from skillneurons.examples import data_hash, load_splits
from skillneurons.task_setup import set_up
from skillneurons.tasks import arithmetic
from skillneurons.tasks.arithmetic_items import (
    DIGITS,
    OPERATIONS,
    SUBTASKS,
    Item,
    draw_items,
    enumerate_subtask,
    is_item,
    items_of,
)
from skillneurons.types import SPLITS

SUM = row_of(Item(2, "addition", 12, 47))
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


@pytest.mark.parametrize("form", ["open", "verification", "choice"])
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


@pytest.mark.parametrize("n", [6, 60, 600])
def test_the_shares_are_exact_for_every_multiple_of_six(n: int) -> None:
    kinds = Counter(example.fields["kind"] for example in load("train", limit=n))
    assert kinds == {"right": n // 2, "last_digit": n // 6, "magnitude": n // 6, "neither": n // 6}
    targets = Counter(example.target for example in load("heldout", limit=n))
    assert targets == {"yes": n // 2, "no": n // 2}


@pytest.mark.parametrize("form", ["open", "verification", "choice"])
def test_same_seed_same_examples(form: str) -> None:
    assert load("heldout", form, limit=50) == load("heldout", form, limit=50)
    assert load("heldout", form, limit=50, seed=1) != load("heldout", form, limit=50)


def test_choices_are_the_right_answer_and_a_wrong_one_of_each_kind() -> None:
    places: Counter[int] = Counter()
    for example in load("train", "choice", limit=600):
        assert example.choices is not None and len(set(example.choices)) == 4
        answer = str(example.fields["answer"])
        assert example.prompt == f"What is {Item(1, *_problem(example)).expression}?" and example.target == answer
        assert dict(example.fields["target_scores"]) == {choice: float(choice == answer) for choice in example.choices}
        wrong = [choice for choice in example.choices if choice != answer]
        last_digit = [choice for choice in wrong if choice[-1] == answer[-1]]
        magnitude = [c for c in wrong if c not in last_digit and c[:-1] == answer[:-1] and len(c) == len(answer)]
        neither = [c for c in wrong if c[-1] != answer[-1] and (len(c), c[0]) != (len(answer), answer[0])]
        assert len(last_digit) == 1 and magnitude and neither and {*last_digit, *magnitude, *neither} == set(wrong)
        assert len(answer) == 1 or len(magnitude) == len(neither) == 1  # one digit can be of both kinds
        assert "correct" not in example.labels and example.labels["carry"] in (0, 1)
        places[example.choices.index(answer)] += 1
    assert min(places.values()) > 100  # the right one stands at every place about as often


def _problem(example: sn.Example) -> tuple[str, int, int]:
    return example.fields["operation"], example.fields["a"], example.fields["b"]


def test_the_choices_of_an_item_do_not_depend_on_what_else_is_drawn() -> None:
    few = {example.id: example for example in load("train", "choice", limit=40)}
    many = {example.id: example for example in load("train", "choice", limit=400)}
    assert few and all(many[name] == example for name, example in few.items())


def test_choices_of_one_digit_answers_differ() -> None:
    for item in [item for operation in OPERATIONS for item in enumerate_subtask(operation, 1)]:
        for seed in range(5):
            choices = arithmetic.drawn_choices(item, seed)
            assert len(choices) == 4 and sum(choices.values()) == 1 and choices[str(item.answer)] == 1


def test_a_negative_answer_of_a_file_has_negative_wrong_ones() -> None:
    rng = random.Random(0)
    for _ in range(50):
        assert str(arithmetic.wrong_answer(-13, "last_digit", rng)) in {f"-{tens}3" for tens in range(2, 10)}
        assert arithmetic.wrong_answer(-13, "magnitude", rng) in set(range(-19, -9)) - {-13}
        assert arithmetic.wrong_answer(-13, "neither", rng) < 0
    assert Item(1, "subtraction", 2, 5).carry is True


def test_every_item_of_a_small_subtask_can_be_had() -> None:
    assert len(items_of("1_digit_addition")) == 100 and len(items_of("1_digit_multiplication")) == 100
    assert len(items_of("1_digit_subtraction")) == 55
    assert [(item.a, item.b) for item in items_of("1_digit_division")] == [
        (a, b) for a in range(1, 10) for b in range(1, 10) if a % b == 0
    ]
    assert len(items_of("1_digit_division")) == 23
    assert {item.answer for item in items_of("2_digit_division")} == set(range(1, 10))
    with pytest.raises(sn.DataError) as error:
        items_of("3_digit_addition")
    assert str(error.value) == (
        "arithmetic: '3_digit_addition' has too many items to list; those that can be listed: "
        "1_digit_addition, 2_digit_addition, 1_digit_subtraction, 2_digit_subtraction, "
        "1_digit_multiplication, 2_digit_multiplication, 1_digit_division, 2_digit_division"
    )
    with pytest.raises(sn.DataError) as error:
        items_of("2_digit_adition")
    assert str(error.value) == (
        f"arithmetic: no subtask '2_digit_adition'; did you mean '2_digit_addition'? known: {', '.join(SUBTASKS)}"
    )


@pytest.mark.parametrize("name", ["arithmetic", "arithmetic-open", "arithmetic-choice"])
@pytest.mark.parametrize("subtask", SUBTASKS)
def test_every_subtask_is_a_task_whose_splits_can_be_had(name: str, subtask: str) -> None:
    task = sn.get_task(f"{name}/{subtask}")
    assert set(task.options) == {"path", "hub", "revision"} and task.version == "2"
    sizes = {"train": 12, "validation": 6, "discovery": 12, "heldout": 6}
    splits = load_splits(task, sizes, seed=0, options={})  # type: ignore[arg-type]
    assert {example.fields["subtask"] for examples in splits.values() for example in examples} == {subtask}
    assert len(data_hash(splits)) == 16


def test_what_is_registered() -> None:
    tasks = {name: sn.get_task(name) for name in ("arithmetic", "arithmetic-open", "arithmetic-choice")}
    assert {name: (task.kind, task.form, task.chance) for name, task in tasks.items()} == {
        "arithmetic": ("choice", "verification", 0.5),
        "arithmetic-open": ("open", "open", 0.0),
        "arithmetic-choice": ("choice", "multiple choice", 0.25),
    }
    for task in tasks.values():
        assert len(task.subtasks) == 20 and task.subtasks["2_digit_addition"] == {
            "operations": ["addition"],
            "digits": [2],
        }
        assert sum(task.sizes.values()) == 3300
        assert len(task.load("validation")) == task.sizes["validation"]


def test_what_the_prompt_is_tuned_on() -> None:
    tuned_on = sn.get_task("arithmetic/2_digit_addition").tuned_on
    assert tuned_on is not None
    given = {"path": None, "hub": None, "revision": None}
    rest = "other items of the same subtasks"
    assert tuned_on(**given) == f"generated arithmetic, {rest}"
    assert tuned_on(**{**given, "path": "here/bench"}) == f"bench, {rest}"
    assert tuned_on(**{**given, "path": "here/2_digit_addition/task.json"}) == f"2_digit_addition/task.json, {rest}"
    assert tuned_on(**{**given, "hub": "a/b"}) == f"a/b, {rest}"
    assert tuned_on(**{**given, "hub": "a/b", "revision": "abc"}) == f"a/b at abc, {rest}"


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


def test_options_that_cannot_be() -> None:
    for options, message in (
        ({"digits": 2}, "arithmetic.digits: 2 must be a list; known: [1, 2, 3, 4, 5]"),
        ({"path": "a", "hub": "b/c"}, "arithmetic: both path 'a' and hub 'b/c' are given; give one of them"),
        (
            {"revision": "abc"},
            "arithmetic.revision: 'abc' is given without arithmetic.hub, the data set it belongs to",
        ),
    ):
        with pytest.raises(sn.DataError) as error:
            load("train", **options)
        assert str(error.value) == message


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(sn.DataError, match=r"arithmetic.operations: \['power'\]; known: \['addition'"):
        load("train", operations=["power"])
    with pytest.raises(sn.DataError, match="arithmetic.digits: empty"):
        load("train", digits=[])


def test_a_subtask_that_is_used_up_gives_what_it_has() -> None:
    items = draw_items("heldout", 500, 0, ["division"], [3])
    assert 100 < len(items) < 500 and len({(item.a, item.b) for item in items}) == len(items)


def test_the_choices_are_those_of_the_file(tmp_path: Path) -> None:
    path = str(write(tmp_path / "task.json", [SUM]))
    found = {e.id: e for split in SPLITS for e in arithmetic.load(split, form="choice", path=path)}
    example = found["2_digit_addition/12/47"]
    assert (example.choices, example.target) == (("a house", "60", "59"), "59")
    assert example.fields["target_scores"] == {"a house": 0.0, "60": 0.0, "59": 1.0}
    registry = sn.load_registry()
    assert set_up(registry, "arithmetic-choice", {"path": path}).task.chance is None
    assert set_up(registry, "arithmetic-choice", {}).task.chance == 0.25


def test_a_file_without_choices_is_refused_in_the_choice_form_only(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "target_scores"} for row in [SUM]]
    file = write(tmp_path / "task.json", rows)
    split = Item(2, "addition", 12, 47).split
    for form in ("open", "verification"):
        assert len(arithmetic.load(split, form=form, path=str(file))) == 1
    with pytest.raises(sn.DataError) as error:
        arithmetic.load(split, form="choice", path=str(file))
    assert str(error.value) == (
        f"{file}: example 0: no target_scores, the choices of arithmetic-choice; "
        "give a file that has them, or use arithmetic-open or arithmetic"
    )
    write(file, [SUM | {"target_scores": {"58": 1.0, "59": 0.5}}])
    with pytest.raises(sn.DataError) as error:
        arithmetic.load(split, form="choice", path=str(file))
    assert str(error.value) == (
        f"{file}: example 0: '58' has the highest of the target_scores, but 12 plus 47 is 59; "
        "correct the example or leave it out"
    )
