from __future__ import annotations

import json
from pathlib import Path

import pytest
from skillneurons.cli import main


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.out == ""
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "-m", "./nowhere"], "model './nowhere': no such folder; give a folder saved by save_pretrained"),
        (["run", "-t", "hanz"], "no task named 'hanz'; did you mean 'hans'?"),
        (["run", "-M", "labelz"], "no metric named 'labelz'; did you mean 'labels'?"),
        (["run", "--set", "prompt.stepz=1"], "unknown setting; did you mean 'steps'?"),
        (["run", "--set", "attribution.statistic=persons"], "no attribution named 'persons'; did you mean 'pearson'?"),
        (
            ["run", "--set", "attribution.position=first"],
            "input should be 'last', 'max', 'mean' or 'input_last', got 'first'",
        ),
        (["run", "--set", "attribution.permutations=-1"], "attribution.permutations: input should be greater than"),
        (["run", "--set", "attribution.nuisance=[labels.gold]"], "no task has a column 'labels.gold'; did you mean"),
        (["run", "--set", "attribution.nuisance=[labelz.x]"], "no metric named 'labelz'; did you mean 'labels'?"),
        (["run", "--set", "prompt.placement=prepend"], "a prompt placed before the input never sees it"),
        (["run", "nowhere.yaml"], "no config file 'nowhere.yaml'"),
        (["leaderboard", "nowhere"], "nowhere"),
        (["show", "nowhere", "key"], "no results here"),
        (["list", "tasks", "-p", "nowhere.py"], "no such file; give a file, a folder or an importable module"),
    ],
)
def test_bad_input_gets_one_message(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in failure(arguments, capsys)
    assert not list(tmp_path.iterdir())  # nothing was begun


def test_a_broken_plugin_warns_and_the_rest_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("raise RuntimeError('no luck')\n")
    assert main(["list", "tasks", "-p", str(bad)]) == 0
    printed = capsys.readouterr()
    assert "hans" in printed.out
    assert printed.err == f"skillneurons: warning: plugin bad ({bad}:1) could not be loaded: RuntimeError: no luck\n"
    assert main(["list", "tasks", "-p", str(bad), "--strict-plugins"]) == 2
    assert main(["list", "tasks", "-p", str(bad), "--strict-plugins", "--no-plugin", "bad"]) == 0
    assert main(["run", "-p", str(bad), "-t", "mine", "--dry-run"]) == 2
    assert "RuntimeError: no luck" in capsys.readouterr().err


def test_list_tasks_as_json_tells_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "tasks", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["hans"]["licence"] == "MIT" and rows["hans"]["chance"] == 0.5
    assert "labels.gold_label" in rows["hans"]["columns"]["labels"]
    assert rows["skillmix"]["options"]["k"] == 2 and rows["skillmix"]["form"] == "two-turn generation, k + 3 points"
    assert len(rows["arithmetic"]["subtasks"]) == 20 and "2_digit_addition" in rows["arithmetic-open"]["subtasks"]
    assert rows.pop("lm-eval")["sizes"] == {}  # it stands for many tasks, each with its own
    for name, row in rows.items():
        assert all(row[key] for key in ("form", "source", "licence", "sizes", "columns")), name
        assert set(row["sizes"]) == {"train", "validation", "discovery", "heldout"} and row["chance"] is not None


@pytest.mark.parametrize("what", ["metrics", "attributions", "graders", "models"])
def test_the_other_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    expected = {"metrics": "confidence", "attributions": "pearson", "graders": "rules", "models": "pocket"}[what]
    assert expected in capsys.readouterr().out


def test_plugins_list_as_json_has_status_and_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["hans"]["status"] == "ok" and rows["hans"]["file"].endswith("hans.py") and rows["hans"]["source_hash"]


def test_validate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["validate", "demo"]) == 0
    assert capsys.readouterr().out == "ok: 15 cells\n"
    config = tmp_path / "my.yaml"
    config.write_text("tasks: [hans]\nprompt:\n  stepz: 1\nlimit: many\n")
    assert main(["validate", str(config)]) == 2
    assert capsys.readouterr().err.count("my.yaml:") == 2


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and "COMMAND" in capsys.readouterr().out
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("skillneurons ")


@pytest.mark.parametrize("arguments", [["run", "--stepz"], ["leaderboard", "--format", "docx"], ["fly"]])
def test_an_unknown_flag_or_choice_exits_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
