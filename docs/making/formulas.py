"""Formulas as MathML, made when the site is built: a page needs no script and no network to show them.

``pymdownx.arithmatex`` (generic) marks what stands between dollars; here each mark becomes a ``math`` element.
A formula that cannot be read stops the build and names the page.
"""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

MARKED = re.compile(r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL)


def with_mathml(content: str, page: str) -> str:
    """Return a page's HTML with every marked formula as MathML; raise ValueError that names page and formula."""

    def made(match: re.Match[str]) -> str:
        tex = html.unescape(match["tex"]).strip()
        try:
            math = convert(tex, display="block" if match["open"] == "[" else "inline")
        except Exception as error:
            told = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{page}: the formula {tex!r} cannot be read: {told}") from error
        unknown = re.search(r"\\[A-Za-z]+", math)
        if unknown:
            raise ValueError(f"{page}: the formula {tex!r} cannot be read: it knows no {unknown[0]}")
        return f'<div class="formula">{math}</div>' if match["open"] == "[" else math

    return MARKED.sub(made, content)


def on_page_content(content: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return with_mathml(content, page.file.src_uri)
