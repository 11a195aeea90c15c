"""A small choice task of one's own, as a stranger would write it."""

from __future__ import annotations

import skillneurons as sn


def parity_examples(split: str, n: int) -> list[sn.Example]:
    """Return questions of different length about the parity of a number; ids and groups differ by split."""
    start = {"train": 0, "validation": 1000, "discovery": 2000, "heldout": 3000}[split]
    return [
        sn.Example(
            id=f"{split}/{i}",
            prompt=f"Is {(start + i * 37) % 10 ** (1 + i % 4)} even?",
            target="yes" if (start + i * 37) % 10 ** (1 + i % 4) % 2 == 0 else "no",
            choices=("yes", "no"),
            labels={"even": float((start + i * 37) % 2 == 0)},
            fields={"n": i},
        )
        for i in range(n)
    ]
