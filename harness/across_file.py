"""The file ``across/<key>.json``, read and checked: a damaged one is named, never half shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

SCHEMA_VERSION = 3

Number = FiniteFloat | None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Compared(_Part):
    effect: Number
    random: Number
    percentile: Number


class _Specific(_Part):
    set: str
    on: str
    k: int
    reason: str = ""
    accuracy: _Compared | None = None
    log_prob: _Compared | None = None
    moved: _Compared | None = None


class _Overlap(_Part):
    first: str
    second: str
    shared: int
    chance: FiniteFloat


class _Joint(_Part):
    first: str
    second: str
    effect_first: Number
    effect_second: Number
    effect_both: Number
    excess: Number
    kind: str


class _Within(_Part):
    overlaps: list[_Overlap]
    joints: list[_Joint]


class _Between(_Part):
    overlaps: list[_Overlap]
    joints: dict[str, list[_Joint]]


class _Interactions(_Part):
    within: dict[str, _Within]
    between: _Between


class _OnDemand(_Part):
    reason: str = ""
    recognised: dict[str, Number] = {}
    policies: dict[str, dict[str, Number]] = {}
    alpha: FiniteFloat = 0.0


class _Across(_Part):
    key: str
    model: str
    revision: str
    seed: int
    cells: list[str]
    tasks: list[str]
    columns: dict[str, str]
    outcomes: dict[str, str]
    settings: dict[str, Any]
    specificity: list[_Specific]
    interactions: _Interactions
    on_demand: _OnDemand


def read_across(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return what a file says about several tasks, or None and why it cannot be read."""
    try:
        return parse_across(path.read_bytes())
    except OSError as error:
        return None, f"it is not valid JSON ({error})"


def parse_across(text: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return what the bytes of a file say about several tasks, or None and what is wrong with them."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        return None, f"it is not valid JSON ({error})"
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        return None, "it was written by another version of skillneurons; run again to measure it anew"
    try:
        _Across.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return None, f"{place}: {first['msg']}; delete the file and run again"
    return data, ""
