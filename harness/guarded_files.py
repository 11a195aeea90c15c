"""Whether a stranger's folder may be read at all: nothing leads out of it, nothing is pickled, nothing unfolds to absurd sizes.

Every name is looked at before any file is opened, and of every file its declared sizes before its numbers. Where something of
this kind is found, nothing else is read.

Bounds: ``FILES`` names, 64 MiB of JSON, 8 GiB of tensors, 512 MiB of table in a file; of a table ``ROWS`` rows, flat columns of text or
numbers, and 1 GiB of text and numbers once it is unfolded (a dictionary can repeat a long text a million times).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from skillneurons.file_faults import read_tensors, told

FILES = 500_000
ROWS = 5_000_000
UNFOLDED = 1 << 30
LARGEST = {".json": 1 << 26, ".safetensors": 1 << 33, ".parquet": 1 << 29}
OTHER = 1 << 28
PICKLES = (".bin", ".ckpt", ".dill", ".h5", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pth")
DEEPEST = 4
_SKIPPED = ("set-aside", "plots", "site")  # which nothing here reads


def guarded(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (path, what is wrong) of everything for which a folder must not be read."""
    names = []
    for path, fault in _names(root):
        if fault:
            yield path, fault
        else:
            names.append(path)
    for path in names:
        if path.split("/")[0] in _SKIPPED:
            continue
        fault = ""
        if path.endswith(".parquet"):
            fault = table_fault(root / path)
        elif path.endswith(".safetensors"):
            found = read_tensors(root / path)
            fault = "" if not found.fault.startswith("it cannot be read") else found.fault
        if fault:
            yield path, fault


def _names(root: Path) -> Iterator[tuple[str, str]]:
    """Yield every file's path with what is wrong with it by its name, kind and size."""
    count = 0
    stack = [(root, "", 0)]
    while stack:
        folder, place, depth = stack.pop()
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda one: one.name)
        for entry in found:
            count += 1
            path = f"{place}{entry.name}"
            if count > FILES:
                yield path, f"the folder has more than {FILES} files: no run has that many"
                return
            mode = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(mode.st_mode):
                yield path, f"it is a symbolic link to {told(repr(str(Path(entry.path).readlink())))}"
            elif stat.S_ISDIR(mode.st_mode):
                if depth >= DEEPEST and place.split("/")[0] not in _SKIPPED:
                    yield path, f"it is a folder {depth + 1} deep: a run makes none"
                else:
                    stack.append((Path(entry.path), f"{path}/", depth + 1))
            elif not stat.S_ISREG(mode.st_mode):
                yield path, "it is neither a file nor a folder"
            else:
                yield path, file_fault(entry.name, mode.st_size)


def file_fault(name: str, size: int) -> str:
    """Return what is wrong with a file by its name and size, or nothing."""
    ending = Path(name).suffix.lower()
    if ending in PICKLES:
        return f"a file of kind {ending} can run code when it is loaded"
    most = LARGEST.get(ending, OTHER)
    return f"it has {size} bytes, more than {most}" if size > most else ""


def table_fault(path: Path) -> str:
    """Return why a Parquet file must not be read, or nothing: rows, columns, and how large it is once unfolded."""
    if not path.stat().st_size:
        return ""  # told with what is damaged
    try:
        texts, size, fault = _declared(path)
        return fault or (f"it unfolds to more than {UNFOLDED} bytes" if _unfolded(path, texts, size) > UNFOLDED else "")
    except Exception as error:  # whatever a damaged file makes a library raise is what is wrong with it
        return f"it cannot be read ({told(error)})"


def _declared(path: Path) -> tuple[list[str], int, str]:
    """Return a table's columns of text, the size of its numbers, and what is wrong with what it declares."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
    texts = [one.name for one in schema if pa.types.is_string(one.type) or pa.types.is_large_string(one.type)]
    size = 8 * rows * (len(schema) - len(texts))
    for one in schema:
        plain = pa.types.is_floating(one.type) or pa.types.is_integer(one.type) or pa.types.is_boolean(one.type)
        if one.name not in texts and not plain:
            fault = f"its column {told(repr(one.name))} is of type {told(one.type)}: a pass holds text and numbers"
            return texts, size, fault
    if not 0 <= rows <= ROWS:
        return texts, size, f"it declares {rows} rows, more than {ROWS}"
    return texts, size, f"it unfolds to {size} bytes, more than {UNFOLDED}" if size > UNFOLDED else ""


def _unfolded(path: Path, texts: list[str], size: int) -> int:
    """Return how large a table is once every text stands on its own, or the first sum that is too large."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(batch_size=1 << 14, columns=texts, use_threads=False):
            for column in batch.columns:
                folded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
                lengths = compute.binary_length(folded.dictionary)
                size += compute.sum(compute.take(lengths, folded.indices)).as_py() or 0
            if size > UNFOLDED:
                break
    return size
