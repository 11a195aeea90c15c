"""What a run folder keeps of a cell besides the cell itself: scores of every neuron, neuron cards, the run record.

All of it may be missing: the committed results of a board are cells alone. Where it is there and damaged, the page says so
and the cell is named as a problem.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from skillneurons.leaderboard.sources import Source
from skillneurons.results import Result

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_NEURON = re.compile(r"L\d{2,}\.N\d{4,}")
_EXAMPLE = {"activation", "activations", "attention", "correct", "id", "target", "text", "tokens"}
ABSENT = "The scores of every neuron are not beside this cell (no passes/ folder), so they cannot be drawn."


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
    record = _json(sources, f"cells/{cell.key}.run.json", problems)
    cards = _json(sources, f"cards/{cell.key}.json", problems)
    columns = cards.get("columns")
    if cards and not _is_cards(columns):
        problems.append(f"cards/{cell.key}.json holds no cards; delete it and its cell and run again")
        columns = {}
    scores, reason = _scores(sources, cell, problems)
    quantity = str(cards.get("quantity") or "activation")
    return Kept(scores, reason, columns or {}, quantity, record, tuple(problems))


def fetched(sources: Sequence[Source], name: str) -> bytes | None:
    """Return the bytes of a file in the first source that has it."""
    for source in sorted(sources, key=lambda one: one.place):
        data = source.fetch(name)
        if data is not None:
            return data
    return None


def _is_cards(columns: Any) -> bool:
    """Whether this is cards by column and neuron name, each with all its parts."""
    return isinstance(columns, dict) and all(
        isinstance(cards, dict) and all(_NEURON.fullmatch(name) and _is_card(card) for name, card in cards.items())
        for cards in columns.values()
    )


def _is_card(card: Any) -> bool:
    if not isinstance(card, dict) or not isinstance(card.get("vocabulary"), dict):
        return False
    told = card["vocabulary"]
    if "reason" not in told and not all(isinstance(told.get(name), list) for name in ("promoted", "suppressed")):
        return False
    ends = [card.get(end) for end in ("highest", "lowest")]
    return all(isinstance(end, list) and all(map(_is_example, end)) for end in ends)


def _is_example(one: Any) -> bool:
    if not isinstance(one, dict) or not one.keys() >= _EXAMPLE or not isinstance(one["activation"], int | float):
        return False
    tokens, lists = one["tokens"], [one["activations"], *([] if one["attention"] is None else [one["attention"]])]
    return isinstance(tokens, list) and all(
        isinstance(values, list) and len(values) == len(tokens) and all(isinstance(v, int | float) for v in values)
        for values in lists
    )


def _json(sources: Sequence[Source], name: str, problems: list[str]) -> dict[str, Any]:
    data = fetched(sources, name)
    if data is None:
        return {}
    try:
        content = json.loads(data)
        if isinstance(content, dict):
            return content
        reason = "it is no mapping"
    except ValueError as error:
        reason = str(error)
    problems.append(f"{name} cannot be read ({reason}); delete it and its cell and run again")
    return {}


def _scores(
    sources: Sequence[Source], cell: Result, problems: list[str]
) -> tuple[dict[str, npt.NDArray[np.float32]], str]:
    data = fetched(sources, f"passes/{cell.pass_}/scores.safetensors") if cell.pass_ else None
    if data is None:
        return {}, ABSENT
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(data)), ABSENT
    except (SafetensorError, ValueError) as error:
        problems.append(
            f"passes/{cell.pass_}/scores.safetensors cannot be read ({error}); delete the folder and run again"
        )
        return {}, f"The scores of every neuron cannot be read ({error})."


def kept_activations(sources: Sequence[Source], cell: Result) -> Activations | None:
    """Return the kept held-out activations of a cell's strongest neurons; None where they are not here or damaged."""
    rows = fetched(sources, f"passes/{cell.pass_}/neurons.safetensors") if cell.pass_ else None
    table = fetched(sources, f"passes/{cell.pass_}/examples.parquet") if rows is not None else None
    if rows is None or table is None:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return Activations(load(rows), pq.read_table(io.BytesIO(table)))
    except (SafetensorError, ValueError, OSError, pa.ArrowException):
        return None


@dataclass(frozen=True)
class Activations:
    """The rows of ``neurons.safetensors`` and the table of the examples."""

    rows: Mapping[str, npt.NDArray[Any]]
    table: Any

    def heldout(self, column: str, layer: int, neuron: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]] | None:
        """Return (activations, values of the column) on held-out examples, (rows,) each; None where they were not kept."""
        import numpy as np

        neurons = self.rows.get(f"{column}/neurons")
        if neurons is None or column not in self.table.column_names:
            return None
        found = np.flatnonzero((neurons == (layer, neuron)).all(axis=1))
        if not len(found):
            return None
        here = np.array(self.table.column("split").to_pylist()) == "heldout"
        values = np.array(self.table.column(column).to_pylist(), dtype=np.float64)[here]
        activations = self.rows[f"{column}/heldout"][:, found[0]]
        return (activations, values) if len(activations) == len(values) else None
