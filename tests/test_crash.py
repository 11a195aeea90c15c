"""kill -9 at seeded moments, and two runners at once: nothing finished is lost or done twice, and the end is the same bytes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("crash_trials.py")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked and killed")


def trials(scenario: str, folder: Path, model: Path, n: int, seed: int = 0) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), str(folder), str(model), scenario, str(seed), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_run_that_is_killed_at_any_moment_loses_nothing(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    found = trials("kills", tmp_path, model_folder("qwen2"), 20)
    whole, rows = found["whole"], found["trials"]
    assert len(whole["finished"]) == 4 and whole["steps"] == 24 and whole["left"] == []
    kinds = {name.split("/")[0] for name in whole["contents"]}
    assert {"cells", "prompts", "passes", "cards", "across", "board.md"} <= kinds
    for row in rows:
        about = row["moment"]
        assert row["resumed"] == 0, about
        assert row["rewritten"] == [], about  # a finished cell is never written again
        assert row["finished_twice"] == [], about
        assert row["contents"] == whole["contents"], about  # cells, prompts, passes, cards, tables: the same bytes
        assert row["left"] == [], about
        assert row["complaints"] == row["mendable"], about  # what a killed process left, the doctor finds and mends
        assert row["after_mending"] == [] and row["contents_after"] == whole["contents"], about
        assert row["steps"] <= whole["steps"] + 1, about  # with a checkpoint after each step, one step is lost at most
    assert sum(row["killed"] == -9 for row in rows) >= 15
    assert {row["finished_before"] for row in rows} >= {0, 4}  # from before the first cell to after the last
    assert any(0 < row["steps_before"] < 24 for row in rows)  # and inside tuning


def test_two_runners_share_a_folder_without_doing_a_cell_twice(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    found = trials("together", tmp_path, model_folder("qwen2"), 6)
    whole, rows = found["whole"], found["trials"]
    for row in rows:
        assert row["codes"][1] == 0 and row["codes"][0] in ((0, -9) if row["killed"] else (0,))
        assert row["finished_twice"] == []
        assert row["contents"] == whole["contents"] and row["left"] == []
        assert row["steps"] <= whole["steps"] + row["killed"]
    assert any(row["runners"] == 2 for row in rows)  # they did share the work


def test_a_disk_that_is_full_or_closed_ends_a_run_with_the_path_and_loses_nothing(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    found = trials("unwritable", tmp_path, model_folder("qwen2"), 6)
    whole, rows = found["whole"], found["trials"]
    runs = re.escape(str(tmp_path / "trial" / "runs"))
    remedies = {
        "ENOSPC": "no space left on device; free some space or give another folder with -o DIR",
        "EACCES": "permission denied; give a folder that you may write to with -o DIR",
    }
    for row in rows:
        assert row["code"] == 2
        (said,) = [line for line in row["said"] if line.startswith("skillneurons: error:")]
        standing = rf"{row['finished_before']} of 4 cells are finished and saved(; the tuning of \S+ goes on from its checkpoint)?"
        path = f"cannot write {runs}/[a-z0-9_./-]+"
        what = f"skillneurons: error: {path}: {remedies[row['error']]}; {standing}, the same command goes on from there"
        assert re.fullmatch(what, said)
        assert not any(line.startswith("Traceback") for line in row["said"])
        assert row["resumed"] == 0 and row["rewritten"] == [] and row["contents"] == whole["contents"]
    assert min(row["finished_before"] for row in rows) == 0 < max(row["finished_before"] for row in rows)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_says_how_to_go_on(
    signum: int, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = model_folder("qwen2")
    found = trials("stopped", tmp_path, model, 0, int(signum))
    assert found["code"] == 128 + signum
    (key,) = found["checkpoints"]
    place = tmp_path / "my runs"
    assert found["said"].splitlines()[-2:] == [
        f"skillneurons: interrupted; 0 of 1 cells are finished and saved; the tuning of {key} goes on from its checkpoint",
        f"skillneurons: continue with: skillneurons run '{place}/crash.yaml' -m {model} -p '{place}/crash_plugin.py' "
        f"-o '{place}/runs' --device cpu",
    ]
    assert found["left"] == ["cells", "checkpoints", "passes", "prompts"]


@pytest.mark.parametrize("tasks", [["one", "two"], ["one"]])
def test_a_run_that_finds_everything_finished_loads_no_model_library(
    tasks: list[str], model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    import os

    from crash_trials import CONFIG, PLUGIN

    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "crash.yaml").write_text(CONFIG)
    arguments = ["run", str(tmp_path / "crash.yaml"), "-m", str(model_folder("qwen2"))]
    arguments += ["-p", str(tmp_path / "plugin.py"), "-o", str(tmp_path / "runs")]
    arguments += ["-t", *tasks[:1], *[one for task in tasks[1:] for one in ("-t", task)]]
    script = f"import sys; from skillneurons.cli import main; code = main({arguments!r}); print('torch' in sys.modules, code)"
    environment = {**os.environ, "CRASH_LOG": str(tmp_path / "log")}
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        said.append(done.stdout.splitlines()[-1])
    assert said == ["True 0", "False 0"]  # the first run measures, also across tasks; the second has nothing to do
