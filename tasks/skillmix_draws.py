"""Which combinations of skills and a topic a split holds, and in which order they are drawn.

A combination belongs to one split for ever, whatever its skills' order (``split_by_group``). Few combinations
are listed and shuffled, each drawn once before any comes in a second order; where there are too many to list
(``MOST``), they are drawn at random. Several k are drawn in turn, so a limit holds as many of each.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence

import skillneurons as sn
from skillneurons.tasks.skillmix_catalogue import Catalogue

MOST = 20_000
PATIENCE = 20_000  # so many draws that give nothing new mean that a split is used up
Drawn = tuple[tuple[str, ...], str]


def group_of(skills: Sequence[str], topic: str) -> str:
    """Return the name that all orders of a combination share."""
    return f"{topic}:{'+'.join(sorted(skills))}"


def draws(split: str, sizes: Sequence[int], known: Catalogue, rng: random.Random) -> Iterator[Drawn]:
    """Yield (skills in an order, topic) of a split until it is used up, the k of ``sizes`` in turn."""
    streams = [_of_size(split, k, known, random.Random(rng.randrange(1 << 62))) for k in sizes]
    while streams:
        for stream in list(streams):
            drawn = next(stream, None)
            if drawn is None:
                streams.remove(stream)
            else:
                yield drawn


def _of_size(split: str, k: int, known: Catalogue, rng: random.Random) -> Iterator[Drawn]:
    names = [skill.name for skill in known.skills]
    if math.comb(len(names), k) * len(known.topics) > MOST:
        yield from _sampled(split, k, names, known.topics, rng)
        return
    listed = [(s, topic) for s in itertools.combinations(names, k) for topic in known.topics]
    mine = [one for one in listed if sn.split_by_group(group_of(*one), "skillmix") == split]
    rng.shuffle(mine)
    given: dict[Drawn, set[tuple[str, ...]]] = {one: set() for one in mine}
    for turn in range(min(math.factorial(k), PATIENCE)):
        for skills, topic in mine:
            orders = given[skills, topic]
            order = _new_order(skills, orders, rng) if turn else tuple(rng.sample(skills, k))
            orders.add(order)
            yield order, topic


def _new_order(skills: tuple[str, ...], given: set[tuple[str, ...]], rng: random.Random) -> tuple[str, ...]:
    while True:
        order = tuple(rng.sample(skills, len(skills)))
        if order not in given:
            return order


def _sampled(split: str, k: int, names: Sequence[str], topics: Sequence[str], rng: random.Random) -> Iterator[Drawn]:
    seen: set[Drawn] = set()
    misses = 0
    while misses < PATIENCE:
        skills, topic = tuple(rng.sample(names, k)), rng.choice(topics)
        misses += 1
        if (skills, topic) not in seen and sn.split_by_group(group_of(skills, topic), "skillmix") == split:
            seen.add((skills, topic))
            misses = 0
            yield skills, topic
