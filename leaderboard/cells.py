"""A cell as the board needs it: what no row reads is dropped, what many cells repeat is kept once.

Ten thousand cells must fit in memory together; most of a cell file is lists of neurons, and most of the rest
(model, task, metric, settings) is the same in hundreds of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from skillneurons.leaderboard.settings import parse_json, plain_bytes, plain_json, prompt_settings_of, settings_of
from skillneurons.results import Result

_TOP = 10
_REPEATED = ("model", "task", "metric", "config", "n")
_UNMEASURED: Mapping[str, Any] = {"columns": {}, "causal": None}
_OWN = tuple(one.name for one in fields(Result) if one.name not in (*_REPEATED, *_UNMEASURED))


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardCell(Result):
    """A Result whose columns keep no more neurons than are compared between seeds.

    ``settings`` is the text of everything but the seed that it was computed from, ``prompt_settings`` of what its
    accuracies depend on: cells of the same text may stand in one row, or one entry.
    """

    settings: str
    prompt_settings: str


@dataclass(frozen=True, slots=True)
class PackedCell:
    """A cell that waits until its row is made: what it shares with others, and the rest as JSON."""

    shared: dict[str, Any]
    own: bytes
    measured: bytes

    def unpack(self, *, columns: bool = True) -> BoardCell:
        """Return the cell, with or without its columns and its causal part."""
        measured = parse_json(self.measured) if columns else _UNMEASURED
        return BoardCell(**self.shared, **parse_json(self.own), **measured)


class Packer:
    """Packs Results; equal parts of several become one object."""

    def __init__(self) -> None:
        self._known: dict[bytes, Any] = {}
        self._together: dict[tuple[int, ...], dict[str, Any]] = {}

    def pack(self, result: Result) -> PackedCell:
        """Return what the board needs of a cell."""
        parts = {name: self._one(getattr(result, name)) for name in _REPEATED}
        together = tuple(map(id, parts.values()))  # they live as long as this object
        if together not in self._together:
            texts = {"settings": settings_of(result), "prompt_settings": prompt_settings_of(result)}
            self._together[together] = {**parts, **{name: plain_json(value) for name, value in texts.items()}}
        own = {name: getattr(result, name) for name in _OWN}
        own["scores"] = [score for score in result.scores if not score.get("detail")]
        top = int(result.config.get("attribution", {}).get("top_k", _TOP))
        columns = {name: _column(column, top) for name, column in result.columns.items()}
        packed = (plain_bytes(part) for part in (own, {"columns": columns, "causal": result.causal}))
        return PackedCell(self._together[together], *packed)

    def _one(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        known: Mapping[str, Any] = self._known.setdefault(plain_bytes(value), value)
        return known


def _column(column: Mapping[str, Any], top: int) -> Mapping[str, Any]:
    if not column.get("top"):
        return column
    return {**column, "top": [{name: one[name] for name in ("layer", "neuron")} for one in column["top"][:top]]}
