"""One page: a template filled with values, every text escaped, data for the scripts as JSON that ends no script."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from skillneurons.leaderboard.formats import printed
from skillneurons.leaderboard.settings import plain_bytes
from skillneurons.leaderboard.site import places

_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render_page(template: str, place: str, title: str, /, **values: Any) -> bytes:
    """Return the bytes of the page at ``place``."""

    def to(target: str) -> str:
        return places.link(place, target)

    text = _templates().get_template(template).render(page=place, title=title, to=to, places=places, **values)
    return f"{text}\n".encode("utf-8", "backslashreplace")


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"json": script_json, "number": number}
    return made


def script_json(value: object) -> Markup:
    """Return a value as JSON for ``<script type="application/json">``: no text of it can end the script."""
    text = plain_bytes(value).decode()
    for character, escape in _ESCAPES.items():
        text = text.replace(character, escape)
    return Markup(text)  # noqa: S704 - escaped above


def number(value: Any, name: str = "") -> str:
    """Return a value as the board prints it, without Markdown escapes; nothing for None."""
    if value is None:
        return ""
    return value if isinstance(value, str) else printed(name, value)
