"""A value in one line as YAML would write it, for a message about it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from typing import Any

LITERALS = {None: "null", True: "true", False: "false"}


def shown(value: Any, room: int = 100) -> str:
    """Return a value as YAML would write it, in one line, cut where it is long."""
    text = _written(value)
    return text if len(text) <= room else f"{text[:room]}... ({len(text):,} characters)"


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return LITERALS[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)}: {_written(one)}' for key, one in value.items())}}}"
    if isinstance(value, datetime.date):
        return value.isoformat()
    return _number(value) if isinstance(value, (int, float)) else repr(value)


def _number(value: float) -> str:
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**100 else "a number of more than 100 digits"
    if math.isfinite(value):
        return repr(value)
    return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"


def _key(key: Any) -> str:
    return key if isinstance(key, str) and key.isprintable() else _written(key)
