"""Arithmetic questions read from files in BIG-bench's form and from a hub copy; and every way they can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from arithmetic_files import row_of, write
from skillneurons.tasks import arithmetic
from skillneurons.tasks.arithmetic_items import WORDS, Item
from skillneurons.tasks.arithmetic_source import Question, hub_questions, read_questions
from skillneurons.types import SPLITS

ROWS = [row_of(Item(2, "addition", 12, 47)), row_of(Item(2, "addition", 90, 10))]


def message_of(path: Path) -> str:
    with pytest.raises(sn.DataError) as error:
        read_questions(path)
    return str(error.value)


def subtasks_of(questions: list[Question]) -> list[str]:
    return [question.item.subtask for question in questions]


def test_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "task.json", ROWS)
    first, second = read_questions(file)
    assert first == Question(
        Item(2, "addition", 12, 47),
        "What is 12 plus 47?",
        "59",
        f"{file}: example 0",
        {"a house": 0.0, "60": 0.0, "59": 1.0},
    )
    assert (second.item.answer, second.place) == (100, f"{file}: example 1")


def test_the_subtask_is_the_files_name_or_follows_from_the_operands(tmp_path: Path) -> None:
    rows = [row_of(Item(1, "addition", 3, 4)), row_of(Item(3, "addition", 7, 120))]
    assert subtasks_of(read_questions(write(tmp_path / "a.json", rows))) == ["2_digit_addition"] * 2
    found = read_questions(write(tmp_path / "b.json", rows, "my sums"))
    assert subtasks_of(found) == ["1_digit_addition", "3_digit_addition"]
    rows = [row_of(Item(2, operation, 84, 12)) for operation in WORDS]
    assert subtasks_of(read_questions(write(tmp_path / "c.json", rows, "all"))) == [
        f"2_digit_{operation}" for operation in WORDS
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Q: What is 12 plus 47?\nA:",
        "\nQ: What is 12 plus 47?\nA: ",
        "Q:\nWhat is 12 plus 47?\n",
        " What is 12 plus 47? ",
    ],
)
def test_the_words_around_a_question_are_kept(tmp_path: Path, text: str) -> None:
    file = write(tmp_path / "task.json", [row_of(Item(2, "addition", 12, 47), input=text)])
    [question] = read_questions(file)
    assert (question.item, question.prompt) == (Item(2, "addition", 12, 47), text)
    split = question.item.split
    for form in ("open", "choice"):
        assert [one.prompt for one in arithmetic.load(split, form=form, path=str(file))] == [text]
    [statement] = arithmetic.load(split, form="verification", path=str(file))
    assert statement.prompt == "12 plus 47 equals 59. Correct?"


def test_a_target_below_zero_a_decimal_zero_and_a_list(tmp_path: Path) -> None:
    rows = [
        row_of(Item(1, "subtraction", 2, 5)),
        row_of(Item(1, "division", 8, 2), target="4.0"),
        row_of(Item(1, "addition", 8, 2), target=["10", "10.0"]),
        row_of(Item(1, "division", 0, 2)),
    ]
    questions = read_questions(write(tmp_path / "task.json", rows, "any"))
    assert [question.target for question in questions] == ["-3", "4.0", "10", "0"]
    for form in ("open", "verification", "choice"):
        examples = [e for split in SPLITS for e in arithmetic.load(split, form=form, path=str(tmp_path))]
        assert len(examples) == 4


def test_a_question_that_stands_twice_is_kept_once(tmp_path: Path) -> None:
    rows = [*ROWS, row_of(Item(2, "addition", 12, 47), input="Q: What is 12 plus 47?")]
    assert [question.place[-1] for question in read_questions(write(tmp_path / "task.json", rows))] == ["0", "1"]


def test_a_folder_and_what_is_below_it(tmp_path: Path) -> None:
    write(tmp_path / "2_digit_addition" / "task.json", ROWS)
    write(tmp_path / "1_digit_division" / "task.json", [row_of(Item(1, "division", 8, 2))], "1_digit_division")
    (tmp_path / "2_digit_addition" / "results.json").write_text("{}", "utf-8")
    (tmp_path / "task.json").write_text('{"name": "arithmetic", "description": "stands above the subtasks"}', "utf-8")
    expected = ["1_digit_division", "2_digit_addition", "2_digit_addition"]
    assert subtasks_of(read_questions(tmp_path)) == expected
    assert subtasks_of(read_questions(str(tmp_path))) == expected


def test_a_folder_of_json_files(tmp_path: Path) -> None:
    write(tmp_path / "b.json", ROWS)
    write(tmp_path / "a.json", [row_of(Item(1, "division", 8, 2))], "1_digit_division")
    assert subtasks_of(read_questions(tmp_path)) == ["1_digit_division", "2_digit_addition", "2_digit_addition"]


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    assert message_of(tmp_path) == (
        f"arithmetic.path: the folder {str(tmp_path)!r} has no task.json, in it or below, and no other .json file; "
        "give a BIG-bench task.json, or a folder that holds some"
    )
    assert message_of(tmp_path / "no") == (
        f"arithmetic.path: no file or folder {str(tmp_path / 'no')!r}; give a BIG-bench task.json, or a folder that holds some"
    )
    file = tmp_path / "task.json"
    file.write_text('{"name": "x",\n "examples": [\n}', "utf-8")
    assert message_of(file) == f"{file}:3: not JSON (Expecting value, column 1); mend the line, or get the file again"
    file.write_bytes(b'{"name": "\xff"}')
    assert message_of(file) == f"{file}: not UTF-8 text (invalid start byte, byte 10); get the file again"
    file.write_text("[]", "utf-8")
    assert message_of(file) == f"{file}: list where an object with name and examples is needed"


def test_a_file_without_examples(tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    remedy = "a BIG-bench task.json lists them: {input, target, target_scores}"
    assert message_of(write(file, [])) == f"{file}: no examples; {remedy}"
    assert message_of(write(file, {"input": 3})) == f"{file}: examples is a dict; a list of examples is needed"
    file.write_text('{"name": "2_digit_addition"}', "utf-8")
    assert message_of(file) == f"{file}: no key 'examples'; {remedy}"
    write(tmp_path / "other" / "task.json", ROWS)
    file.rename(tmp_path / "other" / "empty.json")
    write(tmp_path / "beside" / "task.json", [])
    assert message_of(tmp_path) == f"{tmp_path / 'beside' / 'task.json'}: no examples; {remedy}"


NOT_UNDERSTOOD = (
    "is not understood; needed is 'What is A plus B?' (or minus, times, divided by) with whole numbers of one to five "
    "digits; correct the example or leave it out"
)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (["What is 1 plus 1?"], "list where an object with input and target is needed"),
        ({"target": "2"}, "no key 'input'; an example has input, target and target_scores"),
        ({"input": "What is 1 plus 1?"}, "no key 'target'; an example has input, target and target_scores"),
        (row_of(Item(1, "addition", 1, 1), input="1 + 1 ="), f"the input '1 + 1 =' {NOT_UNDERSTOOD}"),
        (row_of(Item(1, "addition", 1, 1), input=3), f"the input 3 {NOT_UNDERSTOOD}"),
        (
            {"input": "What is 1,000 plus 1?", "target": "1001"},
            f"the input 'What is 1,000 plus 1?' {NOT_UNDERSTOOD}",
        ),
        (
            {"input": "What is 100000 plus 1?", "target": "100001"},
            f"the input 'What is 100000 plus 1?' {NOT_UNDERSTOOD}",
        ),
        (
            row_of(Item(2, "addition", 12, 47), target="69"),
            "the target is '69', but 12 plus 47 is 59; correct the example or leave it out",
        ),
        (
            row_of(Item(2, "addition", 12, 47), target=["59", "fifty-nine"]),
            "the target is ['59', 'fifty-nine'], but 12 plus 47 is 59; correct the example or leave it out",
        ),
        (row_of(Item(2, "addition", 12, 47), target=59), "the target must be a text, got 59"),
        (row_of(Item(2, "addition", 12, 47), target=[]), "the target must be a text, got []"),
        (
            row_of(Item(1, "multiplication", 2, 3)),
            "'What is 2 times 3?' does not belong to 2_digit_addition, the name of its file; leave it out",
        ),
        (
            row_of(Item(2, "addition", 12, 47), target_scores={"59": 1}),
            "target_scores must give two or more choices a score each, got {'59': 1}",
        ),
        (
            row_of(Item(2, "addition", 12, 47), target_scores={"59": True, "60": 0}),
            "target_scores gives '59' the score True; a finite number is needed",
        ),
    ],
)
def test_a_row_that_cannot_be(tmp_path: Path, row: Any, fault: str) -> None:
    file = write(tmp_path / "task.json", [ROWS[0], row])
    assert message_of(file) == f"{file}: example 1: {fault}"


@pytest.mark.parametrize("expression", ["7 divided by 2", "7 divided by 0"])
def test_a_division_without_a_whole_result(tmp_path: Path, expression: str) -> None:
    file = write(tmp_path / "task.json", [{"input": f"What is {expression}?", "target": "3"}], "any")
    assert message_of(file) == (
        f"{file}: example 0: {expression} has no whole result; correct the example or leave it out"
    )


def hub_row(item: Item, idx: int) -> dict[str, Any]:
    return {
        "inputs": f"\nQ: What is {item.expression}?\nA: ",
        "targets": [str(item.answer)],
        "multiple_choice_targets": ["a house", str(item.answer), str(item.answer + 2)],
        "multiple_choice_scores": [0, 1, 0],
        "idx": idx,
    }


HUB = {
    "train": [Item(2, "addition", 12, 47), Item(1, "division", 8, 2), Item(5, "addition", 10000, 7)],
    "validation": [Item(2, "addition", 12, 47), Item(3, "multiplication", 100, 999)],
}


def test_a_hub_copy_that_datasets_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "copy"
    (folder / "arithmetic").mkdir(parents=True)
    for split, items in HUB.items():
        rows = [hub_row(item, i) for i, item in enumerate(items)]
        datasets.Dataset.from_list(rows).to_parquet(folder / "arithmetic" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: arithmetic\n  data_files:\n  - split: train\n    path: arithmetic/train-*\n"
        "  - split: validation\n    path: arithmetic/validation-*\n---\n",
        "utf-8",
    )
    questions = hub_questions(str(folder), None)
    assert subtasks_of(questions) == [
        "2_digit_addition",
        "1_digit_division",
        "5_digit_addition",
        "3_digit_multiplication",
    ]
    assert questions[3].place == f"arithmetic.hub {str(folder)!r}, split validation, row 1"
    assert questions[0].target_scores == {"a house": 0.0, "59": 1.0, "61": 0.0}
    found = [e for split in SPLITS for e in arithmetic.load(split, form="choice", hub=str(folder))]
    assert {e.prompt for e in found} == {question.prompt for question in questions}


def test_the_hub_is_asked_for_the_name_and_the_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str, str | None]] = []
    rows = [hub_row(Item(1, "division", 8, 2), 0)]

    def load_dataset(name: str, config: str, *, revision: str | None) -> Any:
        asked.append((name, config, revision))
        return {"train": rows}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(hub_questions("tasksource/bigbench", "abc")) == 1
    assert asked == [("tasksource/bigbench", "arithmetic", "abc")]
    faults = {
        "target": (
            {"targets": ["5"]},
            "the target is ['5'], but 8 divided by 2 is 4; correct the example or leave it out",
        ),
        "scores": (
            {"multiple_choice_scores": [1]},
            "each choice needs one score and must stand once, got ['a house', '4', '6'] and [1]",
        ),
    }
    for change, fault in faults.values():
        rows[0] = hub_row(Item(1, "division", 8, 2), 0) | change
        with pytest.raises(sn.DataError) as error:
            hub_questions("a/b", None)
        assert str(error.value) == f"arithmetic.hub 'a/b', split train, row 0: {fault}"
    rows[0] = {"question": "?"}
    with pytest.raises(sn.DataError) as error:
        hub_questions("a/b", None)
    assert str(error.value) == (
        "arithmetic.hub 'a/b', split train, row 0: no column 'inputs'; needed are inputs and targets"
    )
    rows[0] = hub_row(Item(1, "division", 8, 2), 0) | {"multiple_choice_targets": [], "multiple_choice_scores": []}
    assert hub_questions("a/b", None)[0].target_scores is None
    rows.clear()
    with pytest.raises(sn.DataError) as error:
        hub_questions("a/b", None)
    assert str(error.value) == "arithmetic.hub: 'a/b' has no examples; check name and revision"


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*_: object, **__: object) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(sn.DataError) as error:
        arithmetic.load("train", form="open", hub="a/b")
    assert str(error.value) == (
        "arithmetic.hub: 'a/b' at revision latest cannot be loaded (ConnectionError: no route); "
        "check name and network, or give arithmetic.path"
    )
