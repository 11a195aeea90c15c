"""Stores that results are read from: stamps that can be believed, entries that are no plain files, drivers that fail."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from skillneurons.errors import ResultsError
from skillneurons.leaderboard.board import build_board, render
from skillneurons.leaderboard.found_cells import read_entry
from skillneurons.leaderboard.index import NAME, Index
from skillneurons.leaderboard.sources import open_source
from synthetic_cells import synthetic_cell, write_synthetic


def zipped(folder: Path, place: Path) -> str:
    with zipfile.ZipFile(place, "w") as packed:
        for path in sorted(folder.rglob("*.json")):
            packed.write(path, f"run/{path.relative_to(folder)}")
    fsspec.filesystem("zip", fo=str(place)).clear_instance_cache()
    return f"zip://run::file://{place}"


def indexed(place: str, kept: Path) -> bytes:
    index = Index(kept)
    board = build_board([place], index)
    index.save()
    assert board.problems == []
    return render(board, "csv")


def test_a_change_inside_an_archive_is_seen(tmp_path: Path) -> None:
    runs = write_synthetic(tmp_path / "runs", range(3))
    before = indexed(zipped(runs, tmp_path / "runs.zip"), tmp_path / NAME)
    assert before == render(build_board([runs]), "csv")
    path = runs / "cells" / f"{synthetic_cell(0)['key']}.json"
    text = path.read_text()
    changed = text.replace('"n_fwer": 120', '"n_fwer": 121')
    assert changed != text and len(changed) == len(text)
    path.write_text(changed)
    after = indexed(zipped(runs, tmp_path / "runs.zip"), tmp_path / NAME)
    assert after != before and after == render(build_board([runs]), "csv")


def test_a_store_that_says_nothing_of_changes_is_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = zipped(write_synthetic(tmp_path / "runs", range(3)), tmp_path / "runs.zip")
    source = open_source(place)
    assert all(file.stamp for file in source.files("cells"))
    system = source._mirror.store._system  # type: ignore[attr-defined]
    real = type(system).ls

    def bare(self: Any, path: str, detail: bool = True, **more: Any) -> list[dict[str, Any]]:
        found = real(self, path, detail=detail, **more)
        return [{name: entry[name] for name in ("name", "size", "type")} for entry in found]

    monkeypatch.setattr(type(system), "ls", bare)
    assert {file.stamp for file in source.files("cells")} == {""}


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_links_count_and_what_is_no_file_is_named(tmp_path: Path, scheme: str) -> None:
    real = write_synthetic(tmp_path / "real", range(3))
    runs = write_synthetic(tmp_path / "runs", range(1))
    for path in (real / "cells").iterdir():
        if not (runs / "cells" / path.name).exists():
            (runs / "cells" / path.name).symlink_to(path)
    (runs / "cells" / "gone.json").symlink_to(tmp_path / "nowhere.json")
    (runs / "cells" / "folder.json").mkdir()
    board = build_board([f"{scheme}{runs}"])
    assert render(board, "csv") == render(build_board([real]), "csv")
    named = sorted(
        problem.split(" is left out: it cannot be read (")[0].rsplit("/", 1)[1] for problem in board.problems
    )
    assert named == ["folder.json", "gone.json"]


def test_a_driver_that_fails_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    url = f"zip://run::file://{tmp_path}/broken.zip"
    with pytest.raises(ResultsError) as caught:
        build_board([url])
    assert str(caught.value) == (
        f"cannot open {url}: BadZipFile: File is not a zip file; check the address and your access"
    )


def test_a_cell_that_changes_while_the_board_is_built_is_noticed(tmp_path: Path) -> None:
    runs = write_synthetic(tmp_path / "runs", range(1))
    (entries,) = build_board([runs]).found.bundles.values()
    assert read_entry(entries[0]).key == synthetic_cell(0)["key"]
    path = runs / "cells" / entries[0].file.name
    path.write_text(json.dumps({**json.loads(path.read_text()), "seed": 9}))
    with pytest.raises(ResultsError, match=r"changed while the board was built; build it again$"):
        read_entry(entries[0])


def test_comparisons_of_one_key_and_other_content_are_refused(tmp_path: Path) -> None:
    committed = Path(__file__).parent.parent / "leaderboard" / "pocket" / "across"
    across = json.loads(min(committed.glob("*.json")).read_text())
    folders = [write_synthetic(tmp_path / name, range(1)) for name in ("one", "two")]
    for folder, seed in zip(folders, (0, 7), strict=True):
        (folder / "across").mkdir()
        (folder / "across" / f"{across['key']}.json").write_text(json.dumps({**across, "seed": seed}))
    with pytest.raises(ResultsError) as caught:
        build_board(folders)
    assert str(caught.value) == (
        f"{folders[1]}/across/{across['key']}.json and another folder's across/{across['key']}.json hold the same key with "
        "different content; remove the wrong one (`skillneurons run` in an empty folder tells which)"
    )
    (folders[0] / "across" / f"{across['key']}.json").rename(folders[0] / "across" / "zzz.json")
    (problem,) = build_board(folders[:1]).problems
    assert problem == (
        f"{folders[0]}/across/zzz.json is left out: it holds {across['key']!r}: files are named after their key"
    )
