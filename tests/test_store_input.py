"""What can be wrong with a place in a store: one clear message each, exit code 2, and nothing that is finished is lost."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import skillneurons.store
from crash_trials import CONFIG, PLUGIN
from s3_server import Server, door, free_port, s3_server, use
from skillneurons.cli import main


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as started:
        started.bucket("bucket")
        yield started


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skillneurons.store, "PAUSE", 0.001)


@pytest.fixture
def run(
    tmp_path: Path,
    model_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    (tmp_path / "crash_plugin.py").write_text(PLUGIN)
    (tmp_path / "crash.yaml").write_text(CONFIG)
    monkeypatch.setenv("CRASH_LOG", str(tmp_path / "log"))
    model = str(model_folder("qwen2"))

    def run(output: str, *more: str) -> tuple[int, str]:
        plugin = str(tmp_path / "crash_plugin.py")
        command = ["run", str(tmp_path / "crash.yaml"), "-m", model, "-p", plugin, "--device", "cpu", "-o", output]
        code = main([*command, *more])
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skillneurons: error:")]
        assert len(said) <= 1
        return code, said[0].removeprefix("skillneurons: error: ") if said else ""

    return run


Run = Callable[..., tuple[int, str]]


def test_a_bucket_that_does_not_exist(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(server.endpoint, monkeypatch)
    told = "there is no bucket 'nowhere'; make it first, or give another with -o URL"
    code, said = run("s3://nowhere/run")
    assert code == 2 and re.fullmatch(rf"cannot write s3://nowhere/run/locks/probe-\w+\.1\.lock: {told}", said)
    assert run("s3://nowhere/run", "--dry-run") == (2, f"cannot list s3://nowhere/run/cells: {told}")


def test_a_folder_that_is_not_there_yet_is_none_for_a_dry_run(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(server.endpoint, monkeypatch)
    assert run("s3://bucket/new/run", "--dry-run") == (0, "")
    assert server.objects("bucket", "new/") == {}


def test_no_permission_to_write(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with door(server, lambda request: 403 if request.command == "PUT" else None) as endpoint:
        use(endpoint, monkeypatch)
        code, said = run("s3://bucket/closed")
    told = "permission denied; give a place that you may read and write with -o URL, or other credentials (AWS_PROFILE)"
    place = r"cannot write s3://bucket/closed/locks/probe-\w+\.1\.lock: "
    assert code == 2 and re.fullmatch(place + re.escape(told), said)
    assert server.objects("bucket", "closed/") == {}


def test_a_server_that_does_not_answer(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(f"http://127.0.0.1:{free_port()}", monkeypatch)
    code, said = run("s3://bucket/run")
    told = "the store does not answer; check the network and AWS_ENDPOINT_URL"
    assert code == 2 and re.fullmatch(rf"cannot write s3://bucket/run/locks/probe-\w+\.1\.lock: {told}", said)
    assert run("s3://bucket/run", "--dry-run") == (2, f"cannot list s3://bucket/run/cells: {told}")


def test_no_credentials(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(server.endpoint, monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    code, said = run("s3://bucket/run", "--dry-run")
    told = "no credentials were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert (code, said) == (2, f"cannot list s3://bucket/run/cells: {told}")


def test_a_profile_that_does_not_exist(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use(server.endpoint, monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    code, said = run("s3://bucket/run", "--dry-run")
    told = "no credentials were found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert (code, said) == (2, f"cannot list s3://bucket/run/cells: {told}")


@pytest.mark.parametrize(
    ("url", "package", "install"),
    [
        ("s3://bucket/run", "s3fs", "'skillneurons[s3]'"),
        ("gs://bucket/run", "gcsfs", "gcsfs"),
        ("az://b/run", "adlfs", "adlfs"),
    ],
)
def test_a_driver_that_is_not_installed(
    url: str, package: str, install: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = importlib.import_module("fsspec.registry")._registry
    monkeypatch.delitem(known, url.partition(":")[0], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    told = f"cannot open {url}: the package {package} is not installed; install it with: pip install {install}"
    assert run(url) == (2, told) and run(url, "--dry-run") == (2, told)


def test_a_protocol_that_nobody_knows(run: Run) -> None:
    told = "no protocol named 'gss' is known (did you mean 'gs'?); give a folder, or a URL as in s3://bucket/run"
    assert run("gss://bucket/run") == (2, f"cannot open gss://bucket/run: {told}")
    told = "no protocol named 'xyzzy' is known; give a folder, or a URL as in s3://bucket/run"
    assert run("xyzzy://me:secret@host/run") == (2, f"cannot open xyzzy://me:***@host/run: {told}")


@pytest.mark.parametrize(
    "command", [["leaderboard"], ["show", "KEY"], ["plot", "KEY"], ["compare", "a", "b"], ["doctor"]]
)
def test_the_commands_that_read_say_the_same(
    command: list[str], server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(server.endpoint, monkeypatch)
    assert main([command[0], "s3://nowhere/run", *command[1:]]) == 2
    said = capsys.readouterr().err
    told = r"there is no bucket 'nowhere'; make it first, or give another with -o URL"
    assert re.fullmatch(rf"skillneurons: error: cannot (list|read) s3://nowhere/run\S*: {told}\n", said)


def test_a_network_that_fails_in_mid_run_loses_nothing_and_the_same_command_goes_on(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"cells": 0, "down": False}

    def rule(request: Any) -> int | None:
        if request.command == "PUT" and "/mid/cells/" in request.path and not request.path.endswith(".run.json"):
            state["cells"] += 1
            state["down"] = (
                state["down"] or state["cells"] == 4
            )  # the first is written twice: without and with its causes
        return 0 if state["down"] else None

    with door(server, rule) as endpoint:
        use(endpoint, monkeypatch)
        code, said = run("s3://bucket/mid")
        assert code == 2
        what = r"cannot write s3://bucket/mid/cells/[a-z0-9-]+\.json: the store does not answer; check the network and AWS_ENDPOINT_URL"
        assert re.fullmatch(rf"{what}; 1 of 4 cells are finished and saved, the same command goes on from there", said)
        before = server.objects("bucket", "mid/cells/")
        texts = {name: server.read("bucket", f"mid/cells/{name}") for name in before if not name.endswith(".run.json")}
        whole = {name for name, text in texts.items() if not (json.loads(text)["causal"] or {}).get("pending")}
        assert len(whole) == 1
        state["down"], state["cells"] = False, 99
        assert run("s3://bucket/mid") == (0, "")
    after = server.objects("bucket", "mid/cells/")
    assert all(after[name] == before[name] for name in whole)
    assert len([name for name in after if not name.endswith(".run.json")]) == 4
    for name in after:
        text = server.read("bucket", f"mid/cells/{name}")
        assert b"127.0.0.1" not in text and b"testing-secret" not in text and b"bucket" not in text
