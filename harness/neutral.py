"""Neutral text: what steering should leave alone. A built-in file (``english``, ``pocket``) or one of the user's.

A line is plain text, or a context, a tab and a continuation, of which the continuation alone is scored.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from skillneurons.errors import UserError

NEUTRAL = ("english", "pocket")


def neutral_bytes(name: str) -> bytes:
    """Return the content of a neutral text; raise UserError for a file that cannot be read."""
    path = Path(__file__).parent / "configs" / f"neutral_{name}.txt" if name in NEUTRAL else Path(name)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"causal.neutral_text {name!r}: cannot be read ({error.strerror}); give a text file, or one of {', '.join(NEUTRAL)}"
        ) from error


def neutral_hash(name: str) -> str:
    """Return the hash of a neutral text's content, for the key of a cell."""
    return hashlib.sha256(neutral_bytes(name)).hexdigest()


def neutral_text(name: str) -> list[tuple[str, str]]:
    """Return (context, continuation) of each line; the continuation of a plain line is empty."""
    try:
        text = neutral_bytes(name).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"causal.neutral_text {name!r}: not UTF-8 ({error}); save the file as UTF-8") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"causal.neutral_text {name!r}: the file holds no line")
    parts = [line.partition("\t") for line in lines]
    return [(context, continuation) for context, _, continuation in parts]
