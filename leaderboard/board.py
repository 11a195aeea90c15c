"""The leaderboard: from folders of finished cells to ``board.md``, ``board.csv``, ``board.parquet``, and a site.

The same cells give the same bytes in any order of files and folders. A damaged cell is named and
left out; the others go on.
"""

from __future__ import annotations

import difflib
import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.atomic import make_folder, write_together
from skillneurons.errors import ResultsError, unknown_name
from skillneurons.leaderboard.accuracies import accuracy_order
from skillneurons.leaderboard.ahead import new_groups, work_out_ahead
from skillneurons.leaderboard.bundles import Bundle, RenderedRow, parse_bundle
from skillneurons.leaderboard.causes import causes_lines, causes_text
from skillneurons.leaderboard.cells import without_columns
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
from skillneurons.leaderboard.formats import csv_bytes, parquet_bytes
from skillneurons.leaderboard.found_cells import CellEntry, FoundCells, read_cells, read_entry
from skillneurons.leaderboard.found_comparisons import read_comparisons, widest
from skillneurons.leaderboard.index import Index
from skillneurons.leaderboard.markdown import markdown_text
from skillneurons.leaderboard.models import Identity, labels_of
from skillneurons.leaderboard.ranks import Standings, joined
from skillneurons.leaderboard.rows import Row, row_order
from skillneurons.leaderboard.settings import comparability, parse_json
from skillneurons.leaderboard.sources import Source, open_source
from skillneurons.leaderboard.terminal import terminal_text
from skillneurons.leaderboard.verified import is_verified, part_verified
from skillneurons.results import ResultsFolder

if TYPE_CHECKING:
    from skillneurons.leaderboard.site.task_page import About

FORMATS = ("md", "csv", "parquet")
SITE = "html"  # a folder of pages, made where it is asked for
LONG = 1000  # rows; more are not printed to a terminal


@dataclass(frozen=True)
class Board:
    """The rows of the table and what must be said beside them.

    ``accuracies`` has one entry per model and task. ``problems`` are for the person at the
    terminal (they name files by their path); ``left_out`` says the same without folders, for the
    page. ``notes`` name the tasks and metrics whose rows must not be compared. ``causes`` are, by (model, revision), the
    lines about causes, and ``tested`` what they were made from. ``standings`` set several models beside each other.
    ``found`` and ``sources`` are where it all came from. ``trusted`` says that cells were parted by trusted reports: then the
    rows of verified ones stand first, ``standings`` and ``causes`` are theirs alone, ``unverified_causes`` of the others, and ``remarks``
    say which reports stand for nothing.
    """

    rendered: list[RenderedRow]
    accuracies: list[dict[str, Any]]
    problems: list[str]
    notes: list[str]
    left_out: list[str]
    causes: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)
    tested: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    standings: Standings = field(default_factory=Standings)
    found: FoundCells = field(default_factory=FoundCells)
    sources: Sequence[Source] = ()
    trusted: bool = False
    unverified_causes: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    @property
    def rows(self) -> list[Row]:
        """The rows of the table, in its order."""
        return [one.row for one in self.rendered]


def build_board(
    dirs: Sequence[Path | str | ResultsFolder],
    index: Index | None = None,
    *,
    processes: int = 1,
    trusted: frozenset[str] | None = None,
) -> Board:
    """Read every cell under the runs folders (paths, or URLs that fsspec knows).

    What ``index`` knows of an earlier build is not worked out again; many files that it does not know are shared among
    ``processes``, which changes nothing but the time. ``trusted`` are public keys whose signed reports verify cells; without them
    none is verified. Raise ResultsError where a folder is missing, where
    none holds a cell, or where two files hold other results under the same key.
    """
    with no_collector():
        return _build(dirs, index or Index(), processes, trusted)


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep the collector of cycles still: plain data has none, and it would walk through ten thousand cells again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _build(
    dirs: Sequence[Path | str | ResultsFolder], index: Index, processes: int, trusted: frozenset[str] | None
) -> Board:
    sources = [open_source(place) for place in dirs]
    listed = [(source, source.files("cells")) for source in sources]
    for source, files in listed:
        source.ahead([file for file in files if index.known(file.place, file.stamp) is None])
    new = new_groups(((source, file) for source, files in listed for file in files), index)
    ahead = work_out_ahead(new, processes)
    for place, stamp, about in ahead.known:
        index.remember(place, stamp, about)
    for (kind, digest), value in ahead.entries.items():
        index.offer(kind, digest, value)
    found = read_cells(listed, index)
    remarks, signed = part_verified(found, sources, trusted) if trusted is not None else ([], set())
    across, damaged = read_comparisons(sources)
    problems = [*found.problems, *(f"{file.place} is left out: {reason}" for file, reason in damaged)]
    left_out = {f"cells/{name}: {reason}" for name, reason in found.damaged}
    left_out |= {f"across/{file.name}: {reason}" for file, reason in damaged}
    bundles, standings = _work_out(found, index, trusted is not None)
    parted: dict[bool, dict[tuple[str, str], list[str]]] = {True: {}, False: {}}
    for name in bundles:
        model, revision = parse_json(name)[:2]
        parted[is_verified(name) or trusted is None].setdefault((model, revision), []).append(name)
    causes, others = (
        _causes(models, found, bundles, across, left_out, signed if trusted is not None and verified else across.keys())
        for verified, models in parted.items()
    )
    rendered = sorted((row for bundle in bundles.values() for row in bundle.rows), key=_order)
    notes = comparability(mark for bundle in bundles.values() for mark in bundle.marks)
    tested = {model: [bundles[name].causes for name in names] for model, names in sorted(parted[True].items())}
    accuracies = _accuracies(found, index)
    return Board(
        rendered,
        accuracies,
        problems,
        notes,
        sorted(left_out),
        causes,
        tested,
        standings,
        found,
        tuple(sources),
        trusted is not None,
        others,
        remarks,
    )


def _order(one: RenderedRow) -> tuple[bool, list[str]]:
    """Return what rows are sorted by: those of verified cells first."""
    return one.row["verified"] != "yes", row_order(one.row)


def _causes(
    models: Mapping[tuple[str, str], Sequence[str]],
    found: FoundCells,
    bundles: Mapping[str, Bundle],
    across: Mapping[str, dict[str, Any]],
    left_out: set[str],
    signed: Collection[str],
) -> dict[tuple[str, str], list[str]]:
    """Return the lines about causes of each model; add the comparisons that are not shown to ``left_out``: those that are not
    ``signed``, and narrower ones.
    """
    causes = {}
    for model, names in sorted(models.items()):
        # a comparison counts where all its cells are here: others were measured on what is now another cell
        keys = {file.key for name in names for file in found.bundles[name]}
        whole = [one for _, one in sorted(across.items()) if set(one["cells"]) <= keys]
        unsigned = [one["key"] for one in whole if one["key"] not in signed]
        left_out |= {f"across/{key}.json: no report that a trusted key signed lists it as it is" for key in unsigned}
        beside, apart = widest([one for one in whole if one["key"] in signed])
        left_out |= {f"across/{key}.json: another comparison, of as many cells or more, is shown" for key in apart}
        causes[model] = causes_lines([bundles[name].causes for name in names], beside)
    return causes


def _work_out(found: FoundCells, index: Index, verified_alone: bool) -> tuple[dict[str, Bundle], Standings]:
    """Return the bundles by name, and the models beside each other, of verified cells alone where that is asked for."""
    skills: dict[tuple[str, str], list[CellEntry]] = {}
    for name, entries in sorted(found.bundles.items()):
        task, metric = parse_json(name)[2:4]
        if is_verified(name) or not verified_alone:
            skills.setdefault((task, metric), []).extend(entries)
    bundles = {name: _bundle(name, entries, index) for name, entries in sorted(found.bundles.items())}
    ranked = [one for name, one in bundles.items() if is_verified(name) or not verified_alone]
    labels = labels_of(model for bundle in ranked for model in bundle.models)
    parts = [_standings(files, labels, index) for _, files in sorted(skills.items())] if len(labels) > 1 else []
    return bundles, joined(tuple(labels.values()), parts)


def _bundle(name: str, files: Sequence[CellEntry], index: Index) -> Bundle:
    digest = bundle_digest(name, (file.digest for file in files))
    known = index.get(BUNDLE, digest)
    if known is None:
        known = bundle_entry([read_entry(file) for file in files], is_verified(name))
        index.put(BUNDLE, digest, known)
    return parse_bundle(known)


def _standings(files: Sequence[CellEntry], labels: Mapping[Identity, str], index: Index) -> bytes:
    """Return the models beside each other on one task and metric, as JSON."""
    digest = standings_digest(labels, (file.digest for file in files))
    known = index.get(STANDINGS, digest)
    if known is None:
        known = standings_entry([read_entry(file) for file in files], labels)
        index.put(STANDINGS, digest, known)
    return known


def _accuracies(found: FoundCells, index: Index) -> list[dict[str, Any]]:
    """Return the accuracies, worked out by model and task: metrics of one prompt share them."""
    tasks: dict[str, list[CellEntry]] = {}
    for name, files in sorted(found.bundles.items()):
        tasks.setdefault(accuracies_name(name), []).extend(files)
    entries: list[dict[str, Any]] = []
    for name, files in tasks.items():
        digest = bundle_digest(name, (file.digest for file in files))
        known = index.get(ACCURACIES, digest)
        if known is None:
            known = accuracies_entry([without_columns(read_entry(file)) for file in files])
            index.put(ACCURACIES, digest, known)
        standing = "yes" if len(parse_json(name)) > len(("model", "revision", "task")) else "no"
        entries += [{**entry, "verified": standing} for entry in parse_json(known)]
    return sorted(entries, key=accuracy_order)


def render(board: Board, name: str) -> bytes:
    """Return the bytes of one format: md, csv or parquet."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    if name == "md":
        text = markdown_text(
            board.rendered,
            board.accuracies,
            board.notes,
            board.left_out,
            board.causes,
            board.standings,
            board.unverified_causes if board.trusted else None,
        )
        return text.encode("utf-8", "backslashreplace")
    return csv_bytes([one.csv for one in board.rendered]) if name == "csv" else parquet_bytes(board.rows)


def write_board(
    board: Board, out: Path | str, formats: Sequence[str] = FORMATS, about: Mapping[str, About] | None = None
) -> list[Path]:
    """Write ``board.<format>`` for each format, nothing before all of it is made; return their paths.

    ``html`` writes ``index.html`` and the folder ``site/``, where ``about`` says what tasks measure; what is damaged beside
    the cells joins ``board.problems``.
    """
    contents = {Path(out) / f"board.{name}": render(board, name) for name in formats if name != SITE}
    make_folder(Path(out))
    if SITE not in formats:
        write_together(contents)
        return list(contents)
    from skillneurons.leaderboard.site.folder import made_site

    with made_site(board, Path(out), about or {}) as site:
        write_together(contents)
        index = site.publish()
    board.problems.extend(site.problems)
    return [*contents, index]


def check_board(
    board: Board, out: Path | str, formats: Sequence[str] = FORMATS, about: Mapping[str, About] | None = None
) -> str:
    """Return what differs between the files in ``out`` and the rebuilt board, ``""`` where they are fresh."""
    parts = []
    if SITE in formats:
        from skillneurons.leaderboard.site.folder import check_site

        differ, problems = check_site(board, Path(out), about or {})
        board.problems.extend(problems)
        parts += differ
    for name in (name for name in formats if name != SITE):
        path = Path(out) / f"board.{name}"
        fresh = render(board, name)
        try:
            committed = path.read_bytes()
        except FileNotFoundError:
            parts.append(f"{path} is missing")
            continue
        except OSError as error:
            raise ResultsError(f"cannot read {path}: {error.strerror}; give another folder with -o DIR") from error
        if committed != fresh:
            parts.append(f"{path} is stale" if name == "parquet" else _diff(path, committed, fresh))
    return "".join(f"{part}\n" for part in parts)


def _diff(path: Path, committed: bytes, fresh: bytes) -> str:
    old, new = (data.decode("utf-8", "replace").splitlines() for data in (committed, fresh))
    lines = list(difflib.unified_diff(old, new, f"{path}", f"{path} (rebuilt)", lineterm=""))
    return "\n".join(lines) or f"{path} differs in its line ends"


def board_text(board: Board, width: int | None = None) -> str:
    """Return the most telling columns as text tables, one per model, then the notes; of a long board, its size."""
    if len(board.rendered) > LONG:
        models = len({(row["model"], row["revision"]) for row in board.rows})
        return "\n\n".join(
            [f"{len(board.rendered)} rows of {models} models: too long to print, see the files", *board.notes]
        )
    told = {model: causes_text(parts) for model, parts in board.tested.items()}
    several = len(told) > 1
    tested = [f"{name} ({revision}), {text}" if several else text for (name, revision), text in told.items() if text]
    return "\n\n".join([terminal_text(board.rows, width), *tested, *board.notes])
