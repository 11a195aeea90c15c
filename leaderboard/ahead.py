"""Files that no index knows, read once and worked out group by group, on several processes where they are many.

Cells of one task and metric have names that begin alike, so their files are a group: read, worked out into entries of the
index and dropped. What comes out are guesses that cannot be wrong, only useless: an entry is named after the hashes of its
files, and the build looks entries up by the files that it finds. A group that was cut in two, or whose models are called
otherwise beside all others, is worked out again by the build itself.
"""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from skillneurons.leaderboard.bundles import bundle_name
from skillneurons.leaderboard.cells import BoardCell, board_cell, without_columns
from skillneurons.leaderboard.entries import (
    ACCURACIES,
    BUNDLE,
    STANDINGS,
    accuracies_entry,
    accuracies_name,
    bundle_digest,
    bundle_entry,
    standings_digest,
    standings_entry,
)
from skillneurons.leaderboard.found_cells import about
from skillneurons.leaderboard.index import Index
from skillneurons.leaderboard.models import Identity, identity, labels_of
from skillneurons.leaderboard.sources import CellFile, LocalFolder, Source
from skillneurons.results import DamagedCell, parse_cell

MANY = 1000  # files; fewer are read sooner than another process has started
MOST = 2  # processes: each holds its share in memory, and two read 10,000 files in time
Found = tuple[Source, CellFile]


@dataclass
class Ahead:
    """``known`` is what each file holds, by place and stamp: (key, digest, bundle), or why it is damaged; ``entries`` by kind and digest."""

    known: list[tuple[str, str, list[str]]] = field(default_factory=list)
    entries: dict[tuple[str, str], bytes] = field(default_factory=dict)


def new_groups(files: Iterable[Found], index: Index) -> list[Found]:
    """Return the files of groups of which the index knows none: of any other group most is found again."""
    groups: dict[str, list[Found]] = {}
    known = set()
    for source, file in files:
        group = _group(file)
        if index.known(file.place, file.stamp) is None:
            groups.setdefault(group, []).append((source, file))
        else:
            known.add(group)
    return [one for group, found in groups.items() if group not in known for one in found]


def work_out_ahead(files: Sequence[Found], processes: int = 1) -> Ahead:
    """Return what these files hold and what follows from them.

    Files on disk are shared among ``processes`` where they are many; those of a store are read by this one.
    """
    files = sorted(files, key=lambda one: (one[1].name, one[1].place))
    local = [one for one in files if isinstance(one[0], LocalFolder)]
    processes = min(processes, len(local) // MANY + 1, MOST)
    if processes < 2 or len(local) < MANY:
        return work_out(files)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    found = Ahead()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(_without_collector, _shares(local, processes)))
    parts.append(work_out([one for one in files if not isinstance(one[0], LocalFolder)]))
    for part in parts:
        found.known += part.known
        found.entries |= part.entries
    return found


def processes_here() -> int:
    """Return how many processes may work at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_out(files: Iterable[Found]) -> Ahead:
    """Return what these files hold, sorted by name, and what follows from every group of them."""
    found = Ahead()
    models: set[Identity] = set()
    asked: dict[str, dict[str, BoardCell]] = {}
    for _, group in groupby(files, key=lambda one: _group(one[1])):
        cells = dict(_cells(group, found))
        models |= {identity(cell) for cell in cells.values()}
        bundles: dict[str, dict[str, BoardCell]] = {}
        skills: dict[tuple[str, str], dict[str, BoardCell]] = {}
        for digest, cell in cells.items():
            name = bundle_name(cell)
            bundles.setdefault(name, {})[digest] = cell
            skills.setdefault((cell.task["name"], cell.metric["name"]), {})[digest] = cell
            asked.setdefault(accuracies_name(name), {})[digest] = without_columns(cell)
        for name, part in bundles.items():
            found.entries[BUNDLE, bundle_digest(name, part)] = bundle_entry(list(part.values()))
        labels = labels_of(models)
        if len(labels) > 1:
            for part in skills.values():
                found.entries[STANDINGS, standings_digest(labels, part)] = standings_entry(list(part.values()), labels)
    for name, part in asked.items():
        found.entries[ACCURACIES, bundle_digest(name, part)] = accuracies_entry(list(part.values()))
    return found


def _without_collector(files: Sequence[Found]) -> Ahead:
    """Work out a share in a process of its own; plain data has no cycles, so their collector would only walk through it."""
    gc.disable()
    return work_out(files)


def _cells(group: Iterable[Found], found: Ahead) -> Iterator[tuple[str, BoardCell]]:
    """Yield (digest, cell) of the files that hold one, and note what every file holds; what cannot be read is left to the build."""
    for source, file in group:
        try:
            data = source.read(file)
        except OSError:
            continue
        digest = hashlib.sha256(data).hexdigest()
        loaded = parse_cell(Path(file.name), data)
        if isinstance(loaded, DamagedCell):
            found.known.append((file.place, file.stamp, [loaded.reason]))
        else:
            cell = board_cell(loaded)
            found.known.append((file.place, file.stamp, about(cell, digest)))
            yield digest, cell


def _group(file: CellFile) -> str:
    """Return how the name of a cell begins: task and metric, without seed and hash."""
    return file.name.rsplit("-", 2)[0]


def _shares(files: Sequence[Found], n: int) -> list[list[Found]]:
    """Return ``n`` shares of files sorted by name, of about the same size, no group in two of them."""
    groups = [list(group) for _, group in groupby(files, key=lambda one: _group(one[1]))]
    shares: list[list[Found]] = [[] for _ in range(n)]
    for i, group in enumerate(groups):
        shares[i * n // len(groups)] += group
    return [share for share in shares if share]
