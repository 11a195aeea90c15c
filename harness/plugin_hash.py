"""The source hash of a plugin: its file and the files beside it that it imports, directly or not.

The hash is part of every key that the plugin's numbers depend on, so it is taken when the plugin is
loaded. Imports are read from the syntax tree, but only of a file that mentions a file beside it.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import lru_cache
from pathlib import Path

WORD = re.compile(r"\w+")


def source_hash(file: Path) -> str:
    """Return a hash over a module's source and the modules beside it that it imports, directly or not."""
    members = family(file.resolve())
    digest = hashlib.sha256()
    for path in sorted(members):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(members[path]).digest())
    return digest.hexdigest()[:16]


def family(file: Path) -> dict[Path, bytes]:
    """Return a module's file and those beside it that it imports, directly or not, each with its source."""
    seen: dict[Path, bytes] = {}
    waiting = [file]
    beside = {path.stem for path in file.parent.glob("*.py")}
    while waiting:
        path = waiting.pop()
        if path in seen or path.suffix != ".py":
            continue
        seen[path] = path.read_bytes()
        mentioned = beside.intersection(WORD.findall(seen[path].decode("utf-8", "replace")))
        if mentioned:
            files = [path.parent / f"{name}.py" for name in sorted(mentioned & imported_names(seen[path]))]
            waiting += [file for file in files if file.is_file()]
    return seen


@lru_cache(maxsize=512)
def imported_names(source: bytes) -> frozenset[str]:
    """Return every part of every name that a source imports; nothing where it is not Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # such a file counts by its bytes; importing it tells what is wrong
        return frozenset()
    names: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names.update(part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            names.update((node.module or "").split("."))
            names.update(alias.name for alias in node.names)
        elif not isinstance(node, ast.expr):  # an import is a statement, and no expression holds one
            waiting += ast.iter_child_nodes(node)
    return frozenset(names)
