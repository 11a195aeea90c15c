"""Signed reports and the board: verified cells have rows of their own, and a report stands for nothing that was changed."""

from __future__ import annotations

import csv
import json
import shutil
import stat
from pathlib import Path

import pytest
from skillneurons.cli import main
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
