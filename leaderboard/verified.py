"""Which cells are verified: a report that a trusted key signed lists all their files as they are now, and found nothing about them.

Reports stand in ``verification/`` of the run folder, as ``skillneurons verify --sign`` writes them. The bundles of verified cells have
names of their own, so that no row is made from cells of both kinds.
"""

from __future__ import annotations

from collections.abc import Sequence

from skillneurons.leaderboard.found_cells import CellEntry, FoundCells, read_entry
from skillneurons.leaderboard.settings import parse_json, plain_json
from skillneurons.leaderboard.sources import Source
from skillneurons.signed_report import FOLDER, TrustedReport, parse_report, stands_for

VERIFIED = "verified"
YES, NO = "yes", "no"


def verified_name(bundle: str) -> str:
    """Return the name of a bundle's verified cells."""
    return plain_json([*parse_json(bundle), VERIFIED])


def is_verified(bundle: str) -> bool:
    """Return whether a bundle is one of verified cells."""
    return VERIFIED in parse_json(bundle)[4:]


def part_verified(found: FoundCells, sources: Sequence[Source], trusted: frozenset[str]) -> list[str]:
    """Part every bundle into verified cells and others; return why reports stand for nothing."""
    remarks: list[str] = []
    reports = {source.place: _reports(source, trusted, remarks) for source in sources}
    for name, entries in list(found.bundles.items()):
        good = [entry for entry in entries if any(_stands(one, entry) for one in reports[entry.source.place])]
        others = [entry for entry in entries if entry not in good]
        if good:
            found.bundles[verified_name(name)] = good
        if others:
            found.bundles[name] = others
        else:
            del found.bundles[name]
    return remarks


def _reports(source: Source, trusted: frozenset[str], remarks: list[str]) -> list[TrustedReport]:
    """Return the reports of a run folder that trusted keys signed."""
    reports = []
    for file in source.files(FOLDER):
        report, reason = parse_report(source.read(file), trusted)
        if report is None:
            remarks.append(f"{file.place} verifies nothing: {reason}")
        else:
            reports.append(report)
    return reports


def _stands(report: TrustedReport, entry: CellEntry) -> bool:
    known = report.cells.get(entry.key)
    if known is None or known.get(f"cells/{entry.key}.json") != entry.digest:
        return False
    return stands_for(report, entry.key, read_entry(entry).prompt, entry.source.fetch)
