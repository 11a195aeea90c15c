from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skillneurons as sn
from skillneurons.cli import main
from skillneurons.metric_row import metric_row
from skillneurons.plugin_calls import PluginCall, call_plugin, error_line
from skillneurons.registry import Registry, load_registry
from skillneurons.task_setup import grade_text, set_up

PLUGIN = """import skillneurons as sn
from skillneurons.statistics import Accumulator


def per_example(example, output):
    return {}[output.text]


def load(split, *, limit=None, seed=0):
    if split == "train":
        raise OSError(f"no file {split}")
    return [sn.Example(split, "p", "t")]


class Sums(Accumulator):
    def update(self, activations, values):
        return values[:, self.n_columns]


@sn.hookimpl
def register_tasks(register):
    register(sn.Task("mine", "1", load, kind="open", grade=lambda example, text: {"correct": text + 1}))
    register(sn.Task("marked", "1", load, kind="generation", rubric=lambda example: {"a": "?"}, marks=lambda e, t, p: p,
                     options={"grader": "quits"}))


@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("lost", per_example))


@sn.hookimpl
def register_attributions(register):
    register("sums", Sums)


def make():
    def grade(example, text, rubric, grading):
        exit(3)
    return grade


@sn.hookimpl
def register_graders(register):
    register(sn.Grader("quits", make))


@sn.hookimpl
def cell_finished(result):
    if result.key == "stop":
        exit("enough")
    raise ValueError(f"  {object()}\\n  two lines")
"""
ODD_COLUMNS = """import skillneurons as sn


def columns(task):
    raise LookupError(task.name)


@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("odd", lambda example, output: {}, columns=columns))
"""
EXAMPLE = sn.Example("e1", "p", "t")


def place(path: str, text: str) -> str:
    """Return file and line where the plugin has a text."""
    (line,) = [i for i, line in enumerate(PLUGIN.splitlines(), 1) if text in line]
    return f"{path}:{line}"


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    return str(file)


@pytest.fixture
def registry(path: str) -> Registry:
    return load_registry([path], strict=True)


def test_a_metric_that_raises(registry: Registry, path: str) -> None:
    with pytest.raises(sn.PluginError) as error:
        metric_row(registry.metric("lost"), ["lost"], EXAMPLE, sn.Output("x", 1.0, 0.0))
    assert str(error.value) == "metric 'lost', per_example, example 'e1': KeyError: 'x'"
    assert registry.told(error.value, "cell k1") == (
        f"plugin mine ({place(path, 'output.text]')}) failed in hook register_metrics (metric 'lost', per_example, example 'e1') for cell k1: "
        "KeyError: 'x'"
    )


def test_a_task_that_cannot_grade(registry: Registry, path: str) -> None:
    with pytest.raises(sn.PluginError) as error:
        grade_text(registry.task("mine"), EXAMPLE, "x")
    assert registry.told(error.value, "cell k1") == (
        f"plugin mine ({place(path, 'text + 1')}) failed in hook register_tasks (task 'mine', grade, example 'e1') for cell k1: "
        'TypeError: can only concatenate str (not "int") to str'
    )


def test_a_grader_that_ends_the_program_is_named_instead_of_the_task(registry: Registry, path: str) -> None:
    task = set_up(registry, "marked", {}).task
    with pytest.raises(sn.PluginError) as error:
        grade_text(task, EXAMPLE, "x")
    assert registry.told(error.value) == (
        f"plugin mine ({place(path, 'exit(3)')}) failed in hook register_graders (grader 'quits', grade, example 'e1'): SystemExit: 3"
    )


def test_an_accumulator_that_raises_is_found_by_its_file(registry: Registry, path: str) -> None:
    with pytest.raises(IndexError) as error:
        registry.attribution("sums")(2, 1).update(np.zeros((3, 2)), np.zeros((3, 1)))
    told = registry.told(error.value, "cell k1")
    assert told == (
        f"plugin mine ({place(path, 'values[:')}) failed in hook register_attributions (Sums.update) for cell k1: "
        "IndexError: index 1 is out of bounds for axis 1 with size 1"
    )


def test_what_no_plugin_raised_is_told_as_it_is(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError) as error:
        _ = 1 / 0
    assert registry.told(error.value, "cell k1") == "ZeroDivisionError: division by zero"
    assert registry.told(sn.UserError("mend it"), "cell k1") == "mend it"


def test_an_observer_is_named_with_its_line_and_its_text_is_the_same_in_every_run(
    registry: Registry, path: str
) -> None:
    class Cell:
        key = "k1"

    (line,) = registry.notify("cell_finished", result=Cell())
    assert line == (
        f"plugin mine ({place(path, 'two lines')}) failed in hook cell_finished for cell k1: ValueError: <object object at 0x...> two lines"
    )
    Cell.key = "stop"
    (line,) = registry.notify("cell_finished", result=Cell())
    assert (
        line == f"plugin mine ({place(path, 'enough')}) failed in hook cell_finished for cell stop: SystemExit: enough"
    )


def test_a_run_whose_task_cannot_load_ends_with_the_plugin(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["run", "-p", path, "-t", "mine", "-M", "lost", "-m", "pocket", "-o", str(tmp_path / "runs")]
    assert main(line) == 2
    assert capsys.readouterr().err == (
        f"skillneurons: error: plugin mine ({place(path, 'OSError')}) failed in hook register_tasks (task 'mine', load, train split): "
        "OSError: no file train\n"
    )


def test_columns_that_raise_leave_the_list_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "odd.py"
    file.write_text(ODD_COLUMNS)
    assert main(["list", "tasks", "--json", "-p", str(file)]) == 0
    printed = capsys.readouterr()
    assert all("odd" not in row["columns"] and row["columns"]["confidence"] for row in json.loads(printed.out))
    assert printed.err == (
        f"skillneurons: warning: plugin odd ({file}:5) failed in hook register_metrics (metric 'odd', columns, "
        "task 'arithmetic'): LookupError: arithmetic\n"
    )
    assert main(["validate", "-p", str(file), "-M", "odd", "-t", "hans"]) == 2
    assert capsys.readouterr().err == (
        f"skillneurons: error: plugin odd ({file}:5) failed in hook register_metrics (metric 'odd', columns, task 'hans'): "
        "LookupError: hans\n"
    )


def test_what_a_plugin_prints_is_no_part_of_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "loud.py"
    file.write_text("print('one')\n" + ODD_COLUMNS.replace("raise LookupError(task.name)", "print('two'); return ()"))
    assert main(["list", "tasks", "--json", "-p", str(file)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) and set(printed.err.splitlines()) == {"one", "two"}


def test_an_interrupt_is_not_swallowed(tmp_path: Path) -> None:
    file = tmp_path / "stopped.py"
    file.write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_registry([str(file)])

    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_plugin(PluginCall("task", "t", "load"), stopped)


def test_the_line_of_an_error() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert error_line(ValueError()) == "ValueError"
    assert error_line(ValueError("a\n b")) == "ValueError: a b"
    assert error_line(Unspeakable()) == "Unspeakable: (its text cannot be shown: RuntimeError)"
    assert error_line(ValueError("x" * 1001)) == f"ValueError: {'x' * 1000}..."


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (
            "import skillneurons as sn\nsn.Tasks\n",
            2,
            "AttributeError: module 'skillneurons' has no attribute 'Tasks'; skillneurons {v} has no 'Tasks'; did you mean 'Task'?",
        ),
        (
            "from skillneurons import Metrics\n",
            1,
            "ImportError: cannot import name 'Metrics' from 'skillneurons' ({package}/__init__.py); "
            "skillneurons {v} has no 'Metrics'; did you mean 'Metric'?",
        ),
        (
            "import skillneurons as sn\n@sn.hookimpl\ndef register_tasks(register):\n    register(sn.Task('x'))\n",
            4,
            "TypeError: Task.__init__() missing 2 required positional arguments: 'version' and 'load'; "
            "skillneurons.Task of {v} needs name, version, load",
        ),
        (
            "import skillneurons as sn\n@sn.hookimpl\ndef register_tasks(registry, config):\n    pass\n",
            None,
            "register_tasks asks for 'registry', 'config', but skillneurons {v} calls it with 'register'; name its arguments so",
        ),
        (
            "import skillneurons as sn\n@sn.hookimpl\ndef register_skills(register):\n    pass\n",
            None,
            "no hook named 'register_skills'; did you mean 'register_tasks'? known: cell_finished, register_attributions, "
            "register_graders, register_metrics, register_tasks",
        ),
    ],
)
def test_a_plugin_of_another_version_is_told_what_this_one_has(
    tmp_path: Path, text: str, line: int | None, reason: str
) -> None:
    file = tmp_path / "older.py"
    file.write_text(text)
    record = load_registry([str(file)]).records[-1]
    assert record.error == reason.format(v=sn.__version__, package=Path(sn.__file__).parent) and record.line == line
