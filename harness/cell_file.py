"""A finished cell as a file: how it is named, what it holds, how it is written and read.

key = slugs joined by ``-``, then 16 hex digits of sha256(canonical_json(payload))

Everything that changes the content of a cell belongs to the payload of its key, so a cell that
exists need never be computed again. A file appears under its name only when it is complete
(written beside, synced, renamed); NaN and infinities are stored as null ("not scored"). Times,
versions and hosts stand in ``<key>.run.json``, so that ``<key>.json`` depends on its inputs only.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from skillneurons.atomic import write_atomic
from skillneurons.cell_form import SCHEMA_VERSION, check_form
from skillneurons.errors import ResultsError
from skillneurons.html_table import number_text, table_html
from skillneurons.run_files import KEY

_SLUG_LENGTH = 24
_SHOWN = (
    "n_discovery",
    "n_heldout",
    "top10_r",
    "null95_r",
    "heldout_top10_r",
    "baseline_top10_r",
    "n_fwer",
)  # in a notebook


def _plain(value: object, place: str) -> Any:
    """Return ``value`` as plain JSON types, floats that are not finite as None."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ResultsError(f"cannot store the name {name!r} in {place}: names are text; quote it")
        return {str(name): _plain(item, f"{place}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
    raise ResultsError(
        f"cannot store {place} = {value!r} of type {type(value).__name__}: "
        "only text, numbers, None, lists and mappings are stored; write it as text"
    )


def canonical_json(value: object) -> str:
    """Return the one JSON text of ``value``: sorted names, ASCII, no spaces, NaN and infinities as null."""
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(*slugs: str, payload: Mapping[str, Any], known: Mapping[str, str] | None = None) -> str:
    """Return a key that changes with anything in ``payload``, however its mappings are ordered.

    ``slugs`` only make the key readable: lower-case, ``[a-z0-9_]``, at most 24 characters each. ``known`` are parts of the payload
    whose ``canonical_json`` is there already: of ten thousand keys most parts are the same.
    """
    parts = {name: canonical_json(value) for name, value in payload.items()} | dict(known or {})
    text = ",".join(f"{canonical_json(name)}:{parts[name]}" for name in sorted(parts))
    digest = hashlib.sha256(f"{{{text}}}".encode()).hexdigest()[:16]
    readable = [re.sub(r"[^a-z0-9_]+", "_", slug.lower())[:_SLUG_LENGTH] or "_" for slug in slugs]
    return "-".join([*readable, digest])


def check_key(key: str) -> str:
    """Return ``key`` if it is safe as a file name; raise ResultsError otherwise."""
    if not KEY.fullmatch(key):
        raise ResultsError(
            f"{key!r} is not a key: keys are made of a-z, 0-9, '_' and '-', at most 250; see the cells folder"
        )
    return key


def write_json_atomic(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON with sorted names, NaN and infinities as null."""
    text = json.dumps(_plain(value, path.name), sort_keys=True, indent=2, allow_nan=False)
    write_atomic(path, f"{text}\n".encode("ascii"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One finished cell: what one metric says about one model, task and seed.

    The fields are those of ``cells/<key>.json``, where ``pass_`` is called ``pass``. ``columns`` maps
    each full column name to its figures (r without unit, None = not scored or not run). ``scores`` are the
    task's own figures over discovery and heldout, with the tuned prompt; ``truncated`` counts inputs that were cut.
    """

    key: str
    status: str
    model: Mapping[str, Any]
    task: Mapping[str, Any]
    metric: Mapping[str, Any]
    seed: int
    prompt: str | None
    pass_: str | None
    config: Mapping[str, Any]
    n: Mapping[str, int]
    n_neurons: int
    accuracy: Mapping[str, float | None]
    columns: Mapping[str, Mapping[str, Any]]
    causal: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None
    scores: Sequence[Mapping[str, Any]] = field(default_factory=list)
    truncated: Mapping[str, int] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do: measured, and its causal part neither broken off nor failed."""
        causal = self.causal or {}
        return self.status == "ok" and "error" not in causal and not causal.get("pending")

    @property
    def tested_columns(self) -> list[str]:
        """Return the columns whose neurons were ablated, with an outcome."""
        columns = (self.causal or {}).get("columns") or {}
        return [name for name, part in columns.items() if any(dose.get("outcomes") for dose in part.get("doses") or ())]

    def __repr__(self) -> str:
        return f"<Result {self.key}: {self._about()}; {len(self.columns)} columns>"

    def _repr_html_(self) -> str:
        rows = [
            [name, one.get("status"), *(one.get(figure) for figure in _SHOWN)] for name, one in self.columns.items()
        ]
        notes = [f"failed: {(self.error or {}).get('message', '')}"] if self.status == "failed" else []
        notes += [f"{name}: {one['reason']}" for name, one in self.columns.items() if one.get("reason")]
        accuracy = ", ".join(
            f"{name} {number_text(value)}" for name, value in self.accuracy.items() if value is not None
        )
        caption = f"{self.key}: {self._about()}" + (f"; accuracy {accuracy}" if accuracy else "")
        return table_html(caption, ["column", "status", *_SHOWN], rows, notes)

    def _about(self) -> str:
        task = f"{self.task['name']} v{self.task['version']}"
        return f"{self.status}, {self.model['name']}, {task}, {self.metric['name']}, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """Return the cell as plain JSON types, NaN as None."""
        content = {one.name.rstrip("_"): getattr(self, one.name) for one in fields(self)}
        return {"schema_version": SCHEMA_VERSION, **_plain(content, "cell")}

    @classmethod
    def from_json(cls, data: object) -> Result:
        """Return the cell that ``to_json`` gave; raise ResultsError with the first thing that is wrong."""
        return cls._from_checked(check_form(data))

    @classmethod
    def from_known(cls, data: bytes) -> Result:
        """Return the cell of bytes whose form was checked before."""
        return cls._from_checked(_read_json(data))

    @classmethod
    def _from_checked(cls, content: Mapping[str, Any]) -> Result:
        return cls(**{field: content[name] for field, name in _names() if name in content})


@cache
def _names() -> tuple[tuple[str, str], ...]:
    """Return each field of a result with its name in the file."""
    return tuple((one.name, one.name.rstrip("_")) for one in fields(Result))


def is_finished(cell: Result | None) -> bool:
    """Return whether there is a cell, and nothing left to do for it."""
    return cell is not None and cell.finished


@dataclass(frozen=True, slots=True)
class DamagedCell:
    """A file in the cells folder that holds no cell, and why not."""

    path: Path
    reason: str


def _read_json(data: bytes) -> Any:
    """Return the content of JSON text; orjson is quick, what it refuses is read (or refused) by json."""
    import orjson

    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def load_cell(path: Path) -> Result | DamagedCell:
    """Read one cell file; whatever is wrong with it comes back as a DamagedCell."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return DamagedCell(path, f"it cannot be read ({error.strerror})")
    return parse_cell(path, data)


def parse_cell(path: Path, data: bytes) -> Result | DamagedCell:
    """Return the cell that the bytes of a file hold; whatever is wrong with them comes back as a DamagedCell."""
    try:
        result = Result.from_json(_read_json(data))
    except ResultsError as error:
        return DamagedCell(path, str(error))
    except (ValueError, RecursionError) as error:
        return DamagedCell(path, f"it is not valid JSON ({error})")
    if result.key != path.stem:
        return DamagedCell(path, f"it holds the cell {result.key!r}: files are named after their key")
    return result
