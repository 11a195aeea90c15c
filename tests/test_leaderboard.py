"""The table: the same cells give the same bytes, nothing is mixed, every empty number has its reason."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from skillneurons.cli import main
from skillneurons.errors import ResultsError, UnknownNameError
from skillneurons.leaderboard.board import board_text, build_board, check_board, write_board
from skillneurons.leaderboard.formats import one_line, printed
from skillneurons.leaderboard.rows import COLUMNS, make_rows
from skillneurons.leaderboard.seeds import chance_overlap, interval_of_mean
from skillneurons.results import Result, ResultsFolder
from skillneurons.splits import stable_hash

DESIGN = (
    "model, revision, task, metric, column, position, site, statistic, seeds, n_discovery, n_heldout, "
    "n_neurons, accuracy_untuned, accuracy_tuned, top1_r, top10_r, top10_mean_r, heldout_top10_r, "
    "heldout_top10_r_low, heldout_top10_r_high, baseline_top10_r, partial_r, null95_r, n_fwer, n_fdr, "
    "ablation_drop, random_drop, random_drop_sd, causal_z, stability, status, reason, keys"
)
ADDED = (
    ", tuned_on, graded_by, untuned_top10_r, shrinkage, n_replicated, top10_r_sd, heldout_top10_r_sd, "
    "stability_chance, null_scheme, above, verdict, verified"
)
GOLDEN = Path(__file__).parent / "golden"
NOT_RUN = "untuned_top10_r, partial_r, null, heldout interval: not run; causal: not run"


def column(**changes: Any) -> dict[str, Any]:
    return {
        "status": "ok",
        "reason": "",
        "n_discovery": 300,
        "n_heldout": 200,
        "mean": 0.5,
        "sd": 0.25,
        "top1_r": 0.9,
        "top10_r": 0.8,
        "top10_mean_r": 0.85,
        "heldout_top10_r": 0.7,
        "heldout_top10_r_low": None,
        "heldout_top10_r_high": None,
        "baseline_top10_r": 0.25,
        "partial_r": None,
        "null95_r": None,
        "n_fwer": None,
        "n_fdr": None,
        "top": [{"layer": 0, "neuron": n, "r": 0.9, "r_heldout": 0.7} for n in range(10)],
        **changes,
    }


def cell(key: str, *, seed: int = 0, columns: dict[str, Any] | None = None, **changes: Any) -> Result:
    columns = {"confidence.p_target": column()} if columns is None else columns
    content: dict[str, Any] = {
        "key": key,
        "status": "ok",
        "model": {"name": "pocket", "revision": "r1", "dtype": "float32", "architecture": "qwen2"},
        "task": {
            "name": "arithmetic",
            "version": "1",
            "kind": "choice",
            "source_hash": "s",
            "data_hash": "d",
            "chance": 0.5,
        },
        "metric": {"name": "confidence", "version": "1", "source_hash": "m", "columns": list(columns)},
        "seed": seed,
        "prompt": "p",
        "pass_": "q",
        "config": {
            "prompt": {"num_virtual_tokens": 20},
            "attribution": {"position": "last", "site": "product", "statistic": "pearson"},
        },
        "n": {"train": 400, "validation": 100, "discovery": 300, "heldout": 200},
        "n_neurons": 4096,
        "accuracy": {"untuned": 0.5, "tuned": 0.75, "stderr": 0.03},
        "columns": columns,
    }
    return Result(**{**content, **changes})


def failed(key: str, message: str = "out of memory", **changes: Any) -> Result:
    error = {"type": "CellError", "message": message}
    return cell(key, **{"status": "failed", "error": error, "columns": {}, **changes})


def save(folder: Path, cells: list[Result]) -> Path:
    results = ResultsFolder(folder)
    results.prepare()
    for one in cells:
        results.write_cell(one, {})
    return folder


def gallery() -> list[Result]:
    """Cells of every status: two seeds, a failure, a constant column, one that does not apply."""
    other = {
        "labels.hard": column(status="degenerate", reason="every value is 1", top1_r=None, top10_r=None),
        "labels.len|gth": column(top1_r=0.123456789, n_fwer=12, n_fdr=40),
        "labels.shown": {"status": "not_applicable", "reason": "no such label"},
    }
    second = column(top1_r=0.8, top10_r=0.7, heldout_top10_r=0.6, top=[{"layer": 0, "neuron": n} for n in range(5, 15)])
    labels = {"name": "labels", "version": "1", "columns": list(other)}
    causal = {"columns": {"labels.len|gth": {"ablation_drop": 0.25, "random_drop": 0.01, "causal_z": 3.14159}}}
    task = {**cell("a0").task, "tuned_on": "other texts", "grader": {"name": "rules", "synthetic": True}}
    scores = [
        {"name": "exact_match", "part": "", "value": 0.25, "n": 500, "detail": False},
        {"name": "exact_match", "part": "k = 2", "value": None, "n": 0, "detail": False},
        {"name": "exact_match", "part": "small", "value": 1.0, "n": 3, "detail": True},
    ]
    again = [{**scores[0], "value": 0.5}, *scores[1:]]
    return [
        cell("a0", task=task, scores=scores),
        cell("a1", seed=1, columns={"confidence.p_target": second}, task=task, scores=again),
        cell("b0", columns=other, metric=labels, causal=causal),
        failed("c0", "no room\nfor <this>", task={"name": "hans", "version": "1"}),
    ]


def test_columns_are_those_of_the_design() -> None:
    assert ", ".join(COLUMNS) == DESIGN + ADDED


def test_markdown_page(tmp_path: Path) -> None:
    (path,) = write_board(build_board([save(tmp_path / "runs", gallery())]), tmp_path / "out", ["md"])
    assert path.read_text() == (GOLDEN / "board.md").read_text()


def test_the_page_gives_the_tasks_own_figures_and_says_who_graded(tmp_path: Path) -> None:
    (path,) = write_board(build_board([save(tmp_path / "runs", gallery())]), tmp_path / "out", ["md"])
    text = path.read_text()
    assert "\n  - prompt tuned on other texts; graded by rules (synthetic)\n" in text
    assert "\n  - exact_match: all 0.375 (n = 500), k = 2 not scored (n = 0)\n" in text and "small" not in text


def test_any_order_of_files_and_folders_gives_the_same_bytes(tmp_path: Path) -> None:
    cells = gallery()
    reference = write_board(build_board([save(tmp_path / "all", cells)]), tmp_path / "reference")
    assert [path.name for path in reference] == ["board.md", "board.csv", "board.parquet"]
    for seed in range(4):
        cells.sort(key=lambda one: stable_hash(one.key, str(seed)))
        parts = [save(tmp_path / f"{seed}{half}", cells[half::2]) for half in (0, 1)]
        written = write_board(build_board(parts[:: 1 if seed % 2 else -1]), tmp_path / f"out{seed}")
        assert [path.read_bytes() for path in written] == [path.read_bytes() for path in reference]
        assert make_rows(cells) == make_rows(reversed(cells))


def test_a_row_averages_its_seeds() -> None:
    (row,) = make_rows(gallery()[:2])
    assert row == {
        "model": "pocket",
        "revision": "r1",
        "task": "arithmetic",
        "metric": "confidence",
        "column": "confidence.p_target",
        "position": "last",
        "site": "product",
        "statistic": "pearson",
        "seeds": 2,
        "n_discovery": 300,
        "n_heldout": 200,
        "n_neurons": 4096,
        "accuracy_untuned": 0.5,
        "accuracy_tuned": 0.75,
        "top1_r": pytest.approx(0.85),
        "top10_r": 0.75,
        "top10_mean_r": 0.85,
        "heldout_top10_r": pytest.approx(0.65),
        "heldout_top10_r_low": None,
        "heldout_top10_r_high": None,
        "baseline_top10_r": 0.25,
        "partial_r": None,
        "null95_r": None,
        "n_fwer": None,
        "n_fdr": None,
        "ablation_drop": None,
        "random_drop": None,
        "random_drop_sd": None,
        "causal_z": None,
        "stability": pytest.approx(5 / 15),
        "status": "ok",
        "reason": NOT_RUN,
        "keys": "a0 a1",
        "tuned_on": "other texts",
        "graded_by": "rules (synthetic)",
        "untuned_top10_r": None,
        "shrinkage": pytest.approx(0.2),
        "n_replicated": None,
        "top10_r_sd": pytest.approx(0.05 * 2**0.5),
        "heldout_top10_r_sd": pytest.approx(0.05 * 2**0.5),
        "stability_chance": pytest.approx(10 / (20 - 100 / 4096) * 10 / 4096, rel=0.1),
        "null_scheme": None,
        "above": None,
        "verdict": None,
        "verified": "no",
    }


def test_several_seeds_share_their_resamples() -> None:
    parts = [column(resamples="4000 6000 5000", n_fwer=3), column(resamples="6000 6000 7000", n_fwer=5)]
    (row,) = make_rows([cell(f"a{i}", seed=i, columns={"confidence.p_target": part}) for i, part in enumerate(parts)])
    # means 0.5, 0.6, 0.6: the 2.5th percentile lies 5 % of the way from the first to the second
    assert row["heldout_top10_r_low"] == pytest.approx(0.505) and row["heldout_top10_r_high"] == pytest.approx(0.6)
    assert row["n_fwer"] == 4


def test_seeds_with_other_resamples_have_no_common_interval() -> None:
    parts = [column(resamples="4000 6000"), column(resamples="6000 6000 7000")]
    (row,) = make_rows([cell(f"a{i}", seed=i, columns={"confidence.p_target": part}) for i, part in enumerate(parts)])
    assert row["heldout_top10_r_low"] is None


def test_chance_overlap_by_hand() -> None:
    # two of four: the overlap is 0, 1, 2 with chances 1/6, 4/6, 1/6; Jaccard 0, 1/3, 1
    assert chance_overlap(2, 4) == pytest.approx(4 / 6 / 3 + 1 / 6)
    assert chance_overlap(5, 3) == 1.0


def test_what_a_cell_says_of_its_null_stands_on_the_row() -> None:
    above = [
        {"threshold": 0.43, "n": 31, "share": 31 / 2560, "null": 0.25},
        {"threshold": 0.83, "n": 0, "share": 0.0, "null": None},
    ]
    shortcut = {"wanted": "h.correct", "reason": "", "verdicts": {"shortcut": 1, "wanted": 7, "undecided": 2}}
    told = column(
        null_reason="3 groups only",
        interval_reason="2 groups",
        partial_reason="no nuisance",
        above=above,
        shortcut=shortcut,
        null_scheme="rows",
    )
    (row,) = make_rows([cell("a0", columns={"confidence.p_target": told})])
    assert row["above"] == "0.43: 31 (1.2 %), null 0.2; 0.83: 0 (0.0 %), null not run"
    assert row["verdict"] == "against h.correct: shortcut 1, wanted 7, undecided 2"
    assert row["null_scheme"] == "rows"
    assert row["reason"] == (
        "untuned_top10_r: not run; partial_r: no nuisance; null: 3 groups only; heldout interval: 2 groups; "
        "causal: not run; stability: one seed"
    )


def test_one_seed_has_no_stability() -> None:
    (row,) = make_rows([cell("a0")])
    assert row["stability"] is None
    assert row["reason"] == f"{NOT_RUN}; stability: one seed"


def test_every_empty_number_of_a_bare_column_is_named() -> None:
    bare = {"confidence.p_target": {"status": "ok", "top1_r": 0.5}}
    (row,) = make_rows([cell("a0", columns=bare, accuracy={}, n={}, n_neurons=0)])
    assert row["reason"] == (
        "n_discovery, n_heldout, n_neurons: not recorded; top10_r, top10_mean_r, heldout_top10_r: undefined; "
        "accuracy_untuned, accuracy_tuned, baseline_top10_r, untuned_top10_r, partial_r, null, "
        "heldout interval: not run; causal: not run; stability: one seed"
    )


def test_a_figure_of_some_seeds_only_says_so() -> None:
    (row,) = make_rows(
        [cell("a0"), cell("a1", seed=1, columns={"confidence.p_target": column(null95_r=0.2, n_heldout=150)})]
    )
    assert row["null95_r"] == 0.2
    assert row["n_heldout"] == 150
    assert row["reason"].endswith("; null95_r: 1 of 2 seeds")


def test_other_statuses_and_their_reasons() -> None:
    rows = {row["column"]: row for row in make_rows(gallery())}
    assert (rows["labels.hard"]["status"], rows["labels.hard"]["reason"]) == (
        "degenerate",
        "degenerate: every value is 1",
    )
    assert rows["labels.hard"]["heldout_top10_r"] is None
    assert (rows["labels.shown"]["status"], rows["labels.shown"]["reason"]) == (
        "not_applicable",
        "not applicable: no such label",
    )
    length = rows["labels.len|gth"]
    assert (length["n_fwer"], length["ablation_drop"], length["causal_z"]) == (12.0, 0.25, 3.14159)
    assert length["reason"] == (
        "untuned_top10_r, partial_r, null95_r, n_replicated, heldout interval: not run; "
        "random_drop_sd: not run; stability: one seed"
    )
    assert (rows[None]["task"], rows[None]["status"], rows[None]["reason"]) == (
        "hans",
        "failed",
        "no room\nfor <this>",
    )


def test_a_failed_cell_gives_a_row_for_each_of_its_columns() -> None:
    metric = {"name": "labels", "version": "1", "columns": ["labels.b", "labels.a"]}
    rows = make_rows([failed("x", metric=metric)])
    assert [(row["column"], row["status"], row["reason"]) for row in rows] == [
        ("labels.a", "failed", "out of memory"),
        ("labels.b", "failed", "out of memory"),
    ]


def test_a_failed_seed_makes_a_partial_row() -> None:
    one = cell("a0")
    (row,) = make_rows([one, failed("a1", seed=1, metric=one.metric)])
    assert (row["status"], row["seeds"], row["top1_r"], row["keys"]) == ("partial", 2, 0.9, "a0 a1")
    assert row["reason"] == f"seed 1 failed: out of memory; {NOT_RUN}; stability: fewer than two rankings"


def test_cells_with_other_settings_are_not_mixed() -> None:
    short = {**cell("x").config, "prompt": {"num_virtual_tokens": 5}}
    rows = make_rows([cell("b0"), cell("a0", config=short), cell("c1", seed=1)])
    assert [(row["keys"], row["reason"].rpartition("; ")[2]) for row in rows] == [
        ("a0", "variant: prompt.num_virtual_tokens=5"),
        ("b0 c1", "variant: prompt.num_virtual_tokens=20"),
    ]


def test_the_same_settings_and_seed_under_two_keys_are_not_mixed() -> None:
    rows = make_rows([cell("a0"), cell("b0")])
    assert [row["keys"] for row in rows] == ["a0", "b0"]
    assert all(row["reason"].endswith("; the same seed and settings under several keys") for row in rows)


def test_versions_are_kept_apart_and_noted(tmp_path: Path) -> None:
    newer = {**cell("x").task, "version": "2"}
    changed = {**cell("x").task, "data_hash": "0123456789abcdef"}
    board = build_board([save(tmp_path, [cell("a0"), cell("b0", task=newer), cell("c0", task=changed)])])
    assert [(row["keys"], row["reason"].rpartition("; ")[2]) for row in board.rows] == [
        ("a0", "variant: task.data_hash=d, task.version=1"),
        ("b0", "variant: task.data_hash=d, task.version=2"),
        ("c0", "variant: task.data_hash=01234567, task.version=1"),
    ]
    assert board.notes == [
        "arithmetic appears in versions 1 and 2: rows are not comparable",
        "arithmetic version 1 appears with 2 different data hashes: rows are not comparable",
    ]
    assert board_text(board).endswith("\n\n".join(["", *board.notes]))


def test_csv_holds_full_precision(tmp_path: Path) -> None:
    (path,) = write_board(build_board([save(tmp_path / "runs", gallery())]), tmp_path / "out", ["csv"])
    data = path.read_bytes()
    assert b"\r" not in data
    rows = list(csv.DictReader(io.StringIO(data.decode())))
    assert [row["keys"] for row in rows] == ["a0 a1", "b0", "b0", "b0", "c0"]
    assert (rows[2]["column"], rows[2]["top1_r"], rows[2]["n_fwer"]) == (
        "labels.len|gth",
        "0.123456789",
        "12",
    )
    assert rows[2]["heldout_top10_r_low"] == ""
    assert rows[4]["reason"] == "no room\nfor <this>"


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    board = build_board([save(tmp_path / "runs", gallery())])
    (path,) = write_board(board, tmp_path / "out", ["parquet"])
    table = pq.read_table(path)
    assert table.to_pylist() == board.rows
    assert {field.name: str(field.type) for field in table.schema} == {
        name: {str: "string", int: "int64", float: "double"}[kind] for name, kind in COLUMNS.items()
    }


def test_text_that_no_file_can_hold_is_escaped(tmp_path: Path) -> None:
    board = build_board([save(tmp_path / "runs", [failed("x", "bad \ud800 text")])])
    write_board(board, tmp_path / "out")
    assert board.rows[0]["reason"] == "bad \\ud800 text"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("top1_r", 0.12345, "0.123"),
        ("top1_r", -0.0001, "0.000"),
        ("top1_r", None, ""),
        ("causal_z", 3.14159, "3.14"),
        ("n_fwer", 12.0, "12"),
        ("n_fwer", 12.5, "12.5"),
        ("seeds", 3, "3"),
    ],
)
def test_printed_numbers(name: str, value: float | None, text: str) -> None:
    assert printed(name, value) == text


def test_text_never_breaks_a_markdown_table() -> None:
    assert one_line("a|b\\|c\r\nd<e>\u2028f") == "a\\|b\\\\\\|c<br>d&lt;e><br>f"


def test_a_missing_folder_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        build_board([tmp_path / "nowhere"])
    where = tmp_path / "nowhere"
    assert str(caught.value) == (
        f"cannot read results from {where}: no such folder; run `skillneurons run -o {where}` first"
    )
    with pytest.raises(ResultsError) as caught:
        build_board([tmp_path])
    assert str(caught.value) == (
        f"cannot read results from {tmp_path}: it has no folder cells/; run `skillneurons run -o {tmp_path}` first"
    )


def test_a_folder_without_cells_is_a_problem_and_no_cells_at_all_an_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    ResultsFolder(empty).prepare()
    told = f"{empty} holds no cells; run `skillneurons run -o {empty}` first"
    board = build_board([save(tmp_path / "runs", [cell("a0")]), empty])
    assert board.problems == [told] and [row["keys"] for row in board.rows] == ["a0"]
    with pytest.raises(ResultsError) as caught:
        build_board([empty])
    assert str(caught.value) == told


def test_damaged_cells_alone_are_named_and_the_former_board_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = save(tmp_path / "runs", [cell("a0")]), tmp_path / "out"
    assert main(["leaderboard", str(runs), "-o", str(out), "--format", "md", "--format", "html"]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for name in ("a0", "b0", "b1", "b2"):
        (runs / "cells" / f"{name}.json").write_text('{"schema_version": 7}')
    capsys.readouterr()
    assert main(["leaderboard", str(runs), "-o", str(out), "--format", "md", "--format", "html"]) == 2
    why = "is left out: schema_version 7 is not 1: it was written by another version of skillneurons"
    named = "; ".join(f"{runs}/cells/{name}.json {why}" for name in ("a0", "b0", "b1"))
    assert capsys.readouterr().err == f"skillneurons: error: no cell can be shown: {named}; and 1 more\n"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_where_one_file_cannot_be_written_none_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = save(tmp_path / "runs", [cell("a0")]), tmp_path / "out"
    assert main(["leaderboard", str(runs), "-o", str(out)]) == 0
    before = (out / "board.md").read_bytes()
    (out / "board.parquet").unlink()
    (out / "board.parquet").mkdir()
    save(runs, [cell("a0", seed=3, accuracy={"untuned": 0.1, "tuned": 0.2, "stderr": None})])
    capsys.readouterr()
    assert main(["leaderboard", str(runs), "-o", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"skillneurons: error: cannot write {out}/board.parquet: is a directory; give another folder with -o DIR\n"
    )
    assert (out / "board.md").read_bytes() == before and not list(out.glob("*.tmp")) + list(out.glob(".*.tmp"))


def test_where_one_page_cannot_be_written_nothing_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = save(tmp_path / "runs", gallery()), tmp_path / "out"
    command = ["leaderboard", str(runs), "-o", str(out), "--format", "md", "--format", "html"]
    assert main(command) == 0
    (out / "index.html").unlink()
    (out / "index.html" / "kept").mkdir(parents=True)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix != ".parquet"}
    next((runs / "cells").glob("a*.json")).unlink()
    capsys.readouterr()
    assert main(command) == 2
    assert capsys.readouterr().err == (
        f"skillneurons: error: cannot write {out}/index.html: is a directory; give another folder with -o DIR\n"
    )
    assert {
        path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix != ".parquet"
    } == before
    assert not list(out.glob(".*.tmp"))
    shutil.rmtree(out / "index.html")
    assert main(command) == 0 and (out / "index.html").is_file() and not list(out.glob(".*.tmp"))


def test_an_index_that_cannot_be_written_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = save(tmp_path / "runs", [cell("a0")]), tmp_path / "out"
    (out / ".board-index.parquet").mkdir(parents=True)
    assert main(["leaderboard", str(runs), "-o", str(out)]) == 0
    told = capsys.readouterr().err.splitlines()[0]
    assert told.startswith(f"skillneurons: warning: the next build will take longer: cannot write {out}/.board-index")


def test_a_stale_board_names_the_command_that_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = save(tmp_path / "runs", [cell("a0")]), tmp_path / "out"
    assert main(["leaderboard", str(runs), "-o", str(out), "--format", "html", "--check"]) == 1
    told = capsys.readouterr().err
    assert told == (
        f"skillneurons: {out} is stale; rebuild it with: skillneurons leaderboard {runs} -o {out} --format html\n"
    )


def test_a_damaged_cell_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    save(tmp_path, [cell("a0")])
    (tmp_path / "cells" / "b0.json").write_text("")
    board = build_board([tmp_path])
    reason = "it is not valid JSON (Expecting value: line 1 column 1 (char 0))"
    assert board.problems == [f"{tmp_path}/cells/b0.json is left out: {reason}"]
    assert [row["keys"] for row in board.rows] == ["a0"]
    page = write_board(board, tmp_path / "out", ["md"])[0].read_text()
    assert page.endswith(f"\n## Left out\n\n- cells/b0.json: {reason}\n")


def test_one_key_in_two_folders(tmp_path: Path) -> None:
    same = [save(tmp_path / name, [cell("a0")]) for name in ("one", "two")]
    assert build_board(same).problems == []
    other = save(tmp_path / "three", [cell("a0", seed=7)])
    for one, two in ((same[0], other), (other, same[0])):
        with pytest.raises(ResultsError) as caught:
            build_board([one, two])
        assert str(caught.value) == (
            f"{one}/cells/a0.json and {two}/cells/a0.json hold the same key with different content, so one of them is not "
            "what its key says; remove the wrong one (`skillneurons run` in an empty folder tells which)"
        )
    (same[1] / "cells" / "a0.json").write_text(json.dumps(cell("a0").to_json()))  # the same, written otherwise
    assert build_board(same).problems == []


def test_check_is_silent_when_fresh_and_shows_the_difference(tmp_path: Path) -> None:
    out = tmp_path / "out"
    board = build_board([save(tmp_path / "runs", gallery())])
    names = [f"{out}/board.{name}" for name in ("md", "csv", "parquet")]
    assert check_board(board, out) == "".join(f"{name} is missing\n" for name in names)
    write_board(board, out)
    assert check_board(board, out) == ""
    newer = build_board([save(tmp_path / "runs", [cell("a0", accuracy={"untuned": 0.5, "tuned": 0.875})])])
    difference = check_board(newer, out)
    assert f"--- {names[0]}\n+++ {names[0]} (rebuilt)\n" in difference
    assert f"--- {names[1]}\n+++ {names[1]} (rebuilt)\n" in difference
    assert difference.endswith(f"{names[2]} is stale\n")
    (out / "board.csv").write_bytes((out / "board.csv").read_bytes().replace(b"\n", b"\r\n"))
    assert check_board(board, out) == f"{names[1]} differs in its line ends\n"


def test_an_unknown_format_writes_nothing(tmp_path: Path) -> None:
    board = build_board([save(tmp_path / "runs", [cell("a0")])])
    with pytest.raises(UnknownNameError) as caught:
        write_board(board, tmp_path / "out", ["md", "cvs"])
    assert str(caught.value) == "no format named 'cvs'; did you mean 'csv'? known: csv, md, parquet"
    assert not (tmp_path / "out").exists()


def test_terminal_text(tmp_path: Path) -> None:
    text = board_text(build_board([save(tmp_path, gallery())]))
    assert f"{text}\n" == (GOLDEN / "board.txt").read_text()


def test_terminal_text_fits_a_width(tmp_path: Path) -> None:
    board = build_board([save(tmp_path, [cell("a0")])])
    text = board_text(board, width=90)
    assert max(map(len, text.splitlines()[2:-2])) <= 90
    assert text.splitlines()[-1] == (
        "not shown for want of width: n_heldout, acc untuned/tuned, n_discovery, partial_r, status, baseline_top10_r, "
        "n_fwer, 95 % interval, n_replicated"
    )
    assert "n_heldout" in board_text(board)


HEAVY = "import sys; print(sorted({'torch', 'transformers'} & set(sys.modules)), end='')"


def loaded_by(program: str, *arguments: Path) -> str:
    command = [sys.executable, "-c", f"{program}\n{HEAVY}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_board_never_loads_torch(tmp_path: Path) -> None:
    save(tmp_path / "runs", gallery())
    program = """
import sys
from skillneurons.leaderboard.board import board_text, build_board, check_board, write_board
board = build_board(sys.argv[1:2])
write_board(board, sys.argv[2])
assert board_text(board) and not check_board(board, sys.argv[2])
"""
    assert loaded_by(program, tmp_path / "runs", tmp_path / "out") == "[]"


def test_that_loading_torch_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    assert loaded_by("import sys\nsys.path.insert(0, sys.argv[1])\nimport torch", tmp_path) == "['torch']"


def test_an_interval_over_seeds_passes_over_few_undefined_resamples_and_needs_the_same_groups() -> None:
    numbers = " ".join(str(n) for n in range(100))
    low, high, why = interval_of_mean([numbers, "x " + " ".join(str(n) for n in range(1, 100))], ["a", "a"])
    assert (low, high) == (pytest.approx(1e-4 * 3.45), pytest.approx(1e-4 * 96.55)) and why == ""
    assert interval_of_mean([numbers, " ".join(["x"] * 6 + [numbers.split()[-1]] * 94)])[2] == (
        "undefined on more than 5 % of the resamples: too few groups have the value"
    )
    assert interval_of_mean([numbers, numbers], ["a", "b"]) == (
        None,
        None,
        "the seeds score different examples, so they share no resamples",
    )


def test_nulls_of_two_kinds_are_not_averaged(tmp_path: Path) -> None:
    one, two = (
        column(null95_r=r, n_fwer=3, n_fdr=4, n_replicated=2, null_scheme=scheme)
        for r, scheme in ((0.2, "whole groups"), (0.7, "rows within groups"))
    )
    folder = save(
        tmp_path / "runs",
        [cell("s0", seed=0, columns={"confidence.p": one}), cell("s1", seed=1, columns={"confidence.p": two})],
    )
    (row,) = build_board([folder]).rows
    assert (row["null95_r"], row["n_fwer"], row["n_replicated"]) == (None, None, None)
    assert "null: the seeds have nulls of different kinds (rows within groups; whole groups)" in row["reason"]
