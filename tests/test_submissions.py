"""The workflow on submissions: its commands are there, the code is the base branch's, and only changed folders are verified."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml
from skillneurons.arguments import build_parser

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / ".ci" / "verify-submissions"


def workflow() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "submissions.yml").read_text())
    return content


def test_the_workflow_runs_commands_that_exist_and_knows_no_secret() -> None:
    text = (ROOT / ".github" / "workflows" / "submissions.yml").read_text()
    assert "secrets." not in text and "pull_request_target" not in text
    content = workflow()
    assert content["permissions"] == {"contents": "read"}
    steps = content["jobs"]["verify"]["steps"]
    first, second = (step["with"] for step in steps if step.get("uses", "").startswith("actions/checkout"))
    assert first["ref"] == "${{ github.event.pull_request.base.sha }}" and "path" not in first
    assert second["path"] == "sent" and second["persist-credentials"] is False
    runs = [step["run"] for step in steps if "run" in step]
    assert runs == ["make .venv", ".ci/verify-submissions sent --sample 3 --device cpu"]
    assert os.access(SCRIPT, os.X_OK)
    options = runs[1].split()[2:]
    assert build_parser().parse_args(["verify", "DIR", *options]).sample == "3"


def verified(sent: Path, command: str = "echo", runner: str = "") -> tuple[int, list[str]]:
    """Run the script with another command in the place of skillneurons; return its exit code and lines."""
    environment = {**os.environ, "SKILLNEURONS": command, "GITHUB_ACTIONS": runner}
    done = subprocess.run(
        [str(SCRIPT), str(sent), "--sample", "3"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_changed_submissions_are_verified_and_others_are_not(tmp_path: Path) -> None:
    place = tmp_path / "leaderboard" / "submissions"
    (place / "mine" / "cells").mkdir(parents=True)
    (place / "README.md").write_text("as it is")
    assert verified(tmp_path) == (0, [f"verify {place}/mine --sample 3", "1 submissions verified"])
    assert verified(tmp_path, "false") == (1, ["1 submissions verified"])


def test_names_that_are_no_names_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "leaderboard" / "submissions"
    place.mkdir(parents=True)
    (place / "$(touch x)").mkdir()
    (place / "link").symlink_to("/etc")
    code, lines = verified(tmp_path)
    assert code == 1 and lines[-1] == "0 submissions verified" and len(lines) == 3
    assert all("a submission is a folder whose name is made of a-z, 0-9, _ and -" in line for line in lines[:2])


def test_nothing_sent_is_nothing_to_verify(tmp_path: Path) -> None:
    assert verified(tmp_path) == (0, ["0 submissions verified"])


def test_a_folder_of_submissions_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "leaderboard").mkdir()
    (tmp_path / "leaderboard" / "submissions").symlink_to(ROOT / "leaderboard" / "submissions")
    assert verified(tmp_path) == (1, ["leaderboard/submissions is a symbolic link, and none is followed"])


def test_names_of_files_give_the_runner_no_commands(tmp_path: Path) -> None:
    place = tmp_path / "leaderboard" / "submissions" / "mine"
    place.mkdir(parents=True)
    (code, first), (_, second) = (verified(tmp_path, runner="true") for _ in range(2))
    assert code == 0 and re.fullmatch("::stop-commands::[0-9a-f]{32}", first[0]) and first[0] != second[0]
