"""Markdown of the board as HTML: tables, bold and code; raw HTML stays text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink"])


def as_html(lines: Sequence[str]) -> Markup:
    """Return Markdown lines as HTML; wide tables scroll in a box of their own. Links and raw HTML stay text."""
    html = _markdown().render("\n".join(lines))
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    return Markup(html)  # noqa: S704 - what markdown-it made of text, with raw HTML off
