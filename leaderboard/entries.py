"""What a build works out and may find again: bundles, standings and accuracies, each under the hash of its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from skillneurons.leaderboard.accuracies import make_accuracies
from skillneurons.leaderboard.bundles import bundle_bytes, make_bundle
from skillneurons.leaderboard.index import digest_of
from skillneurons.leaderboard.models import Identity
from skillneurons.leaderboard.ranks import standings_bytes
from skillneurons.leaderboard.settings import parse_json, plain_bytes, plain_json
from skillneurons.results import Result

BUNDLE, STANDINGS, ACCURACIES = "bundle", "standings", "accuracies"


def bundle_digest(name: str, digests: Iterable[str]) -> str:
    """Return the name of a bundle's entry; ``digests`` are the hashes of its files."""
    return digest_of([name, *sorted(digests)])


def standings_digest(labels: Mapping[Identity, str], digests: Iterable[str]) -> str:
    """Return the name of the entry of one task and metric among models of these labels."""
    return digest_of([plain_json(list(labels.items())), *sorted(digests)])


def accuracies_name(bundle: str) -> str:
    """Return the name of what the accuracies of a bundle belong to: model, revision and task, and whether it is verified."""
    model, revision, task, _, *standing = parse_json(bundle)
    return plain_json([model, revision, task, *standing])


def bundle_entry(cells: Sequence[Result], verified: bool = False) -> bytes:
    """Return a bundle of cells as bytes."""
    return bundle_bytes(make_bundle(cells, verified))


def standings_entry(cells: Sequence[Result], labels: Mapping[Identity, str]) -> bytes:
    """Return the models beside each other on one task and metric, as bytes."""
    return standings_bytes(cells, labels)


def accuracies_entry(cells: Sequence[Result]) -> bytes:
    """Return the accuracies of one model and task, as bytes."""
    return plain_bytes(make_accuracies(cells))
