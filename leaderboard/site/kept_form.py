"""What files beside a cell must hold to be shown: each check says what is wrong in a few words, ``""`` where nothing is.

They are a stranger's files as much as a run's own: one that is damaged must cost its own figures, never the whole site.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LARGEST = 1e100  # as in a cell: no figure is larger
_NEURON = re.compile(r"L([0-9]{2,6})\.N([0-9]{4,9})")
_RECORD: Mapping[str, tuple[type, ...]] = {"device": (str,), "python": (str,), "threads": (int,), "limit": (int,)}


def record_fault(record: Mapping[str, Any]) -> str:
    """Check a run record: versions by name, device, threads, the limit and the plugins that were given."""
    for name, kinds in _RECORD.items():
        value = record.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            return f"{name} is {value!r:.60}"
    versions, plugins = record.get("versions") or {}, record.get("plugins") or []
    if not isinstance(versions, dict) or not all(isinstance(one, str) for one in versions.values()):
        return "versions are no texts by name"
    if not isinstance(plugins, list) or not all(isinstance(one, str) for one in plugins):
        return "plugins are no list of texts"
    return ""


def scores_fault(scores: Mapping[str, npt.NDArray[np.float32]], n_neurons: int) -> str:
    """Check scores by column: all of one shape (n_layers, d_ff) that has the cell's neurons; NaN is not scored, inf is damage."""
    import numpy as np

    for name, one in scores.items():
        if one.ndim != 2 or one.size != n_neurons or not one.size:
            return f"{name} has shape {one.shape}, not (n_layers, d_ff) of {n_neurons} neurons"
        if not np.issubdtype(one.dtype, np.floating) or np.isinf(one).any():
            return f"{name} holds what is no r"
    shapes = sorted({one.shape for one in scores.values()})
    return f"columns have shapes {shapes[0]} and {shapes[1]}" if len(shapes) > 1 else ""


def cards_fault(columns: Any, shape: tuple[int, ...] | None) -> str:
    """Check cards by column and neuron name; ``shape`` is that of the scores, None where there are none."""
    if not isinstance(columns, dict):
        return "no mapping of columns"
    for column, cards in columns.items():
        if not isinstance(cards, dict):
            return f"{column} has no mapping of neurons"
        for neuron, card in cards.items():
            found = _NEURON.fullmatch(neuron)
            if found is None:
                return f"{neuron!r} is no neuron"
            if shape is not None and not all(
                int(part) < most for part, most in zip(found.groups(), shape, strict=True)
            ):
                return f"{neuron} lies outside the scores {shape}"
            if not _is_card(card):
                return f"{neuron} of {column} has no whole card"
    return ""


def _is_card(card: Any) -> bool:
    if not isinstance(card, dict) or not _is_vocabulary(card.get("vocabulary")):
        return False
    ends = [card.get(end) for end in ("highest", "lowest")]
    return all(isinstance(end, list) and all(map(_is_example, end)) for end in ends)


def _is_vocabulary(told: Any) -> bool:
    """Whether this is the tokens of both ends, each with its value, or the reason why there are none."""
    if not isinstance(told, dict):
        return False
    if "reason" in told:
        return isinstance(told["reason"], str)
    ends = [told.get(end) for end in ("promoted", "suppressed")]
    return all(isinstance(end, list) and all(map(_is_weighed, end)) for end in ends)


def _is_weighed(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and _is_number(pair[1])


def _is_example(one: Any) -> bool:
    if not isinstance(one, dict) or not all(isinstance(one.get(name), str) for name in ("id", "target", "text")):
        return False
    if not _is_number(one.get("activation")) or type(one.get("correct", "")) not in (float, int, bool, type(None)):
        return False
    tokens, attention = one.get("tokens"), one.get("attention", ())
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return False
    if attention is None and not isinstance(one.get("attention_reason"), str):
        return False
    return _are_numbers(one.get("activations"), len(tokens)) and (
        attention is None or _are_numbers(attention, len(tokens))
    )


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, list) and len(values) == count and all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    """Whether this is a number of a sane size; NaN, infinities and truth values are none."""
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST
