"""Runs whose results are in a bucket of an S3 server: the same bytes as on disk, after kills and with two runners too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import skillneurons as sn
from model_pairs import folder as pair_of_models
from s3_server import Server, s3_server, use
from skillneurons.cli import main
from skillneurons.leaderboard.index import NAME
from store_trials import BUCKET

SCRIPT = Path(__file__).with_name("store_trials.py")
URL = f"s3://{BUCKET}/whole"
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
    model = str(model_folder("qwen2"))
    command = [sys.executable, str(SCRIPT), str(place), model, "0", "3", "1"]
    environment = {**os.environ, **server.environment, "TMPDIR": str(place)}  # where killed runs leave their copies
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "place": place, "model": model}


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


def told(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    """Run a command; return its output, and what it said."""
    capsys.readouterr()
    assert main(arguments) == code
    got = capsys.readouterr()
    return got.out, got.err


@pytest.fixture
def both(
    found: dict[str, Any], server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[str, str]]:
    """Return what runs a command on the folder on disk and on the bucket, and gives both outputs with the place left out."""
    use(server.endpoint, monkeypatch)
    monkeypatch.setenv("CRASH_LOG", str(found["place"] / "log"))
    disk = str(found["place"] / "disk" / "runs")

    def both(command: str, *more: str) -> tuple[str, str]:
        outputs = []
        for place in (disk, URL):
            out, said = told([command, *(one.replace("PLACE", place) for one in more)], capsys)
            outputs.append((out + said).replace(place, "PLACE"))
            assert "/skillneurons-" not in outputs[-1]  # no file is called by its copy
        return outputs[0], outputs[1]

    return both


def test_the_board_of_a_bucket_is_that_of_the_disk(
    both: Callable[..., tuple[str, str]],
    found: dict[str, Any],
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk, store = both("leaderboard", "PLACE", "--check")
    assert disk == store == ""
    disk, store = both("leaderboard", "PLACE", "-o", str(tmp_path / "board"))
    assert disk == store
    files = {path.name: path.read_bytes() for path in (tmp_path / "board").iterdir() if path.suffix != ".parquet"}
    out = f"s3://{BUCKET}/board"
    on_disk = str(found["place"] / "disk" / "runs")
    _, said = told(["leaderboard", on_disk, "-o", out, "--format", "md", "--format", "csv", "--format", "html"], capsys)
    assert said == f"skillneurons: written: {out}/board.md, {out}/board.csv, {out}/index.html\n"
    there = server.contents(BUCKET, "board/")
    assert {name: there[name] for name in files} == files
    told(["leaderboard", on_disk, "-o", str(tmp_path / "site"), "--format", "html"], capsys)
    site = {path.relative_to(tmp_path / "site").as_posix(): path for path in (tmp_path / "site").rglob("*")}
    expected = {name: path.read_bytes() for name, path in site.items() if path.is_file() and name != NAME}
    assert {name: data for name, data in there.items() if name in expected} == expected
    assert {name for name in there if name.startswith("site/")} == {name for name in expected if name != "index.html"}
    checked = ["leaderboard", on_disk, "-o", out, "--format", "md", "--format", "html", "--check"]
    assert told(checked, capsys) == ("", "")
    server.client.put_object(Bucket=BUCKET, Key="board/board.md", Body=b"old\n")
    server.client.put_object(Bucket=BUCKET, Key="board/site/manifest.json", Body=b'{"site/gone.html": "0"}')
    server.client.put_object(Bucket=BUCKET, Key="board/site/gone.html", Body=b"old\n")
    shown, said = told(checked, capsys, 1)
    assert f"--- {out}/board.md" in shown and f"{out}/site/gone.html is no longer part of the site" in shown
    again = f"skillneurons leaderboard {on_disk} -o {out} --format md --format html"
    assert said == f"skillneurons: {out} is stale; rebuild it with: {again}\n"
    told(["leaderboard", on_disk, "-o", out, "--format", "md", "--format", "html"], capsys)
    after = server.contents(BUCKET, "board/")
    assert {name: data for name, data in after.items() if name != NAME} == {
        name: data for name, data in there.items() if name != NAME
    }


def test_show_doctor_and_dry_run_say_the_same_of_a_bucket(
    both: Callable[..., tuple[str, str]], found: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = found["whole"]["finished"][0]
    for more in ([], ["--neuron", "L00.N0001"], ["--svg", str(tmp_path / "x.svg"), "--column", "p_target"]):
        disk, store = both("show", "PLACE", key, *more)
        assert disk == store and key in disk
    plugin = str(found["place"] / "disk" / "crash_plugin.py")
    disk, store = both("doctor", "PLACE", "--deep", "-p", plugin)
    assert disk == store and "nothing is wrong" in store
    assert told(["doctor", URL, "--mend"], capsys, 2)[1] == (
        f"skillneurons: error: cannot mend {URL}: mending moves and deletes files, which is done on a disk; copy the folder (aws s3 "
        f"sync {URL} DIR), mend DIR, and copy it back (aws s3 sync --delete DIR {URL})\n"
    )
    config = str(found["place"] / "disk" / "crash.yaml")
    disk, store = both("run", config, "-m", found["model"], "-p", plugin, "--dry-run", "-o", "PLACE")
    assert disk == store and store.endswith("0 of 4 cells to run\n")


def test_figures_of_a_bucket_are_drawn_into_it(
    both: Callable[..., tuple[str, str]], found: dict[str, Any], server: Server
) -> None:
    key = next(one for one in found["whole"]["finished"] if "confidence" in one)
    disk, store = both("plot", "PLACE", key, "--column", "p_target", "--format", "svg")
    assert disk == store and disk.startswith("PLACE/plots/")
    plots = found["place"] / "disk" / "runs" / "plots"
    assert server.contents(BUCKET, "whole/plots/") == {path.name: path.read_bytes() for path in plots.iterdir()}


def test_a_damaged_cell_is_called_by_its_url(
    both: Callable[..., tuple[str, str]], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.client.put_object(Bucket=BUCKET, Key="damaged/cells/one.json", Body=b"{")
    _, said = told(["show", f"s3://{BUCKET}/damaged", "one"], capsys, 2)
    assert said.startswith(f"skillneurons: error: s3://{BUCKET}/damaged/cells/one.json: it is not valid JSON (")
    _, said = told(["leaderboard", f"s3://{BUCKET}/damaged", "-o", f"s3://{BUCKET}/board2"], capsys, 2)
    assert f"s3://{BUCKET}/damaged/cells/one.json is left out: it is not valid JSON" in said
    out, _ = told(["doctor", f"s3://{BUCKET}/damaged"], capsys, 1)
    assert out.startswith(f"s3://{BUCKET}/damaged: 1 cell,") and "cells/one.json" in out
    _, said = told(["show", f"s3://{BUCKET}/empty", "one"], capsys, 2)
    place = f"s3://{BUCKET}/empty"
    assert said == (
        f"skillneurons: error: {place}: no results here (no folder 'cells'); run `skillneurons run -o {place}` first\n"
    )


def test_a_run_into_memory_leaves_the_same_files(
    found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRASH_LOG", str(found["place"] / "memory.log"))
    beside = found["place"] / "disk"
    options = [
        "-m",
        found["model"],
        "-p",
        str(beside / "crash_plugin.py"),
        "--device",
        "cpu",
        "-o",
        "memory://there/run",
    ]
    told(["run", str(beside / "crash.yaml"), *options], capsys)
    system = fsspec.filesystem("memory")
    there = {name.removeprefix("/there/run/") for name in system.store}
    assert {name for name in there if not name.endswith(".run.json")} == set(found["disk"])
    frame = sn.load_results("memory://there/run")
    assert sorted(set(frame["key"])) == found["whole"]["finished"]
    system.store.clear()


def test_models_in_a_store_are_compared_as_on_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pair_of_models(tmp_path)
    fsspec.filesystem("memory").put(str(folder), "/compared", recursive=True)
    outputs = [told(["compare", place, "a", "b", "--json"], capsys) for place in (str(folder), "memory://compared")]
    assert outputs[0] == outputs[1]
    fsspec.filesystem("memory").store.clear()
