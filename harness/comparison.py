"""What a comparison of models holds: rows of every pair, rankings, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skillneurons.leaderboard.differences import ALPHA, Difference
from skillneurons.leaderboard.ranks import Place

FIGURES = ("accuracy", "mean", "heldout_top10_r")
NO_PASSES = "passes/ are not here"
FEW = 3  # keys that are named where there are many


@dataclass(frozen=True)
class Compared:
    """One figure of two models; ``metric`` and ``column`` are ``""`` for accuracy, ``setting`` where there is one alone."""

    figure: str
    task: str
    metric: str
    column: str
    setting: str
    difference: Difference


@dataclass(frozen=True)
class Pair:
    """All that was compared of the models ``a`` and ``b``."""

    a: str
    b: str
    rows: tuple[Compared, ...]

    def of(self, figure: str) -> list[Compared]:
        """Return the rows of one figure."""
        return [row for row in self.rows if row.figure == figure]


@dataclass(frozen=True)
class Count:
    """Of ``compared`` differences: ``nominal`` have p <= 0.05 before correction, where ``expected`` are by chance alone."""

    compared: int
    nominal: int
    expected: float
    beyond_noise: int
    same: int


@dataclass(frozen=True)
class Ranking:
    """One figure of a task (and column), the models highest first."""

    figure: str
    task: str
    column: str
    setting: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found: every pair, rankings of more than two models, what was left out, and damaged files.

    ``missing`` are the cells whose pass is not on disk, by the reason that this gives.
    """

    models: tuple[str, ...]
    pairs: tuple[Pair, ...]
    rankings: tuple[Ranking, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    n_resamples: int
    seed: int
    missing: Mapping[str, str]

    def short(self, reason: str) -> str:
        """Return a reason as one of many: where several passes are missing, the notes name them once."""
        return short_reason(reason, self.missing)


def count(rows: Sequence[Compared]) -> Count:
    """Return how many of the rows of one figure differ; those of a column that is the same for both do not count."""
    compared = [row.difference for row in rows if row.difference.p is not None]
    return Count(
        len(compared),
        sum(one.p is not None and one.p <= ALPHA for one in compared),
        ALPHA * len(compared),
        sum(one.beyond_noise for one in compared),
        sum(row.difference.same for row in rows),
    )


def missing_passes(missing: Mapping[str, str]) -> list[str]:
    """Return what to do about passes that are not on disk, once for all; a single one says so where it is needed."""
    if len(missing) < 2:
        return []
    keys = sorted(missing.values())
    more = f" and {len(keys) - FEW} more" if len(keys) > FEW else ""
    return [
        f"passes/ of {len(keys)} cells are not here: {', '.join(keys[:FEW])}{more}; bring the folder passes/ here, or delete "
        "the files of these cells from cells/ and run again into this folder"
    ]


def short_reason(reason: str, missing: Mapping[str, str]) -> str:
    """Return a reason, shortened where it is one of several missing passes."""
    return NO_PASSES if len(missing) > 1 and reason in missing else reason
