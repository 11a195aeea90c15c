"""A task with its options: who grades it, how often, and what majority means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.registry import Registry
from skillneurons.task_setup import majority, set_up, with_options

NAN = math.nan
PLUGIN = """
import math
import skillneurons as sn

ROUNDS = {rounds!r}

def make(strict=False):
    def grade(example, text, rubric, grading):
        return dict(ROUNDS[grading]) if text == "x" else {{"skill": float(strict)}}
    return grade

def marks(example, text, points):
    return {{"correct": points["skill"], "extra": points.get("extra", math.nan)}}

@sn.hookimpl
def register_graders(register):
    register(sn.Grader("fixed", make, version="7", options={{"strict": False}}))

@sn.hookimpl
def register_tasks(register):
    register(sn.Task("writing", "1", lambda split, **options: [], kind="generation",
        options={{"grader": "fixed", "grader_options": None, "gradings": 1, "columns": ["a"]}},
        rubric=lambda example: {{"skill": "Does it?"}}, marks=marks,
        tuned_on=lambda **options: f"texts of {{options['columns']}}",
        fit=lambda **options: {{"label_columns": tuple(options["columns"])}},
        subtasks={{"b": {{"columns": ["b"]}}}}))
"""
EXAMPLE = sn.Example("e1", "p", "t")


def registry(tmp_path: Path, *rounds: Mapping[str, float]) -> Registry:
    file = tmp_path / "writing.py"
    file.write_text(PLUGIN.format(rounds=list(rounds)))
    return sn.load_registry([str(file)], strict=True)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([1], 1),
        ([1, 1, 0], 1),
        ([1, 0, 0], 0),
        ([1, 0], 0),  # a tie gives no point
        ([NAN, 1], 1),
        ([NAN, 1, 0], 0),
        ([NAN, NAN], NAN),
        ([], NAN),
    ],
)
def test_majority(points: list[float], expected: float) -> None:
    assert majority(points) == pytest.approx(expected, nan_ok=True)


def test_the_majority_of_the_gradings_is_marked(tmp_path: Path) -> None:
    found = registry(tmp_path, {"skill": 1, "extra": 1}, {"skill": 0, "extra": 1.0}, {"skill": 1})
    task = set_up(found, "writing", {"gradings": 3}).task
    assert task.grade is not None and task.grade(EXAMPLE, "x") == {"correct": 1.0, "extra": 1.0}
    assert set_up(found, "writing", {"gradings": 2}).task.grade(EXAMPLE, "x")["correct"] == 0.0  # type: ignore[misc]


def test_the_grader_is_told_and_gets_its_options(tmp_path: Path) -> None:
    ready = set_up(registry(tmp_path), "writing", {"grader_options": {"strict": True}})
    assert ready.task.grade is not None and ready.task.grade(EXAMPLE, "y")["correct"] == 1.0
    assert ready.grader is not None and {k: ready.grader[k] for k in ("name", "version", "synthetic")} == {
        "name": "fixed",
        "version": "7",
        "synthetic": False,
    }
    assert len(ready.grader["source_hash"]) >= 12


def test_options_shape_the_task_and_a_part_fixes_its_own(tmp_path: Path) -> None:
    found = registry(tmp_path)
    whole, part = set_up(found, "writing", {"columns": ["c"]}), set_up(found, "writing/b", {})
    assert (whole.task.label_columns, whole.tuned_on) == (("c",), "texts of ['c']")
    assert (part.task.label_columns, part.tuned_on, part.task.name) == (("b",), "texts of ['b']", "writing/b")
    assert "columns" not in part.task.options
    with pytest.raises(sn.UserError, match="no part of task 'writing' named 'x'; known: b"):
        found.task("writing/x")
    assert found.source_hash("task", "writing/b") == found.source_hash("task", "writing") != ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grader": "fixd"}, "no grader named 'fixd'; did you mean 'fixed'? known: "),
        (
            {"grader_options": {"stict": 1}},
            "no option of grader 'fixed' named 'stict'; did you mean 'strict'? known: strict",
        ),
        ({"grader_options": 3}, "tasks.writing.grader_options: 3 must be a mapping of the grader's options"),
        ({"grader": 5}, "tasks.writing.grader: 5 must be the name of a grader"),
        (
            {"columns": 5},
            "task 'writing', fit, with grader: 'fixed', ",
        ),
        ({"gradings": 0}, "tasks.writing.gradings: 0 must be a whole number of at least 1"),
        ({"grading": 2}, "no option of task 'writing' named 'grading'; did you mean 'gradings'?"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(sn.UserError) as error:
        set_up(registry(tmp_path), "writing", options)
    assert str(error.value).startswith(message)


def test_the_api_applies_options_too() -> None:
    task = with_options(sn.get_task("skillmix"), {"grader": "judge", "grader_options": {"model": "pocket"}})
    assert task.grade is not sn.get_task("skillmix").grade
    ready = set_up(sn.load_registry(), "skillmix", {"grader": "judge", "grader_options": {"model": "pocket"}})
    assert ready.grader is not None and ready.grader["model_revision"] == sn.resolve_model("pocket")[1]
    with pytest.raises(sn.UserError, match="no option of task 'skillmix' named 'grade'"):
        with_options(sn.get_task("skillmix"), {"grade": 1})


def test_fields_are_fitted_once_and_without_options_too(tmp_path: Path) -> None:
    columns = {"columns": ["c"]}
    fit = lambda **options: {"label_columns": tuple(options["columns"])}  # noqa: E731 - as a plugin may write it
    task = sn.Task("t", "1", lambda split, **options: [], options={"columns": ["a"]}, fit=fit)
    fitted = with_options(task, columns)
    assert with_options(task, None).label_columns == ("a",) and fitted.label_columns == ("c",)
    assert with_options(fitted, None) is fitted and with_options(fitted, columns) is fitted
    drawn = set_up(sn.load_registry(), "arithmetic-choice", {"path": str(tmp_path)}).task
    assert (drawn.chance, with_options(drawn, None).chance) == (None, None)


def test_a_point_is_one_zero_or_nan(tmp_path: Path) -> None:
    task = set_up(registry(tmp_path, {"skill": 0.5}), "writing", {}).task
    with pytest.raises(sn.CellError) as error:
        task.grade(EXAMPLE, "x")  # type: ignore[misc]
    assert str(error.value) == "grader 'fixed', example 'e1': 'skill' got 0.5; a point is 1, 0 or NaN"


def test_a_task_without_a_rubric_grades_itself(parity: sn.Task) -> None:
    found = sn.load_registry()
    ready = set_up(found, "arithmetic", {})
    assert ready.grader is None and ready.task.grade is None
    assert replace(parity, subtasks={}).grade is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("sn.Task('x', '1', list, kind='generation', rubric=len)", "task 'x': rubric and marks go together"),
        ("sn.Task('x', '1', list, follow_up=len)", "task 'x': a choice has no second turn"),
        ("sn.Task('x', '1', list, subtasks={'a b': {}})", "subtask name 'a b': use letters"),
    ],
)
def test_a_task_with_a_grader_is_checked(tmp_path: Path, call: str, message: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(f"import skillneurons as sn\n@sn.hookimpl\ndef register_tasks(register):\n    register({call})\n")
    assert message in sn.load_registry([str(file)]).warnings[0]


def test_a_grader_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "bad.py"
    for call, message in (
        ("3", "register takes a skillneurons.Grader, got int"),
        ("sn.Grader('g', 3)", "grader 'g': make must be a function, got int"),
        ("sn.Grader('rules', len)", "grader 'rules' is already taken by plugin skillmix_rules"),
    ):
        file.write_text(
            f"import skillneurons as sn\n@sn.hookimpl\ndef register_graders(register):\n    register({call})\n"
        )
        assert message in sn.load_registry([str(file)]).warnings[-1]
