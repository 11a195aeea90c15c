"""Which units a runner does, and when, while others may work in the same folder.

A runner takes a unit whose open cells nobody has in hand, all of them or none; what others have it comes back to. A cell is looked
at again once it is locked: what another finished meanwhile, or tried and saved as failed since this run was planned, is not done again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from skillneurons.plan import PlannedCell, Unit
from skillneurons.results import is_finished
from skillneurons.run_context import RunContext

POLL = 0.3  # seconds between two looks at what others have in hand


def run_in_turns(context: RunContext, units: Sequence[Unit], run_unit: Callable[[Unit], None]) -> None:
    """Run every unit with open cells once; those that another runner has in hand come last, and are mostly done then."""
    waiting = [unit for unit in units if unit.pending]
    looked: dict[str, tuple[int, int] | None] = {}  # at which stamp a cell was found open
    told = False
    while waiting:
        later = []
        for unit in waiting:
            still = still_open(context, unit, looked)
            keys = [cell.key for cell in still.pending]
            if not keys:
                continue
            if not context.locks.take(keys):
                later.append(still)
                continue
            try:
                still = still_open(context, still, looked)
                if still.pending:
                    run_unit(still)
            finally:
                context.locks.release(keys)
        if len(later) == len(waiting):
            if not told:
                keys = [cell.key for unit in later for cell in unit.pending]
                context.say_waiting(f"{len(keys)} cells", ", ".join(context.locks.owners(keys)))
                told = True
            time.sleep(POLL)
        waiting = later


def still_open(context: RunContext, unit: Unit, looked: dict[str, tuple[int, int] | None]) -> Unit:
    """Return the unit with the cells that other runners have done since it was planned marked as done."""
    cells = []
    for cell in unit.cells:
        done = cell.done or _done_by_another(context, cell, looked)
        if done and not cell.done:
            context.display.advance_cell()
        cells.append(replace(cell, done=done))
    return replace(unit, cells=tuple(cells))


def _done_by_another(context: RunContext, cell: PlannedCell, looked: dict[str, tuple[int, int] | None]) -> bool:
    stamp = context.folder.stamp(cell.key)
    if cell.key in looked and looked[cell.key] == stamp:
        return False
    looked[cell.key] = stamp
    found = context.folder.read_cell(cell.key)
    if is_finished(found):
        return True
    if stamp == context.planned.get(cell.key):
        return False  # what failed or broke off before this run was planned is tried again
    return found is not None and (found.status == "failed" or "error" in (found.causal or {}))
