"""What is wrong with one file of a runs folder, in a few words; ``""`` where nothing is.

Tensors and tables are judged by their headers, which say names, shapes, types and where the data ends, so that a file that was cut
is seen at once; ``deep`` reads every number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.complaint import shown
from skillneurons.run_files import Entry

if TYPE_CHECKING:
    import numpy.typing as npt

LARGEST_TEXT = 1 << 28  # bytes; no JSON file of a run is nearly that large
_LONG = 300  # characters of a reason that are told


@dataclass(frozen=True, eq=False)
class Tensors:
    """The header of a safetensors file, and its arrays where they were read; ``fault`` where it is none."""

    fault: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Table:
    """The header of a Parquet file, and its columns where they were read; ``fault`` where it is none."""

    fault: str = ""
    rows: int = 0
    columns: tuple[str, ...] = ()
    values: Mapping[str, list[Any]] = field(default_factory=dict)


def told(error: object) -> str:
    """Return an error's text as one line of moderate length."""
    return shown(" ".join(str(error).split()), _LONG)


def read_tensors(path: Path, deep: bool = False) -> Tensors:
    """Return what a safetensors file holds: names and shapes, or every number too."""
    from safetensors import safe_open

    try:
        if not path.stat().st_size:
            return Tensors("it is empty (0 bytes)")
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            arrays = {name: file.get_tensor(name) for name in names} if deep else {}
            return Tensors("", shapes, file.metadata() or {}, arrays)
    except Exception as error:  # whatever a damaged file makes a library raise is what is wrong with it
        return Tensors(f"it cannot be read ({told(error)})")


def read_table(path: Path, deep: bool = False) -> Table:
    """Return what a Parquet file holds: its columns and how many rows, or every value too."""
    from pyarrow import parquet

    try:
        if not path.stat().st_size:
            return Table("it is empty (0 bytes)")
        with parquet.ParquetFile(path) as file:
            columns = tuple(str(name) for name in file.schema_arrow.names)
            values = file.read(use_threads=False).to_pydict() if deep else {}
            return Table("", int(file.metadata.num_rows), columns, values)
    except Exception as error:  # whatever a damaged file makes a library raise is what is wrong with it
        return Table(f"it cannot be read ({told(error)})")


def read_mapping(path: Path) -> tuple[dict[str, Any], str]:
    """Return the mapping of a JSON file, or nothing and what is wrong."""
    content, fault = read_json(path)
    if fault or isinstance(content, dict):
        return content or {}, fault
    return {}, f"it holds a {type(content).__name__}, not a mapping"


def read_json(path: Path) -> tuple[Any, str]:
    """Return the content of a JSON file, or None and what is wrong."""
    try:
        size = path.stat().st_size
        if not size:
            return None, "it is empty (0 bytes)"
        if size > LARGEST_TEXT:
            return None, f"it has {size} bytes: no such file of a run is that large"
        return json.loads(path.read_bytes()), ""
    except OSError as error:
        return None, f"it cannot be read ({error.strerror or told(error)})"
    except (ValueError, RecursionError) as error:
        return None, f"it is not valid JSON ({told(error)})"


def lacking(entries: Mapping[str, Entry], needed: tuple[str, ...]) -> str:
    """Return which of the needed files a folder has not."""
    for name in needed:
        if name not in entries:
            return f"it has no {name}"
        if entries[name].kind != "file":
            return f"its {name} is no file"
    return ""
