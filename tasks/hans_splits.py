"""Which split a HANS template belongs to, and how a sample is spread over the subcases.

Discovery and heldout do not share a template, so what is found on one is measured on constructions that
were not seen. A subcase with several templates gives the even-numbered ones to discovery and the
odd-numbered ones to heldout. A subcase with a single template goes wholly to one split, by the table
below; with it discovery has 17 thirtieths of the pairs (57 %) and heldout 13, both hold all three
heuristics, and in both exactly half of the pairs are entailed (where subcases are of equal size).
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

import skillneurons as sn
from skillneurons.tasks.hans_grammar import HansPair
from skillneurons.tasks.hans_subcases import SUBCASES

DISCOVERY_ONLY = (
    *("ln_subject/object_swap", "le_around_prepositional_phrase"),
    *("sn_NP/S", "sn_PP_on_subject", "se_adjective", "se_relative_clause_on_obj"),
    *("cn_embedded_under_if", "cn_adverb", "ce_embedded_under_since", "ce_after_since_clause", "ce_adverb"),
)
HELDOUT_ONLY = tuple(
    name for name, subcase in SUBCASES.items() if len(subcase.templates) == 1 and name not in DISCOVERY_ONLY
)
ROW_SHARES = {"discovery": 0.6, "heldout": 0.4}
Card = TypeVar("Card")


def hans_split_of_template(group: str) -> str:
    """Return ``discovery`` or ``heldout`` for a template written ``subcase/template`` (``ln_passive/temp20``)."""
    subcase, _, template = group.rpartition("/")
    if subcase in DISCOVERY_ONLY:
        return "discovery"
    if subcase in HELDOUT_ONLY:
        return "heldout"
    number = re.search(r"\d+$", template)
    if subcase not in SUBCASES or number is None:
        raise sn.DataError(
            f"hans: no split for template {group!r}; it must be written subcase/template, "
            "with a known subcase and a number at the end, as in 'ln_passive/temp20'"
        )
    return "heldout" if int(number[0]) % 2 else "discovery"


def in_split(pairs: Iterable[HansPair], which: str, split: str) -> list[HansPair]:
    """Return the pairs of ``discovery`` or ``heldout``, cut by ``template`` or by ``row``."""
    if split == "template":
        return [pair for pair in pairs if hans_split_of_template(pair.group) == which]
    return [pair for pair in pairs if sn.split_by_group(pair.pairID, "hans/row", ROW_SHARES) == which]  # type: ignore[arg-type]


def quotas(sizes: Sequence[int], limit: int) -> list[int]:
    """Share ``limit`` out in proportion to ``sizes`` (largest remainders first, then earlier ones)."""
    total = sum(sizes)
    if limit >= total:
        return list(sizes)
    exact = [limit * size / total for size in sizes]
    shares = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: shares[i] - exact[i])
    for i in by_remainder[: limit - sum(shares)]:
        shares[i] += 1
    return shares


def sample(pairs: Iterable[HansPair], limit: int | None, seed: int) -> list[HansPair]:
    """Draw ``limit`` pairs spread over the subcases, within each over its templates, in random order."""
    rng = random.Random(f"hans/sample/{seed}")
    subcases: dict[str, dict[str, list[HansPair]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        subcases[pair.subcase][pair.template].append(pair)
    rows = [deal(list(templates.values()), rng) for templates in subcases.values()]
    sizes = [len(row) for row in rows]
    chosen = [
        pair
        for row, n in zip(rows, quotas(sizes, sum(sizes) if limit is None else limit), strict=True)
        for pair in row[:n]
    ]
    rng.shuffle(chosen)
    return chosen


def deal(stacks: Sequence[Sequence[Card]], rng: random.Random) -> list[Card]:
    """Shuffle the stacks and each of them, and deal them in turn until all are dealt."""
    shuffled = [rng.sample(cards, len(cards)) for cards in rng.sample(stacks, len(stacks))]
    turns = range(max(map(len, shuffled), default=0))
    return [cards[turn] for turn in turns for cards in shuffled if turn < len(cards)]
