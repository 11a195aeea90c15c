"""The table as files: CSV and Parquet in full precision, and how a number is printed.

All files are bytes made from the rows alone: no dates, no paths, ``\\n`` line ends, UTF-8.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from skillneurons.leaderboard.rows import COLUMNS, Row

_DECIMALS = {"causal_z": 2, "stability_chance": 4}
_COUNTS = ("n_fwer", "n_fdr", "n_replicated")


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """Return the table as CSV; floats as ``repr`` gives them, an empty number as nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_exact(name, row[name]) for name in COLUMNS])
    return text.getvalue().encode()


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    """Return the table as Parquet with a fixed schema; an empty number is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    table = pa.table({name: [row[name] for row in rows] for name in COLUMNS}, schema=schema)
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
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return "<br>".join(escaped.splitlines())


def markdown_table(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table, unpadded so that one number changes one line."""
    rule = ["---" if COLUMNS.get(name) is str else "---:" for name in names]
    body = [[printed(name, row[name]) for name in names] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in ([*names], rule, *body)]
