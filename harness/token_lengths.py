"""How many tokens the examples of a task have for a model, told without torch.

With the model's ``tokenizer.json`` at hand (an embedded model, a folder, a hub id of which it is in the local cache) every
text is tokenised as a run does; else a token is four characters. A chat template adds about twenty tokens, which is not looked
up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skillneurons.errors import ModelError
from skillneurons.types import Example, Task

CHARACTERS = 4  # of a token, where there is no tokenizer
TEMPLATE = 20  # tokens

Count = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class Row:
    """Tokens of one example: input, target (with its end of text), choices, and what a second turn adds (0: there is none)."""

    input: int
    target: int
    choices: tuple[int, ...] = ()
    request: int = 0


def counter_of(folder: Path | None) -> tuple[Count, str]:
    """Return how texts are counted, and that in words: by the folder's ``tokenizer.json``, else by characters.

    Raise ModelError for a file that is none.
    """
    file = folder / "tokenizer.json" if folder is not None else None
    if file is None or not file.is_file():
        return lambda texts: [max(1, math.ceil(len(text) / CHARACTERS)) for text in texts], "four characters a token"
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(
            f"{file}: no tokenizer ({' '.join(str(error).split())}); save the model's tokenizer again"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(one.ids) for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    return count, "the model's tokenizer"


def rows_of(task: Task, examples: Sequence[Example], count: Count, *, template: bool, room: int) -> list[Row]:
    """Return the tokens of every example; an input has at most ``room`` tokens."""
    extra = TEMPLATE if template else 0
    inputs = count([one.prompt for one in examples])
    targets = count([one.target for one in examples])
    choices = iter(count([choice for one in examples for choice in one.choices or ()]))
    requests = [0] * len(examples)
    if task.follow_up is not None:
        asked = [task.follow_up(one, "") for one in examples]
        requests = [0 if text is None else n for text, n in zip(asked, count([t or "" for t in asked]), strict=True)]
    end = 0 if task.kind == "choice" else 1
    return [
        Row(
            min(max(1, n + extra), max(1, room)),
            max(1, target + end),
            tuple(max(1, next(choices)) for _ in one.choices or ()),
            request,
        )
        for one, n, target, request in zip(examples, inputs, targets, requests, strict=True)
    ]
