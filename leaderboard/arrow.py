"""Lists as Arrow columns, made from their buffers: ``pyarrow.array`` imports pandas, which takes longer than a small board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_column(values: Sequence[Any], kind: type) -> pa.Array:
    """Return a column of str, bytes, int (64 bits) or float; None is null."""
    import numpy as np
    import pyarrow as pa

    valid = np.fromiter((value is not None for value in values), dtype=bool, count=len(values))
    mask = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    if kind in (str, bytes):
        texts = [value.encode() if isinstance(value, str) else value or b"" for value in values]
        ends = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in texts], out=ends[1:])
        if ends[-1] > np.iinfo(np.int32).max:
            raise OverflowError(f"a column of {ends[-1]} bytes is more than one Arrow array holds")
        buffers = [mask, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(texts))]
        return pa.Array.from_buffers(pa.string() if kind is str else pa.binary(), len(values), buffers)
    numbers = np.array(
        [0 if value is None else value for value in values], dtype=np.int64 if kind is int else np.float64
    )
    type_ = pa.int64() if kind is int else pa.float64()
    return pa.Array.from_buffers(type_, len(values), [mask, pa.py_buffer(numbers)])
