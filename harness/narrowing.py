"""Run the last block's feed-forward layer on the positions that are read, not on those that nothing looks at.

A feed-forward layer works position by position, and after the last block only the read positions go on. Where the layer is
no module of its own (OPT) everything runs as usual.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skillneurons.model import LanguageModel


@contextmanager
def last_positions_only(lm: LanguageModel, read: int | None) -> Iterator[None]:
    """A context in which the last feed-forward layer runs on the last ``read`` positions; the others come out as zero."""
    if read is None or lm.last_ffn is None:
        yield
        return
    wanted = max(read, 1)
    lengths: list[int] = []

    def narrow(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        length = next(value.shape[1] for value in (*args, *kwargs.values()) if _is_sequence(value))
        lengths.append(length)
        if length <= wanted:
            return None

        def cut(value: Any) -> Any:
            return value[:, -wanted:].contiguous() if _is_sequence(value) and value.shape[1] == length else value

        return tuple(map(cut, args)), {name: cut(value) for name, value in kwargs.items()}

    def widen(_module: Any, _args: Any, out: Any) -> Any:
        length = lengths.pop()

        def pad(value: Any) -> Any:
            return torch.nn.functional.pad(value, (0, 0, length - wanted, 0)) if _is_sequence(value) else value

        if length <= wanted:
            return None
        return tuple(map(pad, out)) if isinstance(out, tuple) else pad(out)

    handles = (
        lm.last_ffn.register_forward_pre_hook(narrow, with_kwargs=True),
        lm.last_ffn.register_forward_hook(widen),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_sequence(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 3
