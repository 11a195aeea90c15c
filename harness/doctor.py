"""Examine a runs folder: what in it is damaged, orphaned or stale, what nobody knows, and who is at work there.

Nothing is written. Every cell is read once and what stands beside it is looked at with it in hand; then what belongs to no cell.
Names from files are looked up among the names of the folder and never become paths; symbolic links are not followed. What a live
lock covers is work in hand and not complained about.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from skillneurons.board_faults import board_complaints, index_complaints
from skillneurons.cell_examination import examine_cells
from skillneurons.chart import Chart
from skillneurons.complaint import KINDS, Examination
from skillneurons.errors import ResultsError
from skillneurons.leftovers import FolderLocks, lock_complaints, sorted_locks, temporary_complaints
from skillneurons.registry import Registry
from skillneurons.rest_examination import (
    examine_across,
    examine_belongings,
    examine_checkpoints,
    examine_prompts,
    examine_top,
    examine_use_of_prompts,
)
from skillneurons.run_files import SECTIONS, read_folder
from skillneurons.staleness import Staleness


def examine(
    root: Path,
    registry: Registry,
    *,
    deep: bool = False,
    mine: str = "",
    heed_locks: bool = True,
    clock: Callable[[], float] = time.time,
) -> Examination:
    """Return what is found in a runs folder; ``deep`` reads every number and builds the board.

    ``mine`` is the token of locks that are the examiner's own; without ``heed_locks`` no lock keeps anything from being
    examined (of a stranger's folder they are mere files). Raise ResultsError where there is no such folder.
    """
    try:
        files = read_folder(root)
    except OSError as error:
        told = (error.strerror or str(error)).lower()
        raise ResultsError(f"cannot examine {root}: {told}; give a runs folder") from error
    if not any(name in files.top for name in SECTIONS):
        raise ResultsError(f"{root} is no runs folder: it has no cells/; `skillneurons run -o {root}` makes one")
    locks = sorted_locks(root, mine) if heed_locks else FolderLocks()
    chart = Chart(files, locks, deep)
    chart.found += lock_complaints(locks)
    examine_top(chart)
    examine_prompts(chart)
    examine_cells(chart, Staleness(registry))
    examine_use_of_prompts(chart)
    examine_belongings(chart)
    examine_across(chart)
    examine_checkpoints(chart)
    chart.found += index_complaints(files, deep)
    if not locks.at_work:  # a run compiles it at its end
        chart.found += board_complaints(files, set(chart.cells), deep)
    chart.found += temporary_complaints(files, files.temporaries, locks, clock)
    for folder, reason in sorted(files.unreadable.items()):
        chart.say("damaged", folder, f"it cannot be listed ({reason.lower()})", "give yourself the right to read it")
    found = sorted(dict.fromkeys(chart.found), key=lambda one: (KINDS.index(one.kind), one.path, one.what))
    sizes = {name: len(files.sections.get(name, {})) for name in ("prompts", "passes")}
    return Examination(str(root), len(chart.names), sizes["prompts"], sizes["passes"], found)
