"""Runs whose results are in a bucket of an S3 server: the same bytes as on disk, after kills and with two runners too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import Server, s3_server
from store_trials import BUCKET

SCRIPT = Path(__file__).with_name("store_trials.py")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked and killed")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as started:
        started.bucket(BUCKET)
        started.client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield started


@pytest.fixture(scope="module")
def found(
    server: Server, model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("trials")
    command = [sys.executable, str(SCRIPT), str(place), str(model_folder("qwen2")), "0", "4", "1"]
    environment = {**os.environ, **server.environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "place": place}


def test_a_whole_run_leaves_the_same_files_with_the_same_bytes_as_on_disk(found: dict[str, Any]) -> None:
    whole = found["whole"]
    assert whole["contents"] == found["disk"]
    kinds = {name.split("/")[0] for name in whole["contents"]}
    assert kinds == {"cells", "prompts", "passes", "cards", "across", "board.md", "board.csv", "board.parquet"}
    assert len(whole["finished"]) == 4 and whole["steps"] == 24
    assert f"written: s3://{BUCKET}/whole/board.md" in whole["said"] and "/skillneurons-" not in whole["said"]


def test_a_run_that_is_killed_at_any_request_loses_nothing(found: dict[str, Any]) -> None:
    for row in found["kills"]:
        about = row["moment"]
        assert row["killed"] == -9 and row["resumed"] == 0, (about, row["said"])
        assert row["rewritten"] == [] and row["finished_twice"] == [], about
        assert row["contents"] == found["disk"], about
        assert row["steps"] <= found["whole"]["steps"] + 1, about  # from its checkpoint: one step is lost at most
    assert {row["finished_before"] for row in found["kills"]} > {0}
    assert any(0 < row["steps_before"] < 24 for row in found["kills"])


def test_two_runners_share_a_bucket_without_doing_a_cell_twice(found: dict[str, Any]) -> None:
    for row in found["pairs"]:
        assert row["codes"] == [0, 0], row["said"]
        assert row["finished_twice"] == [] and len(row["finished"]) == 4
        assert row["contents"] == found["disk"] and row["steps"] == 24
    assert [row["runners"] for row in found["pairs"]] == [2]
