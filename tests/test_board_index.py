"""The index of a board: what it spares, that it never shows, and cells that stand at a URL."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from skillneurons.errors import ResultsError, UserError
from skillneurons.leaderboard import ahead, entries
from skillneurons.leaderboard.arrow import arrow_column
from skillneurons.leaderboard.board import build_board, render
from skillneurons.leaderboard.index import NAME, Index
from synthetic_cells import synthetic_cell, write_synthetic

FORMATS = ("md", "csv", "parquet")


def contents(folder: Path, index: Index | None = None) -> list[bytes]:
    board = build_board([folder], index)
    if index is not None:
        index.save()
    return [render(board, name) for name in FORMATS]


def older(folder: Path) -> None:
    """Give every cell a time stamp of an hour ago: younger ones are read again to be sure."""
    for path in (folder / "cells").iterdir():
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600))


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    real = entries.make_bundle
    monkeypatch.setattr(entries, "make_bundle", lambda cells: (made.append(len(cells)), real(cells))[1])
    return made


def test_a_board_from_the_index_has_the_same_bytes_and_only_what_changed_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, kept = write_synthetic(tmp_path / "runs", range(90)), tmp_path / NAME
    older(runs)
    made = counting(monkeypatch)
    first = contents(runs, Index(kept))
    assert first == contents(runs) and sum(made) == 180
    made.clear()
    before = kept.read_bytes()
    assert contents(runs, Index(kept)) == first and made == [] and kept.read_bytes() == before
    write_synthetic(runs, [4, 5, 80], shift=0.01)  # 4 and 5 are seeds of one bundle
    changed = contents(runs, Index(kept))
    assert changed != first and made == [3, 3]
    assert changed == contents(runs)
    (runs / "cells" / f"{synthetic_cell(7)['key']}.json").unlink()
    assert contents(runs, Index(kept)) == contents(runs) != changed


def test_a_file_of_the_same_size_that_changed_is_seen(tmp_path: Path) -> None:
    runs, kept = write_synthetic(tmp_path / "runs", range(3)), tmp_path / NAME
    first = contents(runs, Index(kept))
    path = runs / "cells" / f"{synthetic_cell(1)['key']}.json"
    text = path.read_text()
    path.write_text(text.replace('"n_fwer": 120', '"n_fwer": 121'))  # written just now: its time may not tell
    assert len(path.read_text()) == len(text)
    assert contents(runs, Index(kept)) == contents(runs) != first
    older(runs)
    again = contents(runs, Index(kept))
    path.write_text(text)
    assert contents(runs, Index(kept)) == first != again


def test_the_order_and_the_age_of_files_do_not_show(tmp_path: Path) -> None:
    runs = write_synthetic(tmp_path / "runs", range(60))
    first = contents(runs)
    shuffled = tmp_path / "shuffled" / "cells"
    shuffled.mkdir(parents=True)
    paths = sorted((runs / "cells").iterdir())
    random.Random(0).shuffle(paths)
    for path in paths:
        shutil.copyfile(path, shuffled / path.name)
    assert contents(shuffled.parent) == first
    halves = [tmp_path / name / "cells" for name in ("one", "two")]
    for half, part in zip(halves, (paths[:25], paths[20:]), strict=True):  # five cells stand in both
        half.mkdir(parents=True)
        for path in part:
            shutil.copyfile(path, half / path.name)
    board = build_board([half.parent for half in halves])
    assert [render(board, name) for name in FORMATS] == first and board.problems == []


@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more", None])
def test_an_index_that_is_damaged_or_of_another_program_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    runs, kept = write_synthetic(tmp_path / "runs", range(6)), tmp_path / NAME
    older(runs)
    first = contents(runs, Index(kept))
    if damage is not None:
        kept.write_bytes(damage)
    else:
        monkeypatch.setattr("skillneurons.leaderboard.index.program", lambda: "another")
    made = counting(monkeypatch)
    assert contents(runs, Index(kept)) == first and sum(made) == 6
    made.clear()
    assert contents(runs, Index(kept)) == first and made == []


def test_a_damaged_cell_is_named_at_every_build(tmp_path: Path) -> None:
    runs, kept = write_synthetic(tmp_path / "runs", range(3)), tmp_path / NAME
    (runs / "cells" / "half.json").write_text('{"key": "ha')
    older(runs)
    told = []
    for _ in range(2):
        index = Index(kept)
        told.append(build_board([runs], index).problems)
        index.save()
    assert (
        told[0]
        == told[1]
        == [
            f"{runs}/cells/half.json is left out: it is not valid JSON (Unterminated string starting at: line 1 column 9 (char 8))"
        ]
    )


def test_the_command_keeps_an_index_and_a_check_does_not_trust_it(tmp_path: Path) -> None:
    runs, out = write_synthetic(tmp_path / "runs", range(6)), tmp_path / "out"
    older(runs)

    def run(*extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "skillneurons", "leaderboard", str(runs), "-o", str(out), *extra]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run().returncode == 0 and (out / NAME).is_file()
    path = runs / "cells" / f"{synthetic_cell(1)['key']}.json"
    about = path.stat()
    path.write_text(path.read_text().replace('"n_fwer": 120', '"n_fwer": 121'))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # changed behind the index's back
    assert run().returncode == 0 and "121" not in (out / "board.csv").read_text()
    checked = run("--check")
    assert checked.returncode == 1 and "(rebuilt)" in checked.stdout
    (out / NAME).unlink()
    assert run().returncode == 0 and run("--check").returncode == 0


def test_cells_at_a_url(tmp_path: Path) -> None:
    import fsspec

    runs = write_synthetic(tmp_path / "runs", range(9))
    (runs / "cells" / f"{synthetic_cell(0)['key']}.run.json").write_text("{}")
    system = fsspec.filesystem("memory")
    system.put(str(runs), "/bucket/run", recursive=True)
    try:
        kept = tmp_path / NAME
        board = build_board(["memory://bucket/run"], Index(kept))
        assert [render(board, name) for name in FORMATS] == contents(runs) and board.problems == []
        with pytest.raises(ResultsError) as caught:
            build_board(["memory://bucket/nothing"])
        assert str(caught.value) == (
            "cannot read results from memory://bucket/nothing: no such folder; "
            "run `skillneurons run -o memory://bucket/nothing` first"
        )
        with pytest.raises(UserError, match="cannot open nowhere://x: no protocol named .nowhere. is known"):
            build_board(["nowhere://x"])
    finally:
        system.rm("/bucket", recursive=True)


def test_no_torch_and_no_pandas_in_a_build(tmp_path: Path) -> None:
    runs = write_synthetic(tmp_path / "runs", range(6))
    code = (
        "import sys; from pathlib import Path; from skillneurons.leaderboard.board import *; from skillneurons.leaderboard.index import *\n"
        f"for _ in range(2):\n  i = Index(Path({str(tmp_path / NAME)!r})); write_board(build_board([{str(runs)!r}], i), {str(tmp_path)!r}); i.save()\n"
        "assert not {'torch', 'pandas'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None, "ä|\u2028", ""], str),
        ([b"\xff", b"", None], bytes),
        ([1, None, -(2**62)], int),
        ([0.1, None, float("nan"), -0.0], float),
        ([None, None], str),
        ([], float),
        ([1.5, 2.5], float),
    ],
)
def test_arrow_columns_are_those_of_pyarrow(values: list[object], kind: type) -> None:
    types = {str: pa.string(), bytes: pa.binary(), int: pa.int64(), float: pa.float64()}
    ours, theirs = arrow_column(values, kind), pa.array(values, types[kind])
    ours.validate(full=True)
    assert ours.type == theirs.type and ours.null_count == theirs.null_count
    assert repr(ours.to_pylist()) == repr(theirs.to_pylist())


def test_several_processes_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = write_synthetic(tmp_path / "runs", range(150))
    (runs / "cells" / "half.json").write_text('{"key": "ha')
    other = write_synthetic(tmp_path / "other", range(140, 170))
    first = build_board([runs, other])
    monkeypatch.setattr(ahead, "MANY", 20)
    index = Index(tmp_path / NAME)
    made = counting(monkeypatch)
    board = build_board([other, runs], index, processes=3)
    assert [render(board, name) for name in FORMATS] == [render(first, name) for name in FORMATS]
    assert board.problems == first.problems != []
    assert made == [], "what other processes had worked out was worked out again"
    index.save()
    older(runs)
    assert [render(build_board([runs, other], Index(tmp_path / NAME)), name) for name in FORMATS] == [
        render(first, name) for name in FORMATS
    ]


def test_files_whose_names_say_nothing_give_the_same_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, odd = tmp_path / "plain" / "cells", tmp_path / "odd" / "cells"
    plain.mkdir(parents=True)
    odd.mkdir(parents=True)
    for index in range(60):
        cell = synthetic_cell(index)
        for place, key in ((plain, f"a-b-{index:03d}"), (odd, f"{index % 7}-{index:03d}-x-{index * 37 % 60:03d}")):
            (place / f"{key}.json").write_text(json.dumps(cell | {"key": key}))
    monkeypatch.setattr(ahead, "MANY", 10)
    one, other = (build_board([place.parent], processes=2) for place in (plain, odd))
    drop = {"keys": None}
    assert [row | drop for row in other.rows] == [row | drop for row in one.rows] and len(one.rows) == 20
    assert other.standings == one.standings
