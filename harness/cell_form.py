"""What a cell file must hold to be read as a cell; more names than these are allowed everywhere.

A cell of another ``schema_version`` was written by another version of this package and is not
guessed at. Numbers are finite or null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from skillneurons.errors import ResultsError

SCHEMA_VERSION = 1
STATUSES = ("ok", "failed")
COLUMN_STATUSES = ("ok", "degenerate", "not_applicable")
FIGURES = (
    "n_discovery",
    "n_heldout",
    "mean",
    "sd",
    "top1_r",
    "top10_r",
    "top10_mean_r",
    "heldout_top10_r",
    "heldout_top10_r_low",
    "heldout_top10_r_high",
    "baseline_top10_r",
    "partial_r",
    "null95_r",
    "n_fwer",
    "n_fdr",
    "n_replicated",
    "untuned_top10_r",
)
_NONE = type(None)
_FORM: Mapping[str, tuple[type, ...]] = {
    "key": (str,),
    "status": (str,),
    "seed": (int,),
    "n_neurons": (int,),
    **dict.fromkeys(("model", "task", "metric", "config", "n", "accuracy", "columns"), (dict,)),
    **dict.fromkeys(("prompt", "pass"), (str, _NONE)),
    **dict.fromkeys(("causal", "error"), (dict, _NONE)),
}


def check_form(data: object) -> Mapping[str, Any]:
    """Return ``data`` if it is a cell; raise ResultsError with the first thing that is wrong."""
    if not isinstance(data, Mapping):
        raise ResultsError("it holds no mapping")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ResultsError(
            f"schema_version {version!r} is not {SCHEMA_VERSION}: it was written by another version of skillneurons"
        )
    for name, kinds in _FORM.items():
        _expect(data, name, *kinds)
    _one_of(data["status"], STATUSES, "status")
    _check_identity(data)
    _numbers(data["n"], data["n"], "n")
    _numbers(data["accuracy"], data["accuracy"], "accuracy")
    for name in data["columns"]:
        _check_column(_expect(data["columns"], name, dict, place="columns"), f"columns.{name}")
    for score in _expect({"scores": [], **data}, "scores", list):
        if not isinstance(score, Mapping):
            raise ResultsError(f"scores holds {score!r}, not a score")
        _expect(score, "name", str, place="scores")
        _expect(score, "part", str, place="scores")
        _numbers(score, ("value", "n"), f"scores.{score['name']}")
    truncated = _expect({"truncated": {}, **data}, "truncated", dict)
    _numbers(truncated, truncated, "truncated")
    if data["causal"]:
        _check_causal(data["causal"])
    if data["status"] == "failed":
        _expect(_expect(data, "error", dict), "message", str, place="error")
    return data


def _check_identity(data: Mapping[str, Any]) -> None:
    _expect(data["model"], "name", str, place="model")
    _expect(data["model"], "revision", str, _NONE, place="model")
    for section in ("task", "metric"):
        _expect(data[section], "name", str, place=section)
        _expect(data[section], "version", str, place=section)
    names = _expect(data["metric"], "columns", list, place="metric")
    if not all(isinstance(name, str) for name in names):
        raise ResultsError(f"metric.columns is {names!r}, not a list of names")
    attribution = _expect(data["config"], "attribution", dict, place="config")
    for name in ("position", "site", "statistic"):
        _expect(attribution, name, str, place="config.attribution")


def _check_column(column: Mapping[str, Any], place: str) -> None:
    _one_of(_expect(column, "status", str, place=place), COLUMN_STATUSES, f"{place}.status")
    _expect({"reason": None, **column}, "reason", str, _NONE, place=place)
    _numbers(column, FIGURES, place)
    for neuron in _expect({"top": [], **column}, "top", list, place=place):
        if not isinstance(neuron, Mapping):
            raise ResultsError(f"{place}.top holds {neuron!r}, not a neuron")
        if type(neuron.get("layer")) is int and type(neuron.get("neuron")) is int:
            continue  # twenty a column, in every cell of a board
        _expect(neuron, "layer", int, place=f"{place}.top")
        _expect(neuron, "neuron", int, place=f"{place}.top")


def _check_causal(causal: Mapping[str, Any]) -> None:
    columns = _expect({"columns": {}, **causal}, "columns", dict, place="causal")
    for name in columns:
        figures = _expect(columns, name, dict, place="causal.columns")
        names = ("ablation_drop", "random_drop", "random_drop_sd", "causal_z")
        _numbers(figures, names, f"causal.columns.{name}")


def _expect(data: Mapping[str, Any], name: str, *kinds: type, place: str = "") -> Any:
    """Return ``data[name]``; raise ResultsError where it is missing or of another type."""
    where = f"{place}.{name}" if place else name
    if name not in data:
        raise ResultsError(f"{where} is missing")
    if not isinstance(data[name], kinds):
        wanted = " or ".join("null" if kind is _NONE else kind.__name__ for kind in kinds)
        raise ResultsError(f"{where} is {data[name]!r}, not {wanted}")
    return data[name]


def _numbers(data: Mapping[str, Any], names: Iterable[str], place: str) -> None:
    for name in names:
        value = data.get(name)
        if value is None or type(value) is int or (type(value) is float and math.isfinite(value)):
            continue
        raise ResultsError(f"{place}.{name} is {value!r}, not a number")


def _one_of(value: str, known: tuple[str, ...], place: str) -> None:
    if value not in known:
        raise ResultsError(f"{place} is {value!r}, not one of {', '.join(known)}")
