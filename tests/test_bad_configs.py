"""Everything that can be wrong with a config, one file each in ``bad_configs``, beside the whole message that it gets.

``bad_changes.yaml`` holds what ``--set`` and the environment can do wrong. ``{file}`` stands for the path of the config,
``{tasks}`` for the names of all tasks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from skillneurons.cli import main
from skillneurons.config import Config, built_in_config, load_config
from skillneurons.errors import ConfigError
from skillneurons.registry import load_registry

HERE = Path(__file__).parent
CORPUS = sorted((HERE / "bad_configs").glob("*.yaml"))
CHANGES: list[dict[str, Any]] = yaml.safe_load((HERE / "bad_changes.yaml").read_text("utf-8"))
DEMO = built_in_config("demo").read_text("utf-8")


REGISTRY = load_registry()


def expected(message: str, path: Path | None = None) -> str:
    return message.replace("{file}", str(path)).replace("{tasks}", ", ".join(sorted(REGISTRY.tasks)))


def test_the_corpora_are_there_and_whole() -> None:
    assert len(CORPUS) > 120 and len(CHANGES) > 50
    assert {path.stem for path in CORPUS} == {path.stem for path in (HERE / "bad_configs").glob("*.txt")}
    assert len({path.read_bytes() for path in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_bad_config_gets_its_whole_message(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["validate", str(path)]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", expected(path.with_suffix(".txt").read_text("utf-8"), path))


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case["name"])
def test_a_bad_change_gets_its_whole_message(
    case: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("changed.yaml").write_text("tasks: [hans, arithmetic-open, skillmix]\nprompt:\n  lr: 0.1\n")
    for name, value in case.get("environ", {}).items():
        monkeypatch.setenv(name, value)
    assert main(["validate", "changed.yaml", *(part for one in case.get("set", []) for part in ("--set", one))]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", expected(case["message"]))


def test_the_command_itself_says_the_same(tmp_path: Path) -> None:
    path = HERE / "bad_configs" / next(path.name for path in CORPUS if path.stem.endswith("-many"))
    environ = {**os.environ, "SKILLNEURONS_CACHE__HOST_GB": "-1"}
    command = [sys.executable, "-m", "skillneurons", "validate", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ, check=False)
    first, _, rest = expected(path.with_suffix(".txt").read_text("utf-8"), path).partition("error: ")
    own = "SKILLNEURONS_CACHE__HOST_GB: cache.host_gb: input should be greater than or equal to 0, got -1\n"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{first}error: {own}{rest}"


SIGNS = (
    "\t",
    "\n",
    " ",
    "'",
    '"',
    "[",
    "]",
    "{",
    "}",
    ":",
    ": ",
    "- ",
    "&a ",
    "*a ",
    "!",
    "|",
    ">",
    "#",
    "%",
    "@",
    "? ",
)
TAGS = ("!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "<<", "---", "...")
VALUES = ("null", "~", ".nan", "-.inf", "1e999", "0x10", "0o17", "1:30", "2024-13-45", "2024-05-01", "yes")
STRANGE = ("\0", "\ufeff", "\ud7ff", "\u2028", "é", "\\", '"\\ud800"', "9" * 5000, "x" * 3000, "[" * 300)
ODD = st.sampled_from([*SIGNS, *TAGS, *VALUES, *STRANGE])


def refused_or_taken(source: str, **given: Any) -> None:
    try:
        config = load_config(source, registry=REGISTRY, **given)
    except ConfigError as error:
        assert str(error) and all(line.isprintable() for line in str(error).split("\n"))
    else:
        assert isinstance(config, Config)


@settings(derandomize=True, deadline=None, max_examples=150, database=None)
@given(st.lists(st.tuples(st.integers(0, len(DEMO)), st.integers(0, 12), ODD), min_size=1, max_size=4))
def test_no_change_of_a_config_is_more_than_a_fault(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, str]]
) -> None:
    text = DEMO
    for place, length, put in changes:
        text = text[:place] + put + text[place + length :]
    path = tmp_path_factory.getbasetemp() / "changed.yaml"
    path.write_bytes(text.encode("utf-8"))
    refused_or_taken(str(path))


KEYS = st.sampled_from(
    ["prompt", "prompt.lr", "tasks", "tasks.hans", "tasks.hans.path", "models", "causal.columns", "x.y"]
)


@settings(derandomize=True, deadline=None, max_examples=150, database=None)
@given(KEYS, st.lists(ODD, max_size=4))
def test_no_value_of_a_change_is_more_than_a_fault(key: str, parts: list[str]) -> None:
    value = "".join(parts)
    refused_or_taken("demo", overrides=[f"{key}={value}", value])
    name = "SKILLNEURONS_" + key.upper().replace(".", "__")
    refused_or_taken("demo", environ={name: value.replace("\0", ""), f"SKILLNEURONS_{value}": "1"})
