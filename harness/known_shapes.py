"""The sizes of models whose files are not here, so that a run can be planned before anything is downloaded.

Qwen1.5 in all its sizes, base and Chat; from their published ``config.json`` (``known_shapes.json``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from skillneurons.errors import ModelError
from skillneurons.model_source import resolve_model

NOT_RESOLVED = "not resolved"


@cache
def _known() -> Mapping[str, Mapping[str, Any]]:
    found = json.loads((Path(__file__).parent / "known_shapes.json").read_text("utf-8"))
    models: dict[str, Mapping[str, Any]] = found["models"]
    return models


def known_names() -> list[str]:
    """Return the base models whose sizes are known, smallest first."""
    return list(_known())


def known_config(name: str) -> Mapping[str, Any] | None:
    """Return the sizes of a hub id as its ``config.json`` has them, None where they are not known."""
    return _known().get(name.removesuffix("-Chat"))


def planned_revision(name: str, revision: str | None = None) -> tuple[str, str]:
    """Return what ``resolve_model`` does; of a model of known sizes that neither hub nor cache gives, the revision asked for."""
    try:
        return resolve_model(name, revision)
    except ModelError:
        if known_config(name) is None or Path(name).exists():
            raise
        return name, revision or NOT_RESOLVED
