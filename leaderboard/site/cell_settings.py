"""The config that runs one cell again: every setting written out, and what only its run record knows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from skillneurons.leaderboard.settings import parse_json, plain_json
from skillneurons.results import Result

_SECTIONS = ("model", "data", "prompt", "attribution", "causal")
_UNKNOWN: Mapping[str, Any] = MappingProxyType({})


def settings_yaml(cell: Result, record: Mapping[str, Any] = _UNKNOWN) -> str:
    """Return the config that runs this cell again, every setting written out; ``record`` knows its limit and plugins."""
    own = {
        "models": [cell.model["name"]],
        "tasks": {cell.task["name"]: cell.task.get("options") or {}},
        "metrics": [cell.metric["name"]],
        "seeds": [cell.seed],
        **{name: record[name] for name in ("limit", "plugins") if record.get(name)},
    }
    sections = {name: cell.config[name] for name in _SECTIONS if cell.config.get(name)}
    revision = cell.model["revision"]
    if revision is not None and not revision.startswith("sha256:"):  # a hub's: what was asked for may have moved since
        sections["model"] = {**sections.get("model", {}), "revision": revision}
    sections.setdefault("causal", {"enabled": False})  # a cell keeps the settings of causes only where they were tested
    parts = ({name: sections[name]} for name in _SECTIONS if name in sections)
    return "".join(_yaml(plain_json(part)) for part in (own, *parts))


@lru_cache(maxsize=256)  # most of it is the same in hundreds of cells
def _yaml(text: str) -> str:
    """Return a mapping that is given as JSON as YAML."""
    import yaml

    return yaml.safe_dump(parse_json(text), sort_keys=False, allow_unicode=True, width=100)


def may_be_limited(cell: Result, record: Mapping[str, Any]) -> bool:
    """Tell whether a cell has fewer examples than its settings say, and no run record tells whether a limit was given."""
    wanted = cell.config.get("data") or {}
    sizes = [(count, wanted.get(split)) for split, count in cell.n.items()]
    return "limit" not in record and any(isinstance(size, int) and (count or 0) < size for count, size in sizes)
