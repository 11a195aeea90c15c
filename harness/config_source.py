"""YAML with the line of every key, so that a fault can be shown where it stands.

``read_yaml`` returns plain values, a map from dotted key path to line, and a fault for every key that stands twice in one
mapping. Only plain YAML is read (the safe loader): a tag never builds an object. Floats are read as in YAML 1.2: ``1e-3`` is
one (a text in YAML 1.1), ``1:30`` is a text (90 in YAML 1.1), and ``010``, which is 8 in one and 10 in the other, is a fault.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from skillneurons.errors import ConfigError
from skillneurons.yaml_text import shown

FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
LEADING = re.compile(r"[-+]?0[0-9_]+")
INT = re.compile(rf"^(?:[-+]?0b[01_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|{LEADING.pattern})$")
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
MOST_ENTRIES = 10_000  # a config has a hundred; aliases of aliases make billions

WORDS = {  # what PyYAML says, and what a person can do about it
    "found another document": "a second document begins here; a config is one",
    "could not determine a constructor": "{problem}; tags are not read, take it out",
    "'\\t'": "{problem}; indent with spaces, not tabs",
    "that cannot start any token": "{problem}; quote text that begins so",
    "second occurrence": "{context}; name one of the two otherwise",
    "undefined alias": "{problem}; an anchor (&) of that name must stand before it",
    "<block end>": "the indentation fits nothing above",
    "could not find expected ':'": "a key without its ':'",
    "mapping values are not allowed": "a ':' where none can stand; quote text that holds one, or mend the indentation",
    "unexpected end of stream": "a quote is opened and never closed",
    "unhashable key": "a list or a mapping cannot be a key",
    "unknown escape character": "{problem}; write \\\\, or use single quotes",
}


class _Loader(yaml.SafeLoader):
    """The safe loader, with YAML 1.2's floats, no numbers of base 60 and no leading zeros; a scalar that is not what it looks like is an error with a place."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag == NUMBERS[0] and isinstance(node, yaml.ScalarNode) and LEADING.fullmatch(node.value):
            raise _Broken(
                f"{node.value} is octal to some readers of YAML and decimal to others; take the 0 in front away, or quote it if it "
                "is text",
                node.start_mark,
            )
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # PyYAML's own, of !!int x or 2024-13-45
            short = isinstance(node, yaml.ScalarNode) and len(node.value) <= 40
            text, kind = repr(node.value) if short else "what stands here", str(node.tag).rpartition(":")[2]
            raise _Broken(f"{text} is no {kind}; quote it if it is text", node.start_mark) from error


class _Broken(yaml.MarkedYAMLError):
    def __init__(self, problem: str, mark: yaml.Mark | None) -> None:
        super().__init__(problem=problem, problem_mark=mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(NUMBERS[0], INT, list("-+0123456789"))
_Loader.add_implicit_resolver(NUMBERS[1], FLOAT, list("-+.0123456789"))


def read_value(text: str) -> Any:
    """Return one YAML value; raise yaml.YAMLError if it is none, or if a key stands twice in it."""
    value, _, doubled = _document(text)
    for name, _, _ in doubled:
        raise _Broken(f"{name} stands twice; keep one", None)
    return value


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int], list[str]]:
    """Return the mapping of a YAML file, the line (from 1) of each dotted key path in it, and a fault per doubled key.

    Raise ConfigError for a file that cannot be read, broken YAML, or a file that is no mapping.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the config cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}:{line}: not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        ) from error
    try:
        value, lines, doubled = _document(text)
    except yaml.YAMLError as error:
        line_of, problem = what_is_wrong(error, text)
        place = f"{path}:{line_of}" if line_of else str(path)
        raise ConfigError(f"{place}: not valid YAML: {problem}") from error
    if value is None:
        return {}, {}, []
    if not isinstance(value, dict):
        raise ConfigError(f"{path}:1: a config is a mapping of settings (tasks: [hans]), got {shown(value)}")
    faults = [f"{path}:{line}: {name}: stands twice, first on line {first}; keep one" for name, line, first in doubled]
    return value, lines, faults


def what_is_wrong(error: yaml.YAMLError, text: str) -> tuple[int | None, str]:
    """Return the line (from 1) and one line of words for what is wrong with a YAML text."""
    if isinstance(error, yaml.reader.ReaderError):
        code = error.character if isinstance(error.character, int) else ord(error.character)
        line = text.count("\n", 0, error.position) + 1
        return line, f"the character U+{code:04X} may not stand in it; take it out"
    if not isinstance(error, yaml.MarkedYAMLError):
        return None, str(error)
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    problem = " ".join(str(error.problem or error.context).split())
    if "unexpected end of stream" in problem or "could not find expected ':'" in problem:
        mark = begun  # what is missing is missed far below where it was forgotten
    for sign, words in WORDS.items():
        if sign in problem:
            problem = words.format(problem=problem, context=str(error.context).partition(";")[0])
            break
    if begun is not None and mark is not None and begun.line != mark.line and "flow" in str(error.context):
        problem += f"; what is open began on line {begun.line + 1}"
    return (mark.line + 1 if mark else None), problem.replace("'<stream end>'", "the end of the file")


def _document(text: str) -> tuple[Any, dict[str, int], list[tuple[str, int, int]]]:
    """Return the value, the line of each dotted key path, and (path, line, first line) of each key that stands twice."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines, doubled = _lines(loader, node)
        return (None if node is None else loader.construct_document(node)), lines, doubled
    except RecursionError:
        raise _Broken("nested too deeply", None) from None
    finally:
        loader.dispose()


def _lines(loader: _Loader, root: yaml.Node | None) -> tuple[dict[str, int], list[tuple[str, int, int]]]:
    lines: dict[str, int] = {}
    doubled: list[tuple[str, int, int]] = []

    def walk(node: yaml.Node | None, prefix: str, around: tuple[yaml.Node | None, ...]) -> None:
        if node is not None and node in around:
            raise _Broken("an alias stands inside its own anchor", node.start_mark)
        if len(lines) > MOST_ENTRIES:
            raise _Broken(f"more than {MOST_ENTRIES} entries, aliases written out", node.start_mark if node else None)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = f"{prefix}{_name(loader, key)}"
                line = key.start_mark.line + 1
                if name in lines:
                    doubled.append((name, line, lines[name]))
                lines[name] = line
                walk(value, f"{name}.", (*around, node))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                lines[f"{prefix}{index}"] = item.start_mark.line + 1
                walk(item, f"{prefix}{index}.", (*around, node))

    walk(root, "", ())
    return lines, doubled


def _name(loader: _Loader, key: yaml.Node) -> str:
    """Return a key as its value prints: ``on`` is True in YAML 1.1, and that is what a fault is about."""
    if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
        return str(loader.construct_object(key, deep=True))
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
