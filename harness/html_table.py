"""A small table as HTML, as notebooks show it: a caption, headers, rows; every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape


def table_html(
    caption: str, headers: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()
) -> str:
    """Return a table; numbers stand right with three decimals, None and NaN are empty, ``notes`` stand below."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<div class="skillneurons"><table><caption style="text-align:left">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"
    )


def _cell(value: object) -> str:
    if isinstance(value, str):
        return f'<td style="text-align:left">{escape(value)}</td>'
    return f'<td style="text-align:right">{escape(number_text(value))}</td>'


def number_text(value: object) -> str:
    """Return a whole number as it is, any other with three decimals, and nothing for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
