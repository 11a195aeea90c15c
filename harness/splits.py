"""Which split an example belongs to: a property of its group, not of any run's seed.

``stable_hash`` maps a text to a number in [0, 1) that never changes between machines or Python
versions (BLAKE2b, not ``hash``). ``split_by_group`` cuts that interval into the four splits, so
all variants of one item stay together and an item never moves from one split to another when the
number of examples, the seed or the model changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from skillneurons.types import Split

SHARES: Mapping[Split, float] = {"train": 0.4, "validation": 0.1, "discovery": 0.3, "heldout": 0.2}


def stable_hash(text: str, salt: str = "") -> float:
    """Return a number in [0, 1) that depends on ``text`` and ``salt`` alone."""
    digest = hashlib.blake2b(f"{salt}\0{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def split_by_group(group: str, salt: str, shares: Mapping[Split, float] = SHARES) -> Split:
    """Return the split of ``group``; ``salt`` is usually the task's name, ``shares`` sum to 1."""
    position = stable_hash(group, salt)
    edge = 0.0
    for split, share in shares.items():
        edge += share
        if position < edge:
            return split
    return next(reversed(list(shares)))
