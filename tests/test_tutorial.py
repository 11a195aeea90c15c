"""The tutorial, run as a reader would: every command in order; and a tutorial that does not hold is seen."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from making.tutorial import PAGE, Told, faults, run, steps

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tutorial_holds(tmp_path: Path) -> None:
    todo = steps(TEXT)
    told = run(todo, tmp_path)
    assert faults(todo, told) == []
    assert list(told.outputs) == [step.line for step in todo]
    assert not [dist.name for dist in importlib.metadata.distributions() if "shouting" in dist.name]
    assert not list((tmp_path / "work").iterdir())  # it cleans up behind itself


def test_the_tutorial_is_about_all_of_it() -> None:
    todo = steps(TEXT)
    typed = "\n".join(step.code for step in todo if not step.file)
    for command in (
        *("plugins new metric shouting", "pytest", "pip install", "plugins list", "plugins check shouting", "validate"),
        *("run small.yaml --dry-run", "run small.yaml\n", "show runs", "leaderboard runs", "compare runs", "uninstall"),
    ):
        assert command in typed
    assert sum(len(step.promised) for step in todo) > 15
    fences = TEXT.count("\n```") // 2
    assert len(todo) == fences, "a fence of the tutorial is neither run nor written to a file"


PAGE_OF_TWO = """# Two
```bash
cd PLACE && echo one   two
# -> one two
x=3
```
text
```text
not run
```
```python title="a file.py"
print('$x "three"')
```
```bash
python "a file.py" && echo $x
# -> "three"
# -> 3
```
"""


def test_fences_run_in_one_shell_and_files_are_written_in_between(tmp_path: Path) -> None:
    page = PAGE_OF_TWO.replace("PLACE", str(tmp_path))
    todo = steps(page)
    assert [(step.line, step.file, step.promised) for step in todo] == [
        (2, "", ["one two"]),
        (11, "a file.py", []),
        (14, "", ['"three"', "3"]),
    ]
    told = run(todo, tmp_path)
    assert faults(todo, told) == []
    assert told.code == 0 and (tmp_path / "a file.py").read_text() == "print('$x \"three\"')\n"


def test_a_command_that_fails_ends_it_and_is_named(tmp_path: Path) -> None:
    todo = steps("```bash\necho begun\nls nowhere\necho never\n```\n```bash\necho not reached\n```\n")
    (told,) = faults(todo, run(todo, tmp_path))
    assert told.startswith("line 1: exit code 2: begun\n") and "nowhere" in told and "never" not in told


@pytest.mark.parametrize(
    ("output", "fault"),
    [("b a", "'b' is not in the output: b a"), ("a", "'b' is not in the output: a"), ("a b", None), ("a\n  b", None)],
)
def test_what_is_promised_comes_in_order(output: str, fault: str | None) -> None:
    todo = steps("```bash\nx\n# -> a\n# -> b\n```\n")
    assert faults(todo, Told({1: output}, 0, 0.0)) == ([] if fault is None else [f"line 1: {fault}"])


def test_nothing_of_it_reaches_the_environment_that_runs_it(tmp_path: Path) -> None:
    (told,) = run(
        steps("```bash\npython -c 'import sys; print(sys.prefix)'\nskillneurons --version\n```\n"), tmp_path
    ).outputs.values()
    prefix, version = told.split("\n")[:2]
    assert prefix == str(tmp_path / "venv")
    assert version == f"skillneurons {importlib.metadata.version('skillneurons')}"
