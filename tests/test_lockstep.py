"""What ranks find in the output folder, and that they have it for themselves."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from skillneurons import lockstep
from skillneurons.errors import UserError
from skillneurons.locks import ALONE, RUNNER, Locks
from skillneurons.lockstep import in_lockstep, mirror
from skillneurons.ranks import ranks_here
from skillneurons.runner import _announce


def test_a_view_shows_what_was_there_and_writing_to_it_changes_nothing_else(tmp_path: Path) -> None:
    runs, view = tmp_path / "runs", tmp_path / "view"
    for name in ("cells/a.json", "prompts/p/adapter_model.safetensors", "passes/a/examples.parquet", "cards/a.json"):
        (runs / name).parent.mkdir(parents=True, exist_ok=True)
        (runs / name).write_text(f"old {name}")
    (runs / "board.md").write_text("not theirs")
    view.mkdir()
    mirror(runs, view)
    shown = sorted(str(path.relative_to(view)) for path in view.rglob("*") if path.is_file())
    assert shown == ["cards/a.json", "cells/a.json", "passes/a/examples.parquet", "prompts/p/adapter_model.safetensors"]
    for folder, other in ((runs, view), (view, runs)):  # as files are written here: beside, then renamed
        (folder / "cells" / "new").write_text(f"new in {folder.name}")
        (folder / "cells" / "new").replace(folder / "cells" / "a.json")
        assert (other / "cells" / "a.json").read_text() != f"new in {folder.name}"


def test_without_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(Path, "symlink_to", no_links)
    (tmp_path / "runs" / "passes" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "passes" / "a" / "scores").write_text("numbers")
    mirror(tmp_path / "runs", tmp_path / "view")
    assert (tmp_path / "view" / "passes" / "a" / "scores").read_text() == "numbers"


OTHER = """
import sys, time
from pathlib import Path
from skillneurons import lockstep
from skillneurons.locks import ALONE, Locks
from skillneurons.runner import _announce
with Locks(Path(sys.argv[1])) as locks:
    if sys.argv[2] == "runner":
        _announce(locks, [], print)
    else:
        lockstep._have_alone(locks)
    print("in", flush=True)
    sys.stdin.readline()
print("out", flush=True)
"""


def other(folder: Path, kind: str) -> subprocess.Popen[str]:
    """Start another process that works in a folder until it is told to end."""
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(folder), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=60)


@pytest.mark.parametrize("first", ["runner", "ranks"])
def test_ranks_wait_for_runners_and_runners_for_ranks(first: str, tmp_path: Path) -> None:
    folder, said = tmp_path / "locks", []
    process = other(folder, first)
    try:
        assert process.stdout is not None and process.stdout.readline() == "in\n"
        with Locks(folder) as locks:

            def begin() -> None:
                if first == "runner":
                    lockstep._have_alone(locks)
                else:
                    _announce(locks, said, lambda _: None)

            thread = threading.Thread(target=begin)
            thread.start()
            thread.join(1.5)
            assert thread.is_alive()
            end(process)
            thread.join(60)
            assert not thread.is_alive()
            assert locks.holds(ALONE if first == "runner" else f"{RUNNER}{locks.me.token[:8]}")
        if first == "ranks":
            label = f"{platform.node()}:{process.pid}"
            assert said == [f"waited for {label}, who had the folder alone (model.tp_plan)"]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_an_output_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    here = ranks_here()
    assert here is not None and here.leads and here.size == 2
    with pytest.raises(UserError) as caught, in_lockstep("s3://bucket/run"):
        pass
    assert str(caught.value) == (
        "output 's3://bucket/run': ranks (model.tp_plan) share a folder of this machine; give one with -o DIR"
    )


def test_a_file_url_is_a_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(lockstep, "joined", ranks_here)
    monkeypatch.setattr(lockstep, "_all_see", lambda output, ranks: None)
    with in_lockstep(f"file://{tmp_path}/run") as output:
        assert output == tmp_path / "run"
