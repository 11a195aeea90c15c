"""From examples to token ids, and from token ids to batches of equal length.

Inputs of one length are run together, so nothing is padded; in their own order they are padded on the left. Either
way the read position is the last one of every batch. An answer is tokenised as it stands; open and generated answers end with the end of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from skillneurons.errors import DataError
from skillneurons.model import LanguageModel
from skillneurons.task_setup import follow_up
from skillneurons.types import Example, Task


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of an example: its input, its target, and each of its choices.

    ``room_for_dialogue`` is how many tokens the input of a second turn may have (0: the task has none).
    """

    index: int
    example: Example
    text: str
    ids: tuple[int, ...]
    target: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...] | None
    truncated: bool = False
    room_for_dialogue: int = 0


def encode_examples(
    lm: LanguageModel,
    task: Task,
    examples: Sequence[Example],
    *,
    num_virtual_tokens: int,
    too_long: str = "refuse",
) -> list[EncodedExample]:
    """Tokenise examples; inputs too long for the context are refused, or cut from the left."""
    eos = lm.tokenizer.eos_token_id
    end = () if task.kind == "choice" or eos is None else (int(eos),)
    encoded = []
    for index, example in enumerate(examples):
        text = lm.text(example.prompt)
        row = EncodedExample(
            index=index,
            example=example,
            text=text,
            ids=tuple(lm.encode(text)),
            target=(*lm.encode_answer(example.target), *end),
            choices=tuple(tuple(lm.encode_answer(choice)) for choice in example.choices) if example.choices else None,
        )
        if not row.ids or not row.target or any(not choice for choice in row.choices or ()):
            raise DataError(
                f"task {task.name!r}, example {example.id!r}: its prompt or answer has no tokens for {lm.name!r}"
            )
        answer = max(len(row.target), task.max_new_tokens if task.kind != "choice" else 0)
        room = lm.context_length - num_virtual_tokens - answer
        request = follow_up(task, example, "")
        if request is not None:  # the second turn holds the first text and the request too
            row = replace(row, room_for_dialogue=room)
            room -= task.max_new_tokens + len(lm.encode(lm.dialogue((example.prompt, "", request)))) - len(row.ids)
        encoded.append(_fitted(lm, task, row, room, too_long))
    return encoded


def _fitted(lm: LanguageModel, task: Task, row: EncodedExample, room: int, too_long: str) -> EncodedExample:
    if len(row.ids) <= room:
        return row
    if too_long != "truncate" or room < 1:
        raise DataError(
            f"task {task.name!r}, example {row.example.id!r}: {len(row.ids)} input tokens, but {lm.name!r} has room for "
            f"{max(room, 0)} beside the prompt and the answer (context {lm.context_length}); "
            "--set model.too_long=truncate cuts from the left"
        )
    return replace(row, ids=row.ids[-room:], truncated=True)


def equal_length_batches(
    encoded: Iterable[EncodedExample], batch_size: int, tokens: int | None = None
) -> Iterator[list[EncodedExample]]:
    """Yield batches of at most ``batch_size`` examples whose inputs have the same number of tokens.

    With ``tokens`` a batch of more than one example has at most that many tokens of input, so that its memory does not grow
    with the number of examples that happen to have one length.
    """
    by_length = sorted(encoded, key=lambda row: (len(row.ids), row.index))
    for length, same in groupby(by_length, key=lambda row: len(row.ids)):
        rows = list(same)
        at_once = batch_size if tokens is None else max(1, min(batch_size, tokens // length))
        for start in range(0, len(rows), at_once):
            yield rows[start : start + at_once]


def near_length_batches(encoded: Iterable[EncodedExample], batch_size: int) -> Iterator[list[EncodedExample]]:
    """Yield batches of ``batch_size`` examples, by the length of their inputs; one batch may hold several lengths."""
    by_length = sorted(encoded, key=lambda row: (len(row.ids), row.index))
    yield from in_order_batches(by_length, batch_size)


def in_order_batches(encoded: Sequence[EncodedExample], batch_size: int) -> Iterator[list[EncodedExample]]:
    """Yield batches of ``batch_size`` examples in their order; their inputs are padded on the left where they run."""
    for start in range(0, len(encoded), batch_size):
        yield list(encoded[start : start + batch_size])
