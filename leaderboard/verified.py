"""Which cells are verified: a report that a trusted key signed lists all their files as they are now, and found nothing about them.

Reports stand in ``verification/`` of the run folder, as ``skillneurons verify --sign`` writes them. Where another report of the folder
found something about the very same files, that outweighs it. The bundles of verified cells have names of their own, so that no row
is made from cells of both kinds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from skillneurons.leaderboard.found_cells import CellEntry, FoundCells, read_entry
from skillneurons.leaderboard.settings import parse_json, plain_json
from skillneurons.leaderboard.sources import Source
from skillneurons.signed_report import (
    FOLDER,
    LARGEST,
    TrustedReport,
    across_file,
    cell_files,
    hashes_of,
    parse_report,
)

VERIFIED = "verified"
YES, NO = "yes", "no"


def verified_name(bundle: str) -> str:
    """Return the name of a bundle's verified cells."""
    return plain_json([*parse_json(bundle), VERIFIED])


def is_verified(bundle: str) -> bool:
    """Return whether a bundle is one of verified cells."""
    return VERIFIED in parse_json(bundle)[4:]


def part_verified(found: FoundCells, sources: Sequence[Source], trusted: frozenset[str]) -> tuple[list[str], set[str]]:
    """Part every bundle into verified cells and others; return why reports stand for nothing, and which comparisons are signed.

    Of a cell that is in several folders, the one that a report stands for is taken.
    """
    remarks: list[str] = []
    reports = {source.place: _reports(source, trusted, remarks) for source in sources}
    for name, entries in list(found.bundles.items()):
        good: list[CellEntry] = []
        others: list[CellEntry] = []
        for entry in entries:
            same = sorted([entry, *found.copies.get(entry.key, ())], key=lambda one: one.file.place)
            signed = next((one for one in same if _is_signed(one, reports[one.source.place], remarks)), None)
            (others if signed is None else good).append(signed or entry)
        if good:
            found.bundles[verified_name(name)] = good
        if others:
            found.bundles[name] = others
        else:
            del found.bundles[name]
    signed_across = {
        key for source in sources for one in reports[source.place].values() for key in _across(source, one.across)
    }
    return sorted(set(remarks)), signed_across


def _reports(source: Source, trusted: frozenset[str], remarks: list[str]) -> dict[str, TrustedReport]:
    """Return the reports of a run folder that trusted keys signed, by their place."""
    reports = {}
    for file in source.files(FOLDER):
        place = file.place
        if file.size > LARGEST:
            remarks.append(f"{place} verifies nothing: it has {file.size} bytes: no report is that large")
            continue
        try:
            report, reason = parse_report(source.read(file), trusted)
        except OSError as error:
            report, reason = None, f"it cannot be read ({error.strerror or error})"
        if report is None:
            remarks.append(f"{place} verifies nothing: {reason}")
        else:
            reports[place] = report
    return reports


def _is_signed(entry: CellEntry, reports: Mapping[str, TrustedReport], remarks: list[str]) -> bool:
    """Whether a report stands for a cell as it is, and none found something about it as it is."""
    if not any(_is_of(entry, one.cells) for one in reports.values()):
        return False
    against = [place for place, one in sorted(reports.items()) if _is_of(entry, one.found)]
    for place in against:
        remarks.append(f"{place} found something about {entry.key} as it is, so no other report verifies it")
    return not against


def _is_of(entry: CellEntry, cells: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether the files of a cell are, with their hashes, those that a report lists."""
    known = cells.get(entry.key)
    if known is None or known.get(f"cells/{entry.key}.json") != entry.digest:
        return False
    return hashes_of(cell_files(entry.key, read_entry(entry).prompt), entry.source.fetch) == dict(known)


def _across(source: Source, listed: Mapping[str, str]) -> list[str]:
    """Return the comparisons across tasks that are as a report lists them."""
    return [key for key, digest in listed.items() if _digest(source.fetch(across_file(key))) == digest]


def _digest(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()
