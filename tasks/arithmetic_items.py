"""The 20 BIG-bench ``arithmetic`` subtasks, generated to their stated rules.

A subtask is ``{d}_digit_{operation}`` for d = 1..5 and four operations. Both operands have exactly
d digits (0..9 when d = 1). Subtraction never goes below zero; division is exact and its divisor is
not zero. An item and its commuted pair form one group, and a group belongs to one split for ever
(``SHARES``), whatever the number of examples drawn.
"""

from __future__ import annotations

import difflib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import skillneurons as sn

OPERATIONS = ("addition", "subtraction", "multiplication", "division")
WORDS = {"addition": "plus", "subtraction": "minus", "multiplication": "times", "division": "divided by"}
DIGITS = (1, 2, 3, 4, 5)
SHARES = {"train": 0.70, "validation": 0.05, "discovery": 0.15, "heldout": 0.10}
ENUMERATED_DIGITS = 2  # subtasks of more digits are sampled, their items are too many to list
PATIENCE = 20_000  # a sampled subtask that gives nothing new for so many draws is used up


SUBTASKS: dict[str, dict[str, list[Any]]] = {
    f"{d}_digit_{operation}": {"operations": [operation], "digits": [d]} for operation in OPERATIONS for d in DIGITS
}


@dataclass(frozen=True, slots=True)
class Item:
    """One problem: two operands, an operation and its answer."""

    digits: int
    operation: str
    a: int
    b: int

    @property
    def answer(self) -> int:
        if self.operation == "addition":
            return self.a + self.b
        if self.operation == "subtraction":
            return self.a - self.b
        if self.operation == "multiplication":
            return self.a * self.b
        return self.a // self.b

    @property
    def subtask(self) -> str:
        return f"{self.digits}_digit_{self.operation}"

    @property
    def expression(self) -> str:
        """Return the problem in words: ``12 plus 47``."""
        return f"{self.a} {WORDS[self.operation]} {self.b}"

    @property
    def group(self) -> str:
        """Return the name shared by an item and its commuted pair."""
        commutes = self.operation in ("addition", "multiplication")
        a, b = (min(self.a, self.b), max(self.a, self.b)) if commutes else (self.a, self.b)
        return f"{self.operation}:{a}:{b}"

    @property
    def split(self) -> str:
        return sn.split_by_group(self.group, "arithmetic", SHARES)  # type: ignore[arg-type]

    @property
    def carry(self) -> bool:
        """Return whether a digit carries (addition, multiplication) or borrows (subtraction, division)."""
        a, b = self.a, self.b
        if self.operation == "multiplication":
            return any(int(x) * int(y) > 9 for x in str(a) for y in str(b))
        if self.operation == "division":
            return any(int(x) % b != 0 for x in str(a)[:1])
        while a or b:
            x, y = a % 10, b % 10
            if (self.operation == "addition" and x + y > 9) or (self.operation == "subtraction" and x < y):
                return True
            a, b = a // 10, b // 10
        return False


def is_item(operation: str, a: int, b: int) -> bool:
    """Tell whether (a, b) is a problem of this operation: not negative, division exact."""
    if operation == "subtraction":
        return a >= b
    if operation == "division":
        return b != 0 and a != 0 and a % b == 0
    return True


@cache
def enumerate_subtask(operation: str, digits: int) -> tuple[Item, ...]:
    """List every item of a subtask in order (use for one and two digits)."""
    low, high = (0 if digits == 1 else 10 ** (digits - 1)), 10**digits
    pairs = ((a, b) for a in range(low, high) for b in range(low, high))
    return tuple(Item(digits, operation, a, b) for a, b in pairs if is_item(operation, a, b))


def items_of(subtask: str) -> tuple[Item, ...]:
    """Return every item of a subtask, in order: ``1_digit_addition`` has 100, ``1_digit_division`` 23.

    DataError for a name that is none of the 20 and for a subtask of more than two digits, which is sampled.
    """
    few = [name for name, fixed in SUBTASKS.items() if fixed["digits"][0] <= ENUMERATED_DIGITS]
    if subtask in few:
        fixed = SUBTASKS[subtask]
        return enumerate_subtask(fixed["operations"][0], fixed["digits"][0])
    if subtask in SUBTASKS:
        raise sn.DataError(
            f"arithmetic: {subtask!r} has too many items to list; those that can be listed: {', '.join(few)}"
        )
    near = difflib.get_close_matches(subtask, SUBTASKS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise sn.DataError(f"arithmetic: no subtask {subtask!r}; {hint}known: {', '.join(SUBTASKS)}")


def _sampled(operation: str, digits: int, rng: random.Random) -> Iterator[Item]:
    low, high = 10 ** (digits - 1), 10**digits
    while True:
        a, b = rng.randrange(low, high), rng.randrange(low, high)
        if operation == "division":
            a = b * rng.randrange(1, (high - 1) // b + 1)
        elif operation == "subtraction" and a < b:
            a, b = b, a
        yield Item(digits, operation, a, b)


def draw_items(split: str | None, n: int, seed: int, operations: Sequence[str], digits: Sequence[int]) -> list[Item]:
    """Draw up to ``n`` different items of a split (None: of all), spread evenly over the subtasks.

    Subtasks too small for their share give all they have and the others make up for it; fewer than
    ``n`` come back only when everything is used up. Same arguments, same items in the same order.
    """
    streams: list[Iterator[Item]] = []
    for operation in operations:
        for d in digits:
            rng = random.Random(f"arithmetic/{split}/{seed}/{operation}/{d}")
            if d <= ENUMERATED_DIGITS:
                items = [i for i in enumerate_subtask(operation, d) if split is None or i.split == split]
                rng.shuffle(items)
                streams.append(iter(items))
            else:
                streams.append(_sampled(operation, d, rng))
    drawn: dict[tuple[str, int, int], Item] = {}
    while streams and len(drawn) < n:
        for stream in list(streams):
            for item in itertools.islice(stream, PATIENCE):
                key = (item.operation, item.a, item.b)
                if key not in drawn and (split is None or item.split == split):
                    drawn[key] = item
                    break
            else:
                streams.remove(stream)
            if len(drawn) == n:
                break
    return list(drawn.values())
