"""Checks of plain JSON content: what must be there, of which type; the first thing that is wrong is an error that names its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from skillneurons.errors import ResultsError

NONE = type(None)
LARGEST = 1e100  # no figure is larger; its square is still a number
MOST = 2**53  # no count is larger: up to here a float holds every whole number


def expect(data: Mapping[str, Any], name: str, *kinds: type, place: str = "") -> Any:
    """Return ``data[name]``; raise ResultsError where it is missing or of another type."""
    where = f"{place}.{name}" if place else name
    if name not in data:
        raise ResultsError(f"{where} is missing")
    if not isinstance(data[name], kinds):
        wanted = " or ".join("null" if kind is NONE else kind.__name__ for kind in kinds)
        raise ResultsError(f"{where} is {data[name]!r}, not {wanted}")
    return data[name]


def numbers(data: Mapping[str, Any], names: Iterable[str], place: str) -> None:
    """Raise ResultsError where one of the names has a value that is neither a number of a sane size nor null."""
    for name in names:
        value = data.get(name)
        if value is None or (type(value) in (int, float) and -LARGEST <= value <= LARGEST):
            continue
        size = type(value) is int or (type(value) is float and not math.isnan(value))
        raise ResultsError(f"{place}.{name} is {value!r}, {f'beyond {LARGEST:g}' if size else 'not a number'}")


def counts(data: Mapping[str, Any], names: Iterable[str], place: str) -> None:
    """Raise ResultsError where one of the names has a value that is neither a count nor null."""
    for name in names:
        value = data.get(name)
        if value is not None and not (type(value) is int and 0 <= value <= MOST):
            where = f"{place}.{name}" if place else name
            raise ResultsError(f"{where} is {value!r}, not a count")


def one_of(value: str, known: tuple[str, ...], place: str) -> None:
    if value not in known:
        raise ResultsError(f"{place} is {value!r}, not one of {', '.join(known)}")


def each(data: Mapping[str, Any], name: str, place: str) -> Iterable[Mapping[str, Any]]:
    """Yield the mappings of a list, none where it is missing or null; raise ResultsError where it holds anything else."""
    for one in expect({name: None, **data}, name, list, NONE, place=place) or []:
        if not isinstance(one, Mapping):
            raise ResultsError(f"{place}.{name} holds {one!r}, not a mapping")
        yield one


def texts(data: Mapping[str, Any], names: Iterable[str], place: str) -> None:
    """Raise ResultsError where one of the names has a value that is neither text nor null."""
    for name in names:
        if data.get(name) is not None and not isinstance(data[name], str):
            raise ResultsError(f"{place}.{name} is {data[name]!r}, not text")


def number_list(data: Mapping[str, Any], name: str, place: str) -> list[Any]:
    """Return a list of numbers and nulls; raise ResultsError where it is missing or holds anything else."""
    found: list[Any] = expect(data, name, list, place=place)
    numbers(dict(enumerate(found)), range(len(found)), f"{place}.{name}")  # type: ignore[arg-type]
    return found
