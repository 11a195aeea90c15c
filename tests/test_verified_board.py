"""Signed reports and the board: verified cells have rows of their own, and a report stands for nothing that was changed."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from pathlib import Path

import pytest
from skillneurons.cli import main
from skillneurons.finding import Ledger
from skillneurons.leaderboard.board import build_board, render
from skillneurons.signed_report import parse_report, read_trusted
from submission_files import Hands, edit_json, make_honest


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``runs``, verified and signed with ``key``."""
    place = tmp_path_factory.mktemp("signed")
    make_honest(place / "runs")
    assert main(["verify", "--new-key", str(place / "key")]) == 0
    arguments = ["--sample", "0", "--seed", "3", "--sign", str(place / "key")]
    assert main(["verify", str(place / "runs"), *arguments]) == 0
    return place


@pytest.fixture
def place(signed: Path, tmp_path: Path) -> Path:
    shutil.copytree(signed, tmp_path / "here")
    return tmp_path / "here"


def report_of(place: Path) -> Path:
    (found,) = (place / "runs" / "verification").iterdir()
    return found


def standing(place: Path) -> dict[str, set[str]]:
    """Return which seeds stand in rows that are verified, and in others."""
    board = build_board([place / "runs"], trusted=read_trusted(place / "key.pub"))
    found: dict[str, set[str]] = {}
    for row in board.rows:
        found.setdefault(row["verified"], set()).update(row["keys"].split())
    return {name: {"-".join(key.split("-")[1:3]) for key in keys} for name, keys in found.items()}


ALL_FOUR = {"confidence-s0", "confidence-s1", "labels-s0", "labels-s1"}


def test_cells_that_a_trusted_report_stands_for_are_verified(place: Path) -> None:
    assert standing(place) == {"yes": ALL_FOUR}
    assert build_board([place / "runs"]).rows[0]["verified"] == "no"


def test_a_changed_cell_has_a_row_of_its_own_below(place: Path) -> None:
    hands = Hands(place / "runs")
    hands.edit(lambda cell: cell["columns"]["labels.carry"].update(top10_r=0.99), "labels", 1)
    assert standing(place) == {"yes": ALL_FOUR - {"labels-s1"}, "no": {"labels-s1"}}
    board = build_board([place / "runs"], trusted=read_trusted(place / "key.pub"))
    assert [row["seeds"] for row in board.rows if row["column"] == "labels.carry"] == [1, 1]
    assert [row["verified"] for row in board.rows] == sorted((row["verified"] for row in board.rows), reverse=True)
    text = render(board, "md").decode()
    first, second = text.split("\n# Not verified\n")
    assert "| no |" not in first and "| yes |" not in second
    assert "0.990" in second and "0.990" not in first.partition("### All columns")[2]


@pytest.mark.parametrize("file", ["passes/{}/scores.safetensors", "passes/{}/examples.parquet", "cards/{}.json"])
def test_a_changed_file_beside_a_cell_counts_as_much(file: str, place: Path) -> None:
    hands = Hands(place / "runs")
    path = place / "runs" / file.format(hands.key("confidence", 0))
    path.write_bytes(path.read_bytes() + b" ")
    assert standing(place)["no"] == {"confidence-s0"}


def test_a_changed_prompt_takes_all_its_cells(place: Path) -> None:
    (Hands(place / "runs").prompt(0) / "history.json").write_text("[]")
    assert standing(place) == {"yes": {"confidence-s1", "labels-s1"}, "no": {"confidence-s0", "labels-s0"}}


def forge(place: Path) -> None:
    """Give a changed cell the hash that it has now."""
    import hashlib

    hands = Hands(place / "runs")
    hands.edit(lambda cell: cell["accuracy"].update(tuned=1.0))
    key = hands.key("confidence", 0)
    digest = hashlib.sha256(hands.cell().read_bytes()).hexdigest()
    edit_json(
        report_of(place), lambda report: report["report"]["cells"][key]["files"].update({f"cells/{key}.json": digest})
    )


def unsigned(place: Path) -> None:
    edit_json(report_of(place), lambda report: report.update(signature=None))


def other_signature(place: Path) -> None:
    edit_json(report_of(place), lambda report: report["signature"].update(signature="AAAA"))


def another_key(place: Path) -> None:
    assert main(["verify", "--new-key", str(place / "mine")]) == 0
    report_of(place).unlink()
    assert main(["verify", str(place / "runs"), "--sample", "0", "--sign", str(place / "mine")]) == 0


def no_report(place: Path) -> None:
    report_of(place).write_text("[]")


CHANGED = "its signature is not that of its content: it was changed after it was signed"
FORGERIES = {
    "an edited hash": (forge, CHANGED),
    "another signature": (other_signature, CHANGED),
    "no signature": (unsigned, "it is not signed"),
    "another key": (another_key, "it is signed by a key that is not trusted here"),
    "no report": (no_report, "it is no report (TypeError)"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_report_verifies_nothing(kind: str, place: Path) -> None:
    change, reason = FORGERIES[kind]
    change(place)
    board = build_board([place / "runs"], trusted=read_trusted(place / "key.pub"))
    assert {row["verified"] for row in board.rows} == {"no"}
    assert board.remarks == [f"{report_of(place)} verifies nothing: {reason}"] and not board.problems
    assert "\nNo cell is verified.\n" in render(board, "md").decode()


def test_a_report_with_a_finding_verifies_the_other_cells(place: Path) -> None:
    report_of(place).unlink()
    hands = Hands(place / "runs")
    hands.edit(lambda cell: cell["columns"]["labels.carry"].update(top10_r=0.99), "labels", 1)
    assert main(["verify", str(place / "runs"), "--sample", "0", "--sign", str(place / "key")]) == 1
    assert standing(place) == {"yes": ALL_FOUR - {"labels-s1"}, "no": {"labels-s1"}}


def rows_of(*folders: Path, key: Path) -> set[str]:
    return {row["verified"] for row in build_board(folders, trusted=read_trusted(key)).rows}


def test_a_later_finding_about_the_same_files_outweighs_an_earlier_report(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample that did not draw a cell found nothing, one that drew it did: both reports are signed, both are there."""
    key = Hands(place / "runs").key("labels", 1)

    def found(
        files: object, cells: object, units: object, here: object, terms: object, ledger: Ledger, say: object
    ) -> list[str]:
        ledger.say(5, f"cells/{key}.json", "it is other", "the model gives other figures than the cell", [key])
        return [key]

    monkeypatch.setattr("skillneurons.verify._recompute", found)
    assert main(["verify", str(place / "runs"), "--sample", "all", "--sign", str(place / "key")]) == 1
    assert standing(place) == {"yes": ALL_FOUR - {"labels-s1"}, "no": {"labels-s1"}}
    (remark,) = build_board([place / "runs"], trusted=read_trusted(place / "key.pub")).remarks
    assert remark.endswith(f" found something about {key} as it is, so no other report verifies it")


def test_a_cell_in_two_folders_is_verified_in_any_order(place: Path) -> None:
    copy = place / "a-copy"
    shutil.copytree(place / "runs", copy)
    shutil.rmtree(copy / "verification")
    key = place / "key.pub"
    assert rows_of(copy, place / "runs", key=key) == rows_of(place / "runs", copy, key=key) == {"yes"}
    assert rows_of(copy, key=key) == {"no"}


def test_the_page_of_a_verified_cell_shows_what_was_signed(place: Path) -> None:
    """A folder that comes first by its name has other cards and another record under the same key, and no such cell."""
    hands, theirs = Hands(place / "runs"), place / "a-strangers"
    key = hands.key("confidence", 0)
    shutil.copytree(place / "runs", theirs)
    shutil.rmtree(theirs / "verification")
    for path in (theirs / "cells").glob(f"{key}.json"):
        path.unlink()
    record = theirs / "cells" / f"{key}.run.json"
    edit_json(record, lambda content: content.update(device="a forged device"))
    command = ["leaderboard", str(theirs), str(place / "runs"), "-o", str(place / "site"), "--format", "html"]
    assert main([*command, "--trust", str(place / "key.pub")]) == 0
    page = next((place / "site" / "site").rglob(f"{key}.html")).read_text()
    assert "yes, by a report that a trusted key signed" in page and "a forged device" not in page


def test_a_changed_run_record_counts(place: Path) -> None:
    record = Hands(place / "runs").cell().with_suffix(".run.json")
    edit_json(record, lambda content: content["versions"].update(torch="99.0"))
    assert standing(place)["no"] == {"confidence-s0"}


def test_an_index_that_lies_among_the_cells_makes_no_row(place: Path) -> None:
    """Whoever made the cells may have made it: its rows would stand as verified."""
    import pyarrow as pa
    from pyarrow import parquet

    command = ["leaderboard", str(place / "runs"), "--trust", str(place / "key.pub")]
    assert main(["leaderboard", str(place / "runs"), "-o", str(place / "mine"), *command[2:]]) == 0
    table = parquet.read_table(place / "mine" / ".board-index.parquet")
    forged = [value.replace(b"confidence.margin", b"confidence.forged") for value in table["value"].to_pylist()]
    columns = {**{name: table[name] for name in ("kind", "digest")}, "value": pa.array(forged, pa.large_binary())}
    path = place / "runs" / ".board-index.parquet"
    parquet.write_table(pa.table(columns).replace_schema_metadata(table.schema.metadata), path)
    assert main(command) == 0
    assert "confidence.forged" not in (place / "runs" / "board.md").read_text()


def test_a_report_of_absurd_size_is_not_read(place: Path) -> None:
    with (place / "runs" / "verification" / "huge.json").open("wb") as file:
        file.truncate(1 << 40)
    board = build_board([place / "runs"], trusted=read_trusted(place / "key.pub"))
    assert {row["verified"] for row in board.rows} == {"yes"}
    huge = f"{place / 'runs' / 'verification' / 'huge.json'} verifies nothing: it has {1 << 40} bytes: no report is that large"
    assert board.remarks == [huge]


def test_comparisons_across_tasks_are_shown_as_they_were_signed(place: Path) -> None:
    """Unsigned ones are named and left out of the part of verified rows."""
    hands = Hands(place / "runs")
    content = {
        "schema_version": 3,
        "key": "across-s0-0123456789abcdef",
        "seed": 0,
        "cells": [hands.key("confidence", 0)],
        "tasks": ["arithmetic"],
        "model": "pocket-small",
        "revision": json.loads(hands.cell().read_text())["model"]["revision"],
        **{name: {} for name in ("settings", "columns", "outcomes", "on_demand")},
        "specificity": [],
        "interactions": {"within": {}, "between": {"overlaps": [], "joints": {}}},
    }
    across = place / "runs" / "across" / f"{content['key']}.json"
    across.parent.mkdir()
    across.write_text(json.dumps(content))
    told = "across/across-s0-0123456789abcdef.json: no report that a trusted key signed lists it as it is"
    trusted = read_trusted(place / "key.pub")
    assert told in build_board([place / "runs"], trusted=trusted).left_out
    assert main(["verify", str(place / "runs"), "--sample", "0", "--sign", str(place / "key")]) == 0
    assert told not in build_board([place / "runs"], trusted=trusted).left_out
    across.write_text(across.read_text() + " ")
    assert told in build_board([place / "runs"], trusted=trusted).left_out


def test_names_of_files_do_not_speak_to_the_terminal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "runs" / "verification" / "\x1b[2Jx.json").write_text("[]")
    assert main(["leaderboard", str(place / "runs"), "--trust", str(place / "key.pub"), "-o", str(place / "b")]) == 0
    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err and "\\x1b[2Jx.json verifies nothing: it is no report" in told.err


def test_a_report_is_not_written_through_a_link_or_over_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place / "runs" / "verification"
    shutil.rmtree(folder)
    (place / "elsewhere").mkdir()
    folder.symlink_to(place / "elsewhere")
    command = ["verify", str(place / "runs"), "--sample", "0", "--sign", str(place / "key")]
    assert main(command) == 2 and list((place / "elsewhere").iterdir()) == []
    assert capsys.readouterr().err.endswith(f"{folder} is a symbolic link, and none is followed; give --report FILE\n")
    folder.unlink()
    folder.write_text("")
    assert main(command) == 2
    assert (
        capsys.readouterr().err
        == f"skillneurons: error: cannot write {folder}: file exists; give another folder with -o DIR\n"
    )


def test_rebuilding_gives_the_same_bytes_and_check_knows_the_keys(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["leaderboard", str(place / "runs"), "-o", str(place / "board"), "--format", "csv", "--format", "md"]
    trust = ["--trust", str(place / "key.pub")]
    assert main([*command, *trust]) == 0
    before = {path.name: path.read_bytes() for path in (place / "board").glob("board.*")}
    assert main([*command, *trust]) == 0 and main([*command, *trust, "--check"]) == 0
    assert {path.name: path.read_bytes() for path in (place / "board").glob("board.*")} == before
    with (place / "board" / "board.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-1] == "verified" and {row["verified"] for row in rows} == {"yes"}
    capsys.readouterr()
    assert main([*command, "--check"]) == 1
    assert main(["leaderboard", str(place / "runs"), "-o", str(place / "site"), "--format", "html", *trust]) == 0
    page = (place / "site" / "index.html").read_text()
    assert '<fieldset data-filter="verified">' in page
    cell = next((place / "site" / "site").rglob("*confidence-s0*.html")).read_text()
    assert "<dt>verified</dt><dd>yes, by a report that a trusted key signed</dd>" in cell
    assert " verified " in capsys.readouterr().out


def test_a_report_says_what_was_verified_and_no_place_or_time(place: Path) -> None:
    content = json.loads(report_of(place).read_bytes())
    report = content["report"]
    assert sorted(report) == ["across", "cells", "findings", "not_checked", "package", "sample", "schema_version"]
    assert report["sample"] == {"asked": 0, "drawn": [], "retuned": False, "seed": 3}
    assert {one["verdict"] for one in report["cells"].values()} == {"consistent"}
    assert str(place) not in report_of(place).read_text()
    key = read_trusted(place / "key.pub")
    found, reason = parse_report(report_of(place).read_bytes(), key)
    assert reason == "" and found is not None and len(found.cells) == 4


def test_a_new_key_is_its_owners_alone_and_never_written_over(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stat.S_IMODE((place / "key").stat().st_mode) == 0o600
    capsys.readouterr()
    assert main(["verify", "--new-key", str(place / "key")]) == 2
    told = f"skillneurons: error: --new-key {place / 'key'}: file exists; give a new file\n"
    assert capsys.readouterr().err == told


def test_keys_that_are_none(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = place / "wrong"
    wrong.write_text("# maintainers\n\nssh-rsa AAAA me\n")
    assert main(["leaderboard", str(place / "runs"), "--trust", str(wrong)]) == 2
    assert capsys.readouterr().err == (
        f"skillneurons: error: --trust {wrong}:3: it is no Ed25519 public key; write a line such as `ssh-ed25519 AAAA... NAME`\n"
    )
    assert main(["verify", str(place / "runs"), "--sign", str(wrong)]) == 2
    remedy = "make one with: ssh-keygen -t ed25519 -N '' -f FILE, or skillneurons verify --new-key FILE\n"
    assert capsys.readouterr().err.endswith(remedy)
