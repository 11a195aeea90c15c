"""What a run folder keeps of a cell besides the cell itself: scores of every neuron, neuron cards, the run record.

All of it may be missing: a board needs the cells alone. Where it is there and damaged, the page goes without it and the
file is named as a problem.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skillneurons.errors import ResultsError
from skillneurons.leaderboard.site.kept_form import cards_fault, record_fault, scores_fault
from skillneurons.leaderboard.sources import Source
from skillneurons.results import Result

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

ABSENT = "The scores of every neuron are not beside this cell (no passes/ folder), so they cannot be drawn."
_AGAIN = "delete it and its cell and run again"


@dataclass(frozen=True)
class Kept:
    """``scores`` (n_layers, d_ff) by column, or the ``reason`` why there are none; ``cards`` by column and neuron.

    ``record`` is what varies between runs; ``problems`` name damaged files.
    """

    scores: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    reason: str = ABSENT
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    quantity: str = "activation"
    record: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def neuron_name(layer: int, neuron: int) -> str:
    """Return a neuron's printed name: ``L03.N0127``."""
    return f"L{layer:02d}.N{neuron:04d}"


def read_kept(sources: Sequence[Source], cell: Result) -> Kept:
    """Return what the folders keep of a cell; of several that have it, the first by place."""
    problems: list[str] = []
    record = _record(sources, f"cells/{cell.key}.run.json", problems)
    scores, reason = _scores(sources, cell, problems)
    shape = next((one.shape for one in scores.values()), None)
    columns, quantity = _cards(sources, f"cards/{cell.key}.json", shape, problems)
    return Kept(scores, reason, columns, quantity, record, tuple(problems))


def fetched(sources: Sequence[Source], name: str, problems: list[str]) -> bytes | None:
    """Return the bytes of a file in the first source that has it; one that cannot be read is a problem."""
    for source in sorted(sources, key=lambda one: one.place):
        try:
            data = source.fetch(name)
        except ResultsError as error:
            problems.append(str(error))
            continue
        except ValueError:  # half a surrogate pair: no file has such a name
            return None
        if data is not None:
            return data
    return None


def _record(sources: Sequence[Source], name: str, problems: list[str]) -> dict[str, Any]:
    record = _json(sources, name, problems)
    fault = record_fault(record)
    if fault:
        problems.append(f"{name} holds no run record ({fault}); {_AGAIN}")
    return {} if fault else record


def _cards(
    sources: Sequence[Source], name: str, shape: tuple[int, ...] | None, problems: list[str]
) -> tuple[dict[str, Any], str]:
    """Return the cards by column and neuron, and which quantity they were chosen by."""
    content = _json(sources, name, problems)
    fault = cards_fault(content.get("columns"), shape) if content else ""
    if fault:
        problems.append(f"{name} holds no cards ({fault}); {_AGAIN}")
    columns: dict[str, Any] = {} if fault or not content else content["columns"]
    return columns, str(content.get("quantity") or "activation")


def _json(sources: Sequence[Source], name: str, problems: list[str]) -> dict[str, Any]:
    data = fetched(sources, name, problems)
    if data is None:
        return {}
    try:
        content = json.loads(data)
        if isinstance(content, dict):
            return content
        reason = "it is no mapping"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    problems.append(f"{name} cannot be read ({reason}); {_AGAIN}")
    return {}


def _scores(
    sources: Sequence[Source], cell: Result, problems: list[str]
) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
    name = f"passes/{cell.pass_}/scores.safetensors"
    data = fetched(sources, name, problems) if cell.pass_ else None
    if data is None:
        return {}, ABSENT
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        kept = load(data)
        scores = {column: kept[column] for column in cell.columns if column in kept}
        fault = scores_fault(scores, cell.n_neurons)
    except (
        SafetensorError,
        ValueError,
        LookupError,
        TypeError,
    ) as error:  # LookupError: a type that numpy does not know
        scores, fault = {}, str(error)
    if not fault:
        return scores, ABSENT
    problems.append(f"{name} cannot be read ({fault}); delete the folder and run again")
    return {}, f"The scores of every neuron cannot be read ({fault})."
