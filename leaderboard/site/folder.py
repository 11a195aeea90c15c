"""The site as a folder: which pages there are, written whole and cleaned of pages that are gone, or checked for drift.

``site/manifest.json`` names every file with its hash. Only files that it names are ever removed. The pages of a bundle
(model, task, metric) are made together, so that no more than its cells are held at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.leaderboard.found_cells import CellEntry, read_entry
from skillneurons.leaderboard.settings import plain_json, settings_key
from skillneurons.leaderboard.site import places
from skillneurons.leaderboard.site.board_page import board_page
from skillneurons.leaderboard.site.card_page import card_page, carded
from skillneurons.leaderboard.site.cell_page import cell_page
from skillneurons.leaderboard.site.kept import read_kept
from skillneurons.leaderboard.site.kept_activations import kept_activations
from skillneurons.leaderboard.site.models_page import models_page
from skillneurons.leaderboard.site.staging import Staging, same_page, staging
from skillneurons.leaderboard.site.task_page import About, task_page
from skillneurons.leaderboard.sources import Source
from skillneurons.leaderboard.verified import is_verified
from skillneurons.results import Result

if TYPE_CHECKING:
    from skillneurons.leaderboard.board import Board

_HERE = Path(__file__).parent
_SHIPPED = {
    "datatables.js": "vendor/datatables-3.1.5.min.js",
    "datatables.LICENSE.txt": "vendor/datatables.LICENSE.txt",
    "plotly.js": "vendor/plotly-cartesian-4.1.1.min.js",
    "plotly.LICENSE.txt": "vendor/plotly.LICENSE.txt",
    **{
        name: f"assets/{name}"
        for name in ("site.css", "theme.js", "board.js", "figures.js", "cell.js", "card.js", "models.js")
    },
}


def site_files(board: Board, about: Mapping[str, About], problems: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (place, bytes) of every file of the site but the manifest; add to ``problems`` what is damaged beside cells."""
    for name, file in _SHIPPED.items():
        yield f"{places.ASSETS}/{name}", (_HERE / file).read_bytes()
    bundles = board.found.bundles
    tasks: dict[str, dict[str, Mapping[str, Any]]] = {}
    pages = {places.cell_place(entry.key) for entries in bundles.values() for entry in entries}
    for name in sorted(bundles):
        cells = [read_entry(entry) for entry in bundles[name]]
        for cell in cells:
            tasks.setdefault(cell.task["name"], {}).setdefault(plain_json(cell.task), cell.task)
        signed = is_verified(name)
        places_of = [[entry.source] if signed else board.sources for entry in bundles[name]]
        yield from _cell_pages(cells, places_of, problems, signed if board.trusted else None)
    pages |= {places.task_place(name) for name in tasks}
    if board.standings.standings:
        pages.add(places.MODELS)
        yield places.MODELS, models_page(_skills(board), board.standings)
    for name, variants in sorted(tasks.items()):
        rows = [row for row in board.rows if row["task"] == name]
        accuracies = [entry for entry in board.accuracies if entry["task"] == name]
        ordered = [variants[text] for text in sorted(variants)]
        page = task_page(name, ordered, rows, accuracies, _about(name, about), frozenset(pages))
        yield places.task_place(name), page
    yield places.BOARD, board_page(board, frozenset(pages))


def _about(name: str, about: Mapping[str, About]) -> About | None:
    """Return what is known of a task, or of the task that it is a part of."""
    return about.get(name) or about.get(name.partition("/")[0])


def _cell_pages(
    cells: Sequence[Result], places_of: Sequence[Sequence[Source]], problems: list[str], verified: bool | None
) -> Iterator[tuple[str, bytes]]:
    """Yield the pages of one bundle's cells and of their neuron cards; what stands beside each is in one of its folders."""
    alike: dict[str, list[Result]] = {}
    for cell in cells:
        alike.setdefault(settings_key(cell), []).append(cell)
    for cell, sources in zip(cells, places_of, strict=True):
        kept = read_kept(sources, cell)
        found = [*kept.problems]
        yield places.cell_place(cell.key), cell_page(cell, alike[settings_key(cell)], kept, verified)
        neurons = carded(kept)
        activations = kept_activations(sources, cell, found) if neurons else None
        problems += [one for one in found if one not in problems]  # several cells share a pass
        for neuron, columns in neurons.items():
            yield places.card_place(cell.key, neuron), card_page(cell, neuron, columns, kept, activations)


def _skills(board: Board) -> list[list[Result]]:
    """Return the cells of all models by task and metric, verified ones alone where cells are parted."""
    skills: dict[tuple[str, str], list[CellEntry]] = {}
    for name, entries in sorted(board.found.bundles.items()):
        task, metric = json.loads(name)[2:4]
        if board.trusted and not is_verified(name):
            continue
        skills.setdefault((task, metric), []).extend(entries)
    return [[read_entry(entry) for entry in entries] for _, entries in sorted(skills.items())]


@dataclass(frozen=True)
class MadeSite:
    """A site that is made, not yet in its place; ``problems`` are what must be said."""

    out: Path
    pages: Staging
    manifest: Staging
    gone: tuple[str, ...]
    problems: list[str]

    def publish(self) -> Path:
        """Put the site in its place and return the path of ``index.html``.

        Pages that did not change are not touched. Pages of an earlier site that are no longer part of it are removed
        before the manifest that named them is replaced: where that breaks off, the next build knows them.
        """
        self.pages.publish()
        for place in self.gone:
            _remove(self.out, place)
        self.manifest.publish()
        return self.out / places.BOARD


@contextmanager
def made_site(board: Board, out: Path, about: Mapping[str, About]) -> Iterator[MadeSite]:
    """Make the site for ``out``; nothing there changes before ``publish``."""
    problems: list[str] = []
    before = _manifest(out)
    written: dict[str, str] = {}
    with staging(out) as pages, staging(out) as manifest:
        for place, data in site_files(board, about, problems):
            pages.add(place, data)
            written[place] = hashlib.sha256(data).hexdigest()
        manifest.add(places.MANIFEST, _manifest_bytes(written))
        yield MadeSite(out, pages, manifest, tuple(sorted(before.keys() - written.keys())), problems)


def check_site(board: Board, out: Path, about: Mapping[str, About]) -> tuple[list[str], list[str]]:
    """Return (what differs between the site in ``out`` and the rebuilt one, problems); nothing is written."""
    problems: list[str] = []
    fresh: dict[str, str] = {}
    differ = []
    for place, data in site_files(board, about, problems):
        fresh[place] = hashlib.sha256(data).hexdigest()
        if not (out / place).is_file():
            differ.append(f"{out / place} is missing")
        elif not same_page(out / place, data):
            differ.append(f"{out / place} is stale")
    gone = sorted(place for place in _manifest(out).keys() - fresh.keys() if (out / place).exists())
    return [*differ, *(f"{out / place} is no longer part of the site" for place in gone)], problems


def _manifest_bytes(files: Mapping[str, str]) -> bytes:
    return (json.dumps(dict(sorted(files.items())), indent=0) + "\n").encode()


def _manifest(out: Path) -> dict[str, str]:
    """Return the files of the site that was written before; none where its manifest cannot be read."""
    try:
        content = json.loads((out / places.MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return {place: str(digest) for place, digest in content.items()} if isinstance(content, dict) else {}


def _remove(out: Path, place: str) -> None:
    """Remove a page of an earlier site; a manifest that names anything outside ``site/`` is not believed."""
    parts = place.split("/")
    if parts[0] != places.ROOT or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        return
    path = out / place
    path.unlink(missing_ok=True)
    if path.parent != out / places.ROOT and path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
