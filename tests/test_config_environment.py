"""Settings from environment variables: which name means which setting, and who wins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.cli import main
from skillneurons.config import load_config, plugins_of
from skillneurons.config_environment import PREFIX, RESERVED
from skillneurons.errors import ConfigError
from skillneurons.registry import Registry, load_registry
from skillneurons.settings import Config, all_settings

FILE = "tasks: [hans, arithmetic-open]\nseeds: [7]\nlimit: 70\nprompt:\n  steps: 70\n  lr: 0.7\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "my.yaml"
    path.write_text(FILE)
    return str(path)


def given(file: str, *overrides: str, registry: Registry | None = None, **variables: str) -> Config:
    environ = {f"{PREFIX}{name}": value for name, value in variables.items()}
    return load_config(file, overrides, environ=environ, registry=registry)


def test_a_variable_wins_over_the_file_and_loses_to_the_command_line(file: str) -> None:
    config = given(file, PROMPT__STEPS="100", LIMIT="50", SEEDS="[0, 1]", PROMPT__LR="1e-3")
    assert (config.prompt.steps, config.limit, config.seeds, config.prompt.lr) == (100, 50, [0, 1], 0.001)
    assert given(file, "prompt.steps=9", PROMPT__STEPS="100").prompt.steps == 9
    environ = {f"{PREFIX}SEEDS": "[0]", f"{PREFIX}LIMIT": "50", f"{PREFIX}TASKS": "[skillmix]", f"{PREFIX}OUTPUT": "a"}
    config = load_config(file, seeds=[3], limit=5, tasks=["hans"], output="b", environ=environ)
    assert (config.seeds, config.limit, list(config.tasks), config.output) == ([3], 5, ["hans"], "b")


def test_nothing_is_read_that_is_not_given(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}LIMIT", "5")
    assert load_config(file).limit == 70


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = [re.sub(r"[^A-Z0-9]", "_", part.upper()) for key, _ in all_settings() for part in [key.replace(".", "__")]]
    assert len(set(names)) == len(names) > 50
    assert not {name.removeprefix(PREFIX) for name in RESERVED} & set(names)


def test_options_of_tasks(file: str) -> None:
    registry = load_registry()
    config = given(
        file,
        registry=registry,
        TASKS__ARITHMETIC_OPEN__DIGITS="[1]",
        TASKS__HANS__PATH="x.txt",
        TASKS__SKILLMIX__K="3",  # not to run: passed over, as in a file
        TASKS__ARITHMETIC_2_DIGIT_ADDITION__PATH="y.json",
    )
    assert config.tasks == {"hans": {"path": "x.txt"}, "arithmetic-open": {"digits": [1]}}
    assert given(file, TASKS__HANS="{path: a}", TASKS__HANS__SPLIT="row").tasks["hans"] == {"path": "a", "split": "row"}
    assert given(file, "tasks.hans.path=b", TASKS__HANS__PATH="a").tasks["hans"] == {"path": "b"}
    assert given(file, TASKS__NOBODY__X="1").limit == 70  # without a registry nobody knows which tasks there are


def test_options_of_options_are_small_letters(file: str) -> None:
    names = {
        "TASKS": "[skillmix]",
        "TASKS__SKILLMIX__GRADER": "judge",
        "TASKS__SKILLMIX__GRADER_OPTIONS__MODEL": "pocket",
    }
    config = given(file, registry=load_registry(), **names)
    assert config.tasks == {"skillmix": {"grader": "judge", "grader_options": {"model": "pocket"}}}


def test_a_task_that_is_chosen_on_the_command_line_takes_its_options(file: str) -> None:
    config = load_config(file, tasks=["skillmix"], environ={f"{PREFIX}TASKS__SKILLMIX__K": "3"})
    assert config.tasks == {"skillmix": {"k": 3}}


def test_a_name_that_can_mean_two_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text("tasks: [my-task, my.task, other]\n")
    assert load_config(str(path), environ={f"{PREFIX}TASKS__OTHER": "{a: 1}"}).tasks["other"] == {"a": 1}
    with pytest.raises(ConfigError) as error:
        load_config(str(path), environ={f"{PREFIX}TASKS__MY_TASK": "{a: 1}"}, registry=None)
    assert str(error.value) == (
        "SKILLNEURONS_TASKS__MY_TASK: can mean tasks.my-task or tasks.my.task; write it in the file or after --set"
    )


def test_reserved_names_are_no_settings(file: str) -> None:
    assert load_config(file, environ=dict.fromkeys(RESERVED, "1")) == load_config(file)


def test_plugins_come_from_the_environment_too(file: str) -> None:
    environ = {f"{PREFIX}PLUGINS": "[json]"}
    assert plugins_of(file, environ=environ) == ["json"] == plugins_of(None, environ=environ, blank=True)
    assert plugins_of(file, ["plugins=[ast]"], environ) == ["ast"]
    assert plugins_of(file, environ={f"{PREFIX}PLUGINS": "["}) == []


def test_run_in_a_notebook_reads_what_it_is_given(file: str) -> None:
    with pytest.raises(ConfigError, match="SKILLNEURONS_LIMIT: limit: input should be greater than 0, got 0"):
        sn.run(file, environ={f"{PREFIX}LIMIT": "0"})


def test_the_commands_read_it(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{PREFIX}SEEDS", "[0, 1, 2]")
    assert main(["validate", file]) == 0 and capsys.readouterr().out == "ok: 18 cells\n"
    assert main(["validate", file, "--seed", "3"]) == 0 and capsys.readouterr().out == "ok: 6 cells\n"
    monkeypatch.setenv(f"{PREFIX}TASKS__HANS__SPLIT", "nowhere")
    for command in (["score", "hans", "x.csv"], ["predict", "hans", "-m", "pocket", "-o", str(tmp_path / "x.csv")]):
        assert main(command) == 2 and "nowhere" in capsys.readouterr().err


def test_limit_counts_for_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = sn.get_task("hans").load("heldout", limit=1)
    predictions = tmp_path / "p.csv"
    predictions.write_text(f"pairID,gold_label\n{example.id},entailment\n")
    command = ["score", "hans", str(predictions), "--partial", "--split", "heldout"]
    monkeypatch.setenv(f"{PREFIX}LIMIT", "3")
    assert main(command) == 0 and "1 of 3 examples have a prediction" in capsys.readouterr().err
    assert main([*command, "--limit", "2"]) == 0 and "1 of 2 examples have a prediction" in capsys.readouterr().err
