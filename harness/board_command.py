"""The command ``skillneurons leaderboard``: build the board of run folders, or check the one that is there."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from skillneurons.command_input import loaded_registry, say

if TYPE_CHECKING:
    from skillneurons.leaderboard.site.task_page import About


def leaderboard_command(arguments: argparse.Namespace) -> int:
    if (
        "numpy" not in sys.modules
    ):  # a board multiplies no matrices, and starting threads for that takes longer than reading it
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from skillneurons.leaderboard.board import no_collector

    with no_collector():
        return _rebuild(arguments)


def _rebuild(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from skillneurons.errors import ResultsError, UserError
    from skillneurons.leaderboard.ahead import processes_here
    from skillneurons.leaderboard.board import board_text, build_board, check_board, write_board
    from skillneurons.leaderboard.index import NAME, Index
    from skillneurons.leaderboard.sources import URL
    from skillneurons.signed_report import read_trusted

    dirs = arguments.dirs or ["runs"]
    if URL in (arguments.output or dirs[0]):
        raise UserError(
            f"the board is written to a local folder, not to {arguments.output or dirs[0]}: give one with -o DIR"
        )
    out = Path(arguments.output or dirs[0])
    formats = tuple(arguments.format) or ("md", "csv", "parquet")
    about = _about_tasks(arguments) if "html" in formats else {}
    index = Index(None if arguments.check else out / NAME)
    trusted = frozenset().union(*map(read_trusted, map(Path, arguments.trust))) if arguments.trust else None
    board = build_board(dirs, index, processes=processes_here(), trusted=trusted)
    say(board.remarks)
    if arguments.check:
        difference = check_board(board, out, formats, about)
        if difference:
            print(difference)
            again = [*map(str, dirs), "-o", str(out), *(f"--format {name}" for name in arguments.format)]
            again += [f"--trust {path}" for path in arguments.trust]
            say([f"{out} is stale; rebuild it with: skillneurons leaderboard {' '.join(again)}"])
        say(board.problems)
        return 1 if difference or board.problems else 0
    paths = write_board(board, out, formats, about)
    try:
        index.save()
    except ResultsError as error:
        say([f"warning: the next build will take longer: {error}"])
    print(board_text(board))
    say([*board.problems, "written: " + ", ".join(map(str, paths))])
    return 1 if board.problems else 0


def _about_tasks(arguments: argparse.Namespace) -> dict[str, About]:
    """Return what the plugins that are loaded here say of their tasks."""
    from skillneurons.leaderboard.site.task_page import About

    registry = loaded_registry(arguments)
    return {
        name: About(found.value.version, registry.source_hash("task", name), found.value.description)
        for name, found in registry.tasks.items()
    }
