"""Where each page stands in the folder, and how pages point at each other.

A name that comes from data becomes a file name only where it is plain (lower case letters, digits, ``_`` and ``-``,
at most 120 of them); any other gets a readable part and a hash, so that no two names share a page and none leaves the
folder.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from urllib.parse import quote

BOARD = "index.html"
ROOT = "site"
MODELS = f"{ROOT}/models.html"
ASSETS = f"{ROOT}/assets"
MANIFEST = f"{ROOT}/manifest.json"
_PLAIN = re.compile(r"[a-z0-9_-]{1,120}")


def cell_place(key: str) -> str:
    """Return the page of a cell."""
    return f"{ROOT}/cells/{safe_name(key)}.html"


def column_place(key: str, column: str | None) -> str:
    """Return the page of a cell, opened at a column where one is given."""
    part = quote(column or "", safe="", errors="surrogatepass")
    return f"{cell_place(key)}#{part}" if part else cell_place(key)


def card_place(key: str, neuron: str) -> str:
    """Return the page of a neuron's card."""
    return f"{ROOT}/cards/{safe_name(key)}/{safe_name(neuron.lower().replace('.', '-'))}.html"


def task_place(name: str) -> str:
    """Return the page of a task."""
    return f"{ROOT}/tasks/{safe_name(name)}.html"


def safe_name(text: str) -> str:
    """Return a file name for any text; different texts have different names."""
    if _PLAIN.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    readable = re.sub(r"[^a-z0-9_-]+", "_", text.lower())[:60].strip("_")
    return f"{readable or 'x'}.{digest}"


def link(page: str, target: str) -> str:
    """Return the relative address of a page (with a ``#part`` or not) as seen from another."""
    place, mark, part = target.partition("#")
    return posixpath.relpath(place, posixpath.dirname(page) or ".") + mark + part
