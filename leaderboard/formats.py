"""The table as files: CSV and Parquet in full precision, and how a number is printed.

All files are bytes made from the rows alone: no dates, no paths, ``\\n`` line ends, UTF-8.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from skillneurons.leaderboard.arrow import arrow_column
from skillneurons.leaderboard.rows import COLUMNS, Row

_DECIMALS = {"causal_z": 2, "stability_chance": 4}
_SPECIAL = re.compile("[\\\\|<\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # what one_line escapes, and every line end
_COUNTS = ("n_fwer", "n_fdr", "n_replicated")


def csv_bytes(lines: Sequence[str]) -> bytes:
    """Return the table as CSV from the lines of its rows."""
    return "".join([_csv_line(COLUMNS), *lines]).encode()


def csv_line(row: Row) -> str:
    """Return a row as a line of CSV; floats as ``repr`` gives them, an empty number as nothing."""
    return _csv_line([_exact(name, row[name]) for name in COLUMNS])


def _csv_line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    """Return the table as Parquet with a fixed schema; an empty number is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [arrow_column([row[name] for row in rows], kind) for name, kind in COLUMNS.items()]
    table = pa.Table.from_arrays(columns, names=list(COLUMNS))
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none")
    return sink.getvalue()


def _exact(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _COUNTS and float(value).is_integer():
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)


def printed(name: str, value: Any) -> str:
    """Return a value as people read it: three decimals for figures, whole counts, text on one line."""
    if value is None:
        return ""
    if isinstance(value, str):
        return one_line(value)
    if COLUMNS.get(name) is int or (name in _COUNTS and float(value).is_integer()):
        return str(int(value))
    decimals = 1 if name in _COUNTS else _DECIMALS.get(name, 3)
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def one_line(text: str) -> str:
    """Escape what would break a Markdown table: backslashes, pipes, tags and line ends."""
    if not _SPECIAL.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return "<br>".join(escaped.splitlines())


def markdown_parts(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return a row of the page without its reason: what stands before it, and after."""
    names = list(COLUMNS)
    at = names.index("reason")
    before, after = ([printed(name, row[name]) for name in part] for part in (names[:at], names[at + 1 :]))
    return f"| {' | '.join(before)} | ", f" | {' | '.join(after)} |"


def markdown_heads(names: Sequence[str]) -> list[str]:
    """Return the first two lines of a Markdown table."""
    rule = ["---" if COLUMNS.get(name) is str else "---:" for name in names]
    return [f"| {' | '.join(cells)} |" for cells in (names, rule)]
