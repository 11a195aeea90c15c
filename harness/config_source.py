"""YAML with the line of every key, so that a fault can be shown where it stands.

``read_yaml`` returns plain values and a map from dotted key path to line. Only plain YAML is read
(the safe loader): a tag never builds an object. A key that stands twice in one mapping is a fault.
A number may be written ``1e-3``, as in YAML 1.2; YAML 1.1 took it for a text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from skillneurons.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """The safe loader, with YAML 1.2's floats."""


FLOAT = re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789"))


def read_value(text: str) -> Any:
    """Return one YAML value; raise yaml.YAMLError if it is none."""
    return _Loader(text).get_single_data()


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the mapping of a YAML file and the line (from 1) of each dotted key path in it.

    Raise ConfigError for a missing file, broken YAML, a file that is no mapping, or doubled keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the config cannot be read: {error}") from error
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines, doubled = _lines(node, str(path))
        if doubled:
            raise ConfigError("\n".join(doubled))
        value = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{place}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if value is None:
        return {}, {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}:1: a config is a mapping of settings, got {type(value).__name__}")
    return value, lines


def _lines(root: yaml.Node | None, path: str) -> tuple[dict[str, int], list[str]]:
    """Return the line of every key path, and a fault for every key that stands twice."""
    lines: dict[str, int] = {}
    doubled: list[str] = []

    def walk(node: yaml.Node | None, prefix: str, around: tuple[yaml.Node | None, ...]) -> None:
        if node is not None and node in around:
            raise yaml.MarkedYAMLError(problem="an alias stands inside its own anchor", problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = f"{prefix}{key.value}"
                line = key.start_mark.line + 1
                if name in lines:
                    doubled.append(f"{path}:{line}: {name}: stands twice, first on line {lines[name]}; keep one")
                lines[name] = line
                walk(value, f"{name}.", (*around, node))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                lines[f"{prefix}{index}"] = item.start_mark.line + 1
                walk(item, f"{prefix}{index}.", (*around, node))

    walk(root, "", ())
    return lines, doubled
