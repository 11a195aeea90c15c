"""A cell as the board reads it: a Result that knows the texts by which cells are put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from skillneurons.leaderboard.settings import plain_json, prompt_settings_of, settings_of
from skillneurons.results import Result

_FIELDS = tuple(one.name for one in fields(Result))
_UNMEASURED: Mapping[str, Any] = {"columns": {}, "causal": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardCell(Result):
    """A Result with two texts, made once.

    ``settings`` is the text of everything but the seed that it was computed from, ``prompt_settings`` of what its
    accuracies depend on: cells of the same text may stand in one row, or one entry.
    """

    settings: str
    prompt_settings: str


def board_cell(result: Result) -> BoardCell:
    """Return a cell with its texts."""
    parts = {name: getattr(result, name) for name in _FIELDS}
    return BoardCell(
        **parts, settings=plain_json(settings_of(result)), prompt_settings=plain_json(prompt_settings_of(result))
    )


def without_columns(cell: BoardCell) -> BoardCell:
    """Return a cell without what was measured of neurons: it is small, and accuracies need no more."""
    parts = {name: getattr(cell, name) for name in _FIELDS}
    parts["scores"] = [score for score in cell.scores if not score.get("detail")]
    return BoardCell(**{**parts, **_UNMEASURED}, settings=cell.settings, prompt_settings=cell.prompt_settings)
