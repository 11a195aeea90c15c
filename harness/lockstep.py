"""A run of several processes in lockstep: the first owns the output folder, the others work in folders that are thrown away.

All ranks run the same program on what the first one finds in the output folder at the start, so all come to the same decisions: which
cells are finished, which prompt is there, from which checkpoint a tuning goes on. Rank 0 has the folder for itself meanwhile: it waits until
other runners are gone, and others wait for it. Each other rank works in a temporary folder that shows the files of the output folder as
they were at the start; what is written there takes the place of its link. What depends on time (when a checkpoint is written) changes no
number.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skillneurons.errors import UserError
from skillneurons.locks import ALONE, RUNNER, Locks, of_others
from skillneurons.progress import Progress
from skillneurons.ranks import Ranks, agree, checked_ranks, joined, leave, meet
from skillneurons.results import ResultsFolder
from skillneurons.store_url import path_of
from skillneurons.turns import POLL

SEEN = ("cells", "prompts", "passes", "cards", "across", "checkpoints")
CHANGING = (
    "cells",
    "prompts",
    "checkpoints",
)  # what the first rank may write anew while others read it: never by a soft link


@contextmanager
def in_lockstep(where: str) -> Iterator[Path]:
    """Yield the folder that this rank works in, when all ranks are ready; raise UserError where there are none."""
    checked_ranks()
    output = path_of(where)
    if output is None:
        raise UserError(f"output {where!r}: ranks (model.tp_plan) share a folder of this machine; give one with -o DIR")
    ranks = joined()
    if ranks.leads:
        with Locks(ResultsFolder(output).locks) as locks:
            _have_alone(locks)
            _all_see(output, ranks)
            yield output
    else:
        _all_see(output, ranks)
        with tempfile.TemporaryDirectory(prefix="skillneurons-rank-") as scratch:
            mirror(output, Path(scratch))
            meet()
            yield Path(scratch)
    leave()  # not after an error, when the others may still wait in the middle of something


def _all_see(output: Path, ranks: Ranks) -> None:
    """Let the others look at what the first rank has made ready; raise where they do not see the same folder."""
    meet()
    if ranks.leads:
        agree("the output folder", _seen(output))
        meet()  # until they have made their links
    else:
        agree("the output folder", _seen(output))


def _seen(output: Path) -> str:
    """Return what tells an output folder: the files of its cells with their sizes."""
    cells = ResultsFolder(output).cells
    names = sorted(path.name for path in cells.glob("*.json")) if cells.is_dir() else []
    return "\n".join([str(output.resolve()), *names])


def _have_alone(locks: Locks) -> None:
    """Take the folder for this run alone; wait until whoever works in it is gone."""
    say = Progress(0).say
    told = False
    while not locks.take([ALONE]) or of_others(locks, RUNNER) or locks.others("doctor"):
        if not told:
            others = [*of_others(locks, ALONE), *of_others(locks, RUNNER), *locks.others("doctor")]
            who = sorted({one.owner.label for one in others if one.owner is not None}) or ["another runner"]
            say(
                f"waiting for {', '.join(who)}, who works in the folder, which ranks (model.tp_plan) need for themselves"
            )
            told = True
        time.sleep(POLL)
        if locks.holds(ALONE):
            locks.release([ALONE])


def mirror(folder: Path, scratch: Path) -> None:
    """Show all files of a run folder's results in ``scratch``, by links where that can be; folders are made anew."""
    for part in SEEN:
        for root, folders, files in os.walk(folder / part):
            here = scratch / Path(root).relative_to(folder)
            here.mkdir(parents=True, exist_ok=True)
            folders.sort()
            for name in files:
                _show(Path(root, name), here / name, lasting=part not in CHANGING)


def _show(source: Path, place: Path, *, lasting: bool) -> None:
    """Link a file, hard if it may be written anew (by renaming, which leaves the link as it was), or copy it."""
    try:
        os.link(source, place)
    except OSError:  # another file system, or one without links
        try:
            if not lasting:
                raise
            place.symlink_to(source.resolve())
        except OSError:
            shutil.copy2(source, place)
