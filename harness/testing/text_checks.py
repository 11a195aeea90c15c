"""Check of a task's texts: what is written and what the model reads is what was meant."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from skillneurons.testing.checks import check
from skillneurons.testing.task_case import TaskCase
from skillneurons.types import Example


@check("task", "text round-trips")
def text_round_trips(case: TaskCase) -> str | None:
    """Every text survives UTF-8, JSON, Unicode's NFC form and the embedded tokenizer unchanged."""
    for split, examples in case.splits.items():
        for example in examples:
            for part, text in texts_of(example):
                fault = fault_of(text) or (token_fault(text) if part not in {"id", "group"} else "")
                if fault:
                    return f"{case.subject}, {split} example {example.id!r}: its {part} {text!r} {fault}"
    return None


def texts_of(example: Example) -> Iterator[tuple[str, str]]:
    """Yield every text of an example with what it is."""
    yield from (("id", example.id), ("prompt", example.prompt), ("target", example.target))
    if example.group:
        yield "group", example.group
    yield from (("choice", choice) for choice in example.choices or ())


def fault_of(text: str) -> str:
    """Return what a file would make of a text, '' where it stays the same."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"cannot be written as UTF-8 ({error.reason} at {error.start}); decode the source with its own encoding"
    if json.loads(json.dumps(text)) != text:
        return "does not come back from JSON; leave lone surrogates out"
    if unicodedata.normalize("NFC", text) != text:
        return "is not in Unicode's NFC form, into which many tokenizers put it; use unicodedata.normalize('NFC', text)"
    return ""


def token_fault(text: str) -> str:
    """Return what the embedded model's tokenizer makes of a text, '' where it comes back from it."""
    tokenizer = _tokenizer()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if not ids:
        return "has no token; give a text that the model can read"
    back = tokenizer.decode(ids, skip_special_tokens=True)
    if back != text:
        return f"comes back from the embedded tokenizer as {back!r}; leave special tokens such as <|endoftext|> out"
    return ""


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from pathlib import Path

    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(Path(__file__).parents[1] / "pocket" / "tokenizer.json"))
