"""Blocks of a page that are made from the code: found by their marks, filled again, compared.

A block stands between two marks, each on a line of its own; what is around it is written by hand:

    <!-- generated: hook register_tasks -->        in Markdown
    # generated: nav hooks                         in mkdocs.yml
    ...
    <!-- end of generated -->                      # end of generated

The words after the colon name the maker and its argument. A block is replaced whole, so it is the same again from
the same code; pages are committed, and a test fails where one is stale.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping

Maker = Callable[..., str]
BLOCK = re.compile(
    r"^(?P<first>(?P<indent> *)(?:<!--|#) generated: (?P<words>[^\n]*?)(?: -->)?)\n(?P<content>.*?)"
    r"(?P<last>^ *(?:<!--|#) end of generated(?: -->)?)$",
    re.MULTILINE | re.DOTALL,
)


def filled(text: str, makers: Mapping[str, Maker]) -> str:
    """Return a page with every block made anew; raise KeyError where a block names a maker that is not there."""

    def made(match: re.Match[str]) -> str:
        maker, *arguments = match["words"].split()
        content = makers[maker](*arguments).strip("\n")
        if match["first"].lstrip().startswith("#"):
            lines = "".join(f"{match['indent']}{line}\n" for line in content.splitlines())
            return f"{match['first']}\n{lines}{match['last']}"
        return f"{match['first']}\n\n{content}\n\n{match['last']}"

    return BLOCK.sub(made, text)


def words_of(text: str) -> list[str]:
    """Return what the blocks of a page say they are: ``hook register_tasks``."""
    return [match["words"] for match in BLOCK.finditer(text)]


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table; a line break inside a cell becomes a space."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in lines)


def _cell(text: str) -> str:
    """Return a cell whose bars are no borders: readers of Markdown disagree on an escaped bar inside code."""
    parts = " ".join(text.split()).split("`")
    for place in range(1, len(parts), 2):
        if "|" in parts[place]:
            parts[place] = f"<code>{html.escape(parts[place], quote=False).replace('|', '&#124;')}</code>"
        else:
            parts[place] = f"`{parts[place]}`"
    return "".join(part if place % 2 else part.replace("|", "\\|") for place, part in enumerate(parts))


def markdown(docstring: str) -> str:
    """Return a docstring as Markdown: one back quote for two, and no roles."""
    text = re.sub(r":[a-z]+:`([^`]+)`", r"`\1`", docstring)
    return re.sub(r"``([^`]+)``", r"`\1`", text)
