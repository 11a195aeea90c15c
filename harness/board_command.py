"""The command ``skillneurons leaderboard``: build the board of run folders, or check the one that is there."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skillneurons.command_input import loaded_registry, opened, say
from skillneurons.complaint import shown
from skillneurons.results import ResultsFolder, open_folder

if TYPE_CHECKING:
    from skillneurons.leaderboard.site.task_page import About

SITE = "site"  # its folder, beside index.html


def leaderboard_command(arguments: argparse.Namespace) -> int:
    if (
        "numpy" not in sys.modules
    ):  # a board multiplies no matrices, and starting threads for that takes longer than reading it
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from skillneurons.leaderboard.board import no_collector

    with no_collector():
        return _rebuild(arguments)


def _rebuild(arguments: argparse.Namespace) -> int:
    dirs = arguments.dirs or ["runs"]
    folders = {place: open_folder(place) for place in [*dirs, *([arguments.output] if arguments.output else [])]}
    with opened(folders[arguments.output or dirs[0]]) as out:
        return _rebuilt(arguments, [folders[place] for place in dirs], out)


def _rebuilt(arguments: argparse.Namespace, folders: Sequence[ResultsFolder], out: ResultsFolder) -> int:
    from skillneurons.errors import ResultsError
    from skillneurons.leaderboard.ahead import processes_here
    from skillneurons.leaderboard.board import board_text, build_board, check_board, write_board
    from skillneurons.leaderboard.index import NAME, Index
    from skillneurons.signed_report import read_trusted

    formats = tuple(arguments.format) or ("md", "csv", "parquet")
    about = _about_tasks(arguments) if "html" in formats else {}
    trusted = frozenset().union(*map(read_trusted, map(Path, arguments.trust))) if arguments.trust else None
    index = Index(
        None if arguments.check or _is_theirs(out, folders, trusted) else out.fetched(out.root / NAME), out.place
    )
    board = build_board(folders, index, processes=processes_here(), trusted=trusted)
    before = _as_written(out, formats, check=arguments.check)
    say([shown(line) for line in board.remarks])
    if arguments.check:
        difference = out.told(check_board(board, out.root, formats, about))
        if difference:
            print(difference)
            dirs = [one.place for one in folders]
            again = [*dirs, "-o", out.place, *(f"--format {name}" for name in arguments.format)]
            again += [f"--trust {path}" for path in arguments.trust]
            say([f"{out.place} is stale; rebuild it with: skillneurons leaderboard {' '.join(again)}"])
        say([shown(line) for line in board.problems])
        return 1 if difference or board.problems else 0
    paths = write_board(board, out.root, formats, about)
    if out.mirror is not None and "html" in formats:
        out.mirror.publish_changes(SITE, before, f"{SITE}/manifest.json")
    out.publish(*paths)
    try:
        if index.save():
            out.publish(out.root / NAME)
    except ResultsError as error:
        say([f"warning: the next build will take longer: {out.told(str(error))}"])
    print(board_text(board))
    say([*map(shown, board.problems), "written: " + ", ".join(out.told(str(path)) for path in paths)])
    return 1 if board.problems else 0


def _is_theirs(out: ResultsFolder, folders: Sequence[ResultsFolder], trusted: frozenset[str] | None) -> bool:
    """Whether the index may be of whoever made the cells: it lies beside them, and no report stands for it."""
    if trusted is None:
        return False
    places = [one.root.resolve() if one.mirror is None else one.place for one in (out, *folders)]
    return places[0] in places[1:]


def _as_written(out: ResultsFolder, formats: Sequence[str], *, check: bool) -> dict[str, str]:
    """Bring the board that is there from a store, as far as it is compared or changed; return the hashes of its site."""
    if out.mirror is None:
        return {}
    if check:
        names = [f"board.{name}" for name in formats if name != "html"]
        out.mirror.fetch_files([out.root / name for name in [*names, *(["index.html"] if "html" in formats else [])]])
    if "html" not in formats:
        return {}
    out.mirror.fetch_folder(SITE, deep=True)
    return out.mirror.hashes(SITE)


def _about_tasks(arguments: argparse.Namespace) -> dict[str, About]:
    """Return what the plugins that are loaded here say of their tasks."""
    from skillneurons.leaderboard.site.task_page import About

    registry = loaded_registry(arguments)
    return {
        name: About(found.value.version, registry.source_hash("task", name), found.value.description)
        for name, found in registry.tasks.items()
    }
