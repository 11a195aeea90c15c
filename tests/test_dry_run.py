"""What a dry run says: states with their reasons, rounded ranges, and that it leaves nothing behind."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from skillneurons.cell_state import UNTOLD, CellState, told
from skillneurons.cli import main
from skillneurons.config import Config, load_config
from skillneurons.dry_run import ACROSS, LOADED, DryRun, dry_run, dry_run_text, size_text, time_text
from skillneurons.finished_cell import failed_cell, ok_cell
from skillneurons.model_source import pocket_folder
from skillneurons.plan import Unit, plan
from skillneurons.registry import load_registry
from skillneurons.results import Result, ResultsFolder

LM = cast("Any", SimpleNamespace(architecture="Qwen2ForCausalLM", parity=None, n_neurons=2560))
MEASURED = cast(
    "Any",
    SimpleNamespace(
        accuracy={"untuned": 0.5, "tuned": 0.75, "stderr": 0.1}, scores=(), truncated={}, columns=lambda names: {}
    ),
)
RECORD: Mapping[str, Any] = {"started": "2026-01-01T00:00:00Z", "seconds": 40.0, "device": "cpu", "host": "elsewhere"}


def config_of(output: Path, *settings: str, **more: Any) -> Config:
    chosen: dict[str, Any] = {"tasks": ["arithmetic"], "metrics": ["confidence"], "limit": 16} | more
    return load_config(None, settings, output=str(output), **chosen)


def first(config: Config) -> tuple[Unit, ResultsFolder]:
    folder = ResultsFolder(Path(config.output))
    return plan(config, load_registry(), folder)[0], folder


def finished(config: Config, causal: Mapping[str, Any] | None = None) -> Result:
    """Write the first cell of a run as finished, without running it."""
    unit, folder = first(config)
    result = ok_cell(config, unit, unit.cells[0], LM, MEASURED, causal or {"columns": {}})
    folder.prepare()
    folder.write_cell(result, RECORD)
    return result


def state(config: Config) -> CellState:
    return dry_run(config, load_registry()).cells[0][2]


def test_nothing_there_is_new_and_a_finished_cell_is_done(tmp_path: Path) -> None:
    config = config_of(tmp_path / "runs")
    assert state(config) == CellState("new")
    assert not (tmp_path / "runs").exists()
    finished(config)
    assert state(config) == CellState("done")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (["prompt.steps=500"], "prompt.steps 150 -> 500"),
        (["prompt.steps=5", "prompt.lr=0.01"], "prompt.steps 150 -> 5, prompt.lr 0.003 -> 0.01"),
        (["causal.k=[5]"], "causal.k [10, 50] -> [5]"),
        (["causal.enabled=false"], "causal on -> off"),
        (["attribution.statistic=spearman"], "attribution.statistic pearson -> spearman"),
        (["attribution.position=input_last"], "prompt on -> off, attribution.position last -> input_last"),
        (["tasks.arithmetic.digits=[1]"], "tasks.arithmetic.digits [1, 2] -> [1], examples: validation 16 -> 9"),
        (
            ["prompt.steps=1", "prompt.lr=1.0", "prompt.batch_size=2", "data.train=9", "model.dtype=bfloat16"],
            "model.dtype float32 -> bfloat16, prompt.steps 150 -> 1, prompt.lr 0.003 -> 1.0 and 3 more",
        ),
    ],
)
def test_a_stale_cell_says_which_settings_differ(tmp_path: Path, settings: list[str], reason: str) -> None:
    older = finished(config_of(tmp_path))
    assert state(config_of(tmp_path, *settings)) == CellState("stale", reason, older.key)


def test_a_stale_cell_says_how_many_examples_there_were(tmp_path: Path) -> None:
    older = finished(config_of(tmp_path))
    reason = "examples: train 16 -> 24, validation 16 -> 24, discovery 16 -> 24, heldout 16 -> 24"
    assert state(config_of(tmp_path, limit=24)) == CellState("stale", reason, older.key)


@pytest.mark.parametrize(
    ("part", "changes", "reason"),
    [
        ("model", {"revision": "sha256:other"}, "model revision"),
        ("task", {"version": "0"}, "task version 0 -> "),
        ("task", {"source_hash": "other"}, "task source"),
        ("task", {"data_hash": "other"}, "data"),
        ("metric", {"source_hash": "other"}, "metric source"),
        ("metric", {"version": "0"}, "metric version 0 -> "),
        ("metric", {"columns": ["confidence.other"]}, "metric columns"),
        ("metric", {}, UNTOLD),  # another source of the statistic alone
    ],
)
def test_a_stale_cell_says_what_else_differs(tmp_path: Path, part: str, changes: dict[str, Any], reason: str) -> None:
    config = config_of(tmp_path)
    older = finished(config)
    (tmp_path / "cells" / f"{older.key}.json").unlink()
    other = replace(older, key=f"{older.key[:-4]}0000", **{part: {**getattr(older, part), **changes}})
    ResultsFolder(tmp_path).write_cell(other, RECORD)
    found = state(config)
    version = str({"task": older.task, "metric": older.metric, "model": older.model}[part].get("version"))
    assert found == CellState("stale", reason + version if reason.endswith("> ") else reason, other.key)


def test_of_several_older_cells_the_nearest_is_told(tmp_path: Path) -> None:
    finished(config_of(tmp_path, "prompt.steps=10", "prompt.lr=0.5"))
    near = finished(config_of(tmp_path, "prompt.steps=20"))
    assert state(config_of(tmp_path)) == CellState("stale", "prompt.steps 20 -> 150", near.key)


def test_another_seed_task_or_model_makes_nothing_stale(tmp_path: Path) -> None:
    finished(config_of(tmp_path))
    assert state(config_of(tmp_path, seeds=[1])) == CellState("new")
    assert state(config_of(tmp_path, models=["pocket-small"])) == CellState("new")


def test_a_failed_cell_says_why_and_a_damaged_one_what_is_wrong(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    unit, folder = first(config)
    folder.prepare()
    folder.write_cell(failed_cell(config, unit, unit.cells[0], None, ValueError("no luck"), "no luck"), RECORD)
    assert state(config) == CellState("failed", "no luck")
    (folder.cells / f"{unit.cells[0].key}.json").write_text('{"schema_version": 1')
    assert state(config) == CellState(
        "damaged", "it is not valid JSON (Expecting ',' delimiter: line 1 column 21 (char 20))"
    )


def test_a_cell_without_its_causal_part_is_unfinished(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    finished(config, {"pending": True, "columns": {}})
    assert state(config) == CellState("unfinished", "its causal part broke off")
    finished(config, {"error": "RuntimeError: out of luck", "columns": {}})
    assert state(config) == CellState("unfinished", "its causal part failed: RuntimeError: out of luck")


def test_data_that_cannot_be_loaded_is_the_reason_and_nothing_is_estimated(tmp_path: Path) -> None:
    config = config_of(tmp_path / "runs", "tasks.hans.path=absent.txt", tasks=["hans"])
    found = dry_run(config, load_registry())
    assert found.cells[0][2].state == "data error" and "absent.txt" in found.cells[0][2].reason
    assert found.whole is None and not found.parts
    assert dry_run_text(found).splitlines()[-1] == "1 of 1 cells to run"


def test_three_differences_are_told_and_the_others_counted() -> None:
    assert told(["a", "b", "c"]) == "a, b, c"
    assert told(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_the_text_has_a_line_per_cell_a_table_and_a_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(config_of(tmp_path, "prompt.steps=10"))
    before = sorted(tmp_path.rglob("*"))
    names = ["-t", "arithmetic", "-M", "confidence", "-M", "labels", "--limit", "16"]
    assert main(["run", *names, "-o", str(tmp_path), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    config = config_of(tmp_path, metrics=["confidence", "labels"])
    confidence, labels = (cell.key for cell in first(config)[0].cells)
    assert lines[:3] == [
        f"stale  pocket  arithmetic  confidence  seed 0  {confidence}  prompt.steps 10 -> 150",
        f"new    pocket  arithmetic  labels      seed 0  {labels}",
        "",
    ]
    assert [line.split()[:2] for line in lines[3:7]] == [
        ["model", "task"],
        ["pocket", "arithmetic"],
        ["pocket", "loading"],
        ["all", "2"],
    ]
    assert lines[7] == "" and lines[8].startswith("time: measured for a moment on this machine's CPU: ")
    assert lines[9:] == [
        "tokens of pocket: counted by the model's tokenizer",
        "stale: a finished cell of another key is there; it is an older result and is kept",
        "2 of 2 cells to run",
    ]
    assert max(map(len, lines)) <= 120
    assert sorted(tmp_path.rglob("*")) == before


def test_where_all_is_done_nothing_is_estimated(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    key = finished(config).key
    text = dry_run_text(dry_run(config, load_registry()))
    assert text == f"done  pocket  arithmetic  confidence  seed 0  {key}\n0 of 1 cells to run"


def test_a_reason_that_does_not_fit_stands_below(tmp_path: Path) -> None:
    unit, _ = first(config_of(tmp_path))
    found = DryRun([(unit, unit.cells[0], CellState("failed", "word " * 30))])
    lines = dry_run_text(found).splitlines()
    assert lines[0].endswith(unit.cells[0].key) and lines[1] == "    " + "word " * 30


def test_as_json_with_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["-t", "arithmetic", "-M", "confidence", "--limit", "16", "-o", str(tmp_path / "runs")]
    assert main(["run", *names, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["to_run"] == 1 and [one["state"] for one in found["cells"]] == ["new"]
    assert [(one["task"], one["cells"]) for one in found["estimates"]] == [("arithmetic", 1), ("loading", 0)]
    assert 0 < found["whole"]["low"] < found["whole"]["likely"] < found["whole"]["high"]
    assert found["whole"]["memory"]["host"] > 4e8


def test_a_folder_that_cannot_be_used_is_told_before_anything_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "cells").touch()
    names = ["run", "-t", "arithmetic", "-M", "confidence", "--limit", "16", "-o"]
    for output, reason in (("file/inner", "not a directory"), ("runs", "file exists")):
        told = f"skillneurons: error: cannot write {tmp_path / output / 'cells'}: {reason}; give another folder with -o DIR\n"
        for dry in (["--dry-run"], []):
            assert main([*names, str(tmp_path / output), *dry]) == 2
            assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        (
            "config.json",
            {"num_key_value_heads": "x"},
            "model {name!r}: num_key_value_heads of its config.json must be a whole number, got 'x'",
        ),
        (
            "config.json",
            {"text_config": "x"},
            "model {name!r}: text_config of its config.json must be a mapping, got 'x'",
        ),
        (
            "config.json",
            {"intermediate_size": -1},
            "model {name!r}: intermediate_size of its config.json must be a whole number, got -1",
        ),
        (
            "tokenizer.json",
            None,
            "{name}/tokenizer.json: no tokenizer (expected value at line 1 column 1); save the model's tokenizer again",
        ),
    ],
)
def test_a_damaged_model_folder_has_cells_and_no_estimate(
    tmp_path: Path, file: str, content: dict[str, Any] | None, told: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pocket_folder("pocket-small"), folder)
    text = "x" if content is None else json.dumps(json.loads((folder / file).read_text()) | content)
    (folder / file).write_text(text)
    found = dry_run(config_of(tmp_path / "runs", models=[str(folder)]), load_registry())
    assert [state.state for _, _, state in found.cells] == ["new"] and found.whole is None
    assert list(found.remarks) == [f"no estimate: {told.format(name=str(folder))}"]


def test_the_whole_says_of_how_many_cells_it_is(tmp_path: Path) -> None:
    config = config_of(tmp_path / "runs", "tasks.hans.path=absent.txt", tasks=["arithmetic", "hans"])
    lines = dry_run_text(dry_run(config, load_registry())).splitlines()
    assert next(line for line in lines if line.startswith("all")).split()[:4] == ["all", "1", "of", "2"]
    assert lines[-1] == "2 of 2 cells to run"


def test_what_concerns_several_tasks_is_estimated_where_it_alone_is_missing(tmp_path: Path) -> None:
    config = config_of(tmp_path, tasks=["arithmetic", "hans"])
    registry, folder = load_registry(), ResultsFolder(tmp_path)
    folder.prepare()
    board = Path(__file__).parents[1] / "leaderboard" / "pocket" / "cells"
    tested = json.loads(min(board.glob("arithmetic-confidence-s0-*[0-9a-f].json")).read_text())["causal"]
    units = plan(config, registry, folder)
    for unit in units:
        folder.write_cell(ok_cell(config, unit, unit.cells[0], LM, MEASURED, tested), RECORD)
    found = dry_run(config, registry)
    assert found.to_run == 0 and list(found.parts) == [("pocket", ACROSS), ("pocket", LOADED)]
    assert found.parts["pocket", ACROSS][1].tokens > 1000
    assert (
        found.remarks[1] == "across tasks: what concerns several tasks of pocket is not measured yet; a run does that"
    )
    assert dry_run_text(found).splitlines()[-1] == "0 of 2 cells to run"
    for off in ("causal.across=false", "attribution.position=input_last"):
        assert ACROSS not in {
            task for _, task in dry_run(config_of(tmp_path, off, tasks=["arithmetic", "hans"]), registry).parts
        }
    empty = {"columns": {}}
    folder.write_cell(ok_cell(config, units[0], units[0].cells[0], LM, MEASURED, empty), RECORD)
    assert dry_run(config, registry).parts == {}  # there is nothing to test against each other


def test_an_older_cell_of_a_plugin_or_a_file_that_is_gone_hinders_nothing(tmp_path: Path) -> None:
    neutral = tmp_path / "neutral.txt"
    neutral.write_text("one line\n")
    older = finished(config_of(tmp_path, f"causal.neutral_text={neutral}"))
    record = {**RECORD, "host": platform.node()}
    folder = ResultsFolder(tmp_path)
    folder.write_cell(older, record)
    config = config_of(tmp_path)
    calibrated = dry_run(config, load_registry())
    assert calibrated.remarks[0] == "time: 1 finished cell of this folder, measured on this machine"
    neutral.unlink()
    plain = dry_run(config, load_registry())
    assert plain.remarks[0].startswith("time: measured for a moment on this machine's CPU: ")
    settings = {**older.config, "causal": {**older.config["causal"], "neutral_text": "english"}}
    folder.write_cell(replace(older, config=settings), record)
    assert dry_run(config, load_registry()).remarks[0] == calibrated.remarks[0]
    settings = {**settings, "attribution": {**settings["attribution"], "statistic": "gone"}}
    folder.write_cell(replace(older, config=settings), record)
    assert dry_run(config, load_registry()).remarks[0].startswith("time: measured for a moment on this machine's CPU: ")


def test_a_stated_machine_has_device_memory_and_one_too_small_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["-t", "arithmetic", "-M", "confidence", "--limit", "16", "-o", str(tmp_path / "runs"), "--dry-run"]
    assert main(["run", *names, "--machine", "h100"]) == 0
    text = capsys.readouterr().out
    assert "device memory" in text
    assert "time: h100 as its maker states it (67 TFLOP/s of float32, 3350 GB/s), 40% of it used" in text
    assert main(["run", *names, "--machine", "h1000"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "skillneurons: error: no machine named 'h1000'; did you mean 'h100'? known: a10, a100, h100, h200, l4, l40s, "
        "rtx3090, rtx4090, t4, v100\n"
    )


@pytest.mark.parametrize(
    ("model", "machine", "settings", "told"),
    [
        ("7B", "h100", [], "fits: about 21 GB on a device of 80 GB"),
        (
            "72B",
            "h100",
            [],
            "does not fit: about 160 GB on a device of 80 GB; it takes at least 3 by model.device_map, 4 by model.tp_plan; or "
            "model.quantization, a smaller cache.device_gb",
        ),
        ("72B", "4xh100", [], "fits: about 44 GB on the fullest device of 80 GB; it takes at least 3"),
        (
            "72B",
            "4xh100",
            ["model.tp_plan=auto"],
            "fits: about 43 GB on the fullest device of 80 GB; it takes at least 4",
        ),
        (
            "4B",
            "8xh100",
            ["model.tp_plan=auto"],
            "its 20 attention and 20 key-value heads cannot be split over 8 devices",
        ),
        (
            "MoE-A2.7B",
            "2xh100",
            ["model.tp_plan=auto"],
            "is a mixture of experts, which model.tp_plan is not there for; use model.device_map",
        ),
    ],
)
def test_whether_a_model_fits_is_told_without_its_files(
    model: str, machine: str, settings: list[str], told: str, tmp_path: Path
) -> None:
    name = f"Qwen/Qwen1.5-{model}"
    config = config_of(tmp_path, "model.dtype=bfloat16", *settings, models=[name])
    found = dry_run(config, load_registry(), machine)
    assert [state.state for _, _, state in found.cells] == ["new"]
    assert found.remarks[1:3] == [
        f"tokens of {name}: counted by four characters a token",
        f"the files of {name} are not here: sizes as they are published; the revision is not known, so that cells count as new and "
        "will get other keys",
    ]
    assert found.remarks[3].startswith(name)
    assert found.remarks[3].removeprefix(name).lstrip(": ") == told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [["--json"], ["--machine", "h100"]])
def test_options_of_a_dry_run_are_refused_without_it(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *option]) == 2
    error = (
        f"skillneurons: error: {option[0]} belongs to run --dry-run, which says what a run would take; add --dry-run\n"
    )
    assert capsys.readouterr().err == error


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0, 0, "about 0 s"),
        (0.26, 1.9, "about 0.3 to 2 s"),
        (20, 61, "about 20 to 61 s"),
        (60, 300, "about 1 to 5 min"),
        (20, 300, "about 0.3 to 5 min"),
        (600, 624, "about 10 min"),
        (9.4, 9.44, "about 9 s"),
        (9.4, 9.6, "about 9 to 10 s"),
        (9.96, 15, "about 10 to 15 s"),
        (9.49, 9.5, "about 9 to 10 s"),
        (3600, 7200, "about 1 to 2 h"),
        (3600 * 70, 3600 * 120, "about 3 to 5 days"),
        (86400 * 101, 86400 * 1234, "about 100 to 1200 days"),
    ],
)
def test_a_time_is_a_rounded_range(low: float, high: float, text: str) -> None:
    assert time_text(low, high) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(1.04e6, "1.0 MB"), (574e6, "570 MB"), (999.6e6, "1.0 GB"), (144.6e9, "140 GB"), (2.34e12, "2.3 TB")],
)
def test_a_size_has_two_digits(size: float, text: str) -> None:
    assert size_text(size) == text
