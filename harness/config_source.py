"""YAML with the line of every key, so that a fault can be shown where it stands.

``read_yaml`` returns plain values and a map from dotted key path to line. Only plain YAML is read
(the safe loader): a tag never builds an object. A key that stands twice in one mapping is a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from skillneurons.errors import ConfigError


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the mapping of a YAML file and the line (from 1) of each dotted key path in it.

    Raise ConfigError for a missing file, broken YAML, a file that is no mapping, or doubled keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the config cannot be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}:1: a config is a mapping of settings, got {type(value).__name__}")
    lines: dict[str, int] = {}
    doubled: list[str] = []
    _walk(node, "", lines, doubled, str(path))
    if doubled:
        raise ConfigError("\n".join(doubled))
    return value, lines


def _walk(node: yaml.Node | None, prefix: str, lines: dict[str, int], doubled: list[str], path: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            line = key.start_mark.line + 1
            if name in lines:
                doubled.append(f"{path}:{line}: {name}: stands twice, first on line {lines[name]}; keep one")
            lines[name] = line
            _walk(value, f"{name}.", lines, doubled, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[f"{prefix}{index}"] = item.start_mark.line + 1
            _walk(item, f"{prefix}{index}.", lines, doubled, path)
