from __future__ import annotations

from pathlib import Path

from skillneurons.leaderboard.board import build_board, check_board
from skillneurons.signed_report import read_trusted

LEADERBOARD = Path(__file__).parent.parent / "leaderboard"


def test_the_committed_board_is_what_the_committed_cells_give() -> None:
    submissions = sorted(path.parent for path in (LEADERBOARD / "submissions").glob("*/cells"))
    board = build_board([LEADERBOARD / "pocket", *submissions], trusted=read_trusted(LEADERBOARD / "trusted-keys"))
    assert not board.problems and not board.remarks and len(board.rows) > 80
    ours = [row for row in board.rows if row["model"] in ("pocket", "pocket-small")]
    assert {row["verified"] for row in ours} == {"yes"}
    assert check_board(board, LEADERBOARD / "board", formats=("md", "csv")) == ""
    bad = {row["column"].removeprefix("labels."): row["reason"] for row in board.rows if row["status"] != "ok"}
    assert set(bad) == {"makes_sense", "on_topic", "within_limit"}  # always granted, or kept by the generation itself
    assert all(reason.startswith("degenerate: constant on discovery") for reason in bad.values())
    for task, column in (
        ("arithmetic", "confidence.p_target"),
        ("hans", "heuristics.heuristic_follows"),
        ("skillmix", "labels.shown_modus_ponens"),
    ):
        rows = {row["model"]: row for row in board.rows if (row["task"], row["column"]) == (task, column)}
        assert set(rows) == {"pocket", "pocket-small"}
        for row in rows.values():
            assert row["heldout_top10_r"] >= 0.5 and row["n_heldout"] >= 200 and row["seeds"] == 3
    assert board.standings.models == ("pocket", "pocket-small") and len(board.standings.standings) > 150
    assert not board.standings.refused and not board.notes and not board.left_out
