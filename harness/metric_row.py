"""One metric's values of one example, in the order of its columns, or an error that names both (no torch)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from skillneurons.errors import CellError
from skillneurons.form import LARGEST
from skillneurons.plugin_calls import PluginCall, call_plugin
from skillneurons.types import Example, Metric, Output


def metric_row(metric: Metric, columns: Sequence[str], example: Example, output: Output) -> list[float]:
    """Return one metric's values of one example in the order of ``columns`` (full names).

    Raise CellError naming the metric and the example when it raises, or returns another shape.
    """
    missing = [name for name in metric.needs if getattr(output, name, None) is None]
    if missing:
        return [math.nan] * len(columns)
    where = f"metric {metric.name!r}, example {example.id!r}"
    call = PluginCall("metric", metric.name, "per_example", f"example {example.id!r}")
    result = call_plugin(call, metric.per_example, example, output)
    if isinstance(result, Mapping):
        named = {f"{metric.name}.{name}": value for name, value in result.items()}
        if metric.columns is None:
            raise CellError(f"{where}: returned a mapping, but the metric declares no columns (Metric.columns)")
        if callable(metric.columns):  # columns that depend on the task: what an example lacks is not scored
            return [_number(where, column, named.get(column, math.nan)) for column in columns]
        if set(named) != set(columns):
            extra, absent = sorted(set(named) - set(columns)), sorted(set(columns) - set(named))
            raise CellError(f"{where}: returned other columns than declared (unexpected {extra}, missing {absent})")
        values = [named[column] for column in columns]
    elif len(columns) == 1:
        values = [result]
    else:
        raise CellError(f"{where}: returned {type(result).__name__}, but {len(columns)} columns are declared")
    return [_number(where, column, value) for column, value in zip(columns, values, strict=True)]


def _number(where: str, column: str, value: Any) -> float:
    scalar = value.item() if getattr(value, "shape", None) == () else value  # numpy and torch scalars
    if not isinstance(scalar, int | float) or math.isinf(scalar):
        raise CellError(f"{where}: {column} must be one finite number or NaN, got {value!r}")
    if abs(scalar) > LARGEST:
        raise CellError(f"{where}: {column} is {value!r}, beyond {LARGEST:g}; scale it, e.g. by its logarithm")
    return float(scalar)
