"""What a cell file must hold to be read as a cell; more names than these are allowed everywhere.

A cell of another ``schema_version`` was written by another version of this package and is not
guessed at. Numbers are finite or null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skillneurons.causal_form import check_causal
from skillneurons.errors import ResultsError
from skillneurons.form import LARGEST, MOST, NONE, counts, each, expect, numbers, one_of, texts

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
_TEXTS = ("null_scheme", "null_reason", "interval_reason", "partial_reason", "resamples", "resampled_groups")
_NEURON = ("r", "r_heldout", "ci_low", "ci_high", "p_adjusted", "partial_r")
_WEIGHED = (
    *("r_rival", "r_wanted", "difference_low", "difference_high", "partial_r", "p_partial"),
    *("level", "level_low", "level_high"),
)
_FORM: Mapping[str, tuple[type, ...]] = {
    "key": (str,),
    "status": (str,),
    "seed": (int,),
    "n_neurons": (int,),
    **dict.fromkeys(("model", "task", "metric", "config", "n", "accuracy", "columns"), (dict,)),
    **dict.fromkeys(("prompt", "pass"), (str, NONE)),
    **dict.fromkeys(("causal", "error"), (dict, NONE)),
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
        expect(data, name, *kinds)
    one_of(data["status"], STATUSES, "status")
    _check_identity(data)
    counts(data, ("n_neurons",), "")
    if not -MOST <= data["seed"] <= MOST:
        raise ResultsError(f"seed is {data['seed']}, beyond {MOST}")
    counts(data["n"], data["n"], "n")
    _check_context(data)
    numbers(data["accuracy"], data["accuracy"], "accuracy")
    for name in data["columns"]:
        _check_column(expect(data["columns"], name, dict, place="columns"), f"columns.{name}")
    for score in expect({"scores": [], **data}, "scores", list):
        if not isinstance(score, Mapping):
            raise ResultsError(f"scores holds {score!r}, not a score")
        expect(score, "name", str, place="scores")
        expect(score, "part", str, place="scores")
        expect(score, "n", int, place=f"scores.{score['name']}")
        expect(score, "value", int, float, NONE, place=f"scores.{score['name']}")
        counts(score, ("n",), f"scores.{score['name']}")
        numbers(score, ("value",), f"scores.{score['name']}")
    truncated = expect({"truncated": {}, **data}, "truncated", dict)
    counts(truncated, truncated, "truncated")
    if data["causal"]:
        check_causal(data["causal"])
    if data["status"] == "failed":
        expect(expect(data, "error", dict), "message", str, place="error")
    return data


def _check_identity(data: Mapping[str, Any]) -> None:
    expect(data["model"], "name", str, place="model")
    expect(data["model"], "revision", str, NONE, place="model")
    for section in ("task", "metric"):
        expect(data[section], "name", str, place=section)
        expect(data[section], "version", str, place=section)
    names = expect(data["metric"], "columns", list, place="metric")
    if not all(isinstance(name, str) for name in names):
        raise ResultsError(f"metric.columns is {names!r}, not a list of names")
    attribution = expect(data["config"], "attribution", dict, place="config")
    for name in ("position", "site", "statistic"):
        expect(attribution, name, str, place="config.attribution")


def _check_context(data: Mapping[str, Any]) -> None:
    """Check what stands around the figures: what the task is, how it was tuned and graded, settings by section."""
    task, model = data["task"], data["model"]
    numbers(task, ("chance",), "task")
    texts(task, ("kind", "form", "source", "licence", "tuned_on", "source_hash", "data_hash"), "task")
    texts(model, ("dtype", "quantization", "architecture"), "model")
    texts(data["metric"], ("source_hash",), "metric")
    expect({"options": None, **task}, "options", dict, NONE, place="task")
    grader = expect({"grader": None, **task}, "grader", dict, NONE, place="task")
    if grader:
        expect(grader, "name", str, place="task.grader")
    parity = expect({"parity": None, **model}, "parity", dict, NONE, place="model")
    if parity:
        numbers(parity, parity, "model.parity")
    for section in ("model", "data", "prompt", "attribution", "causal"):
        expect({section: None, **data["config"]}, section, dict, NONE, place="config")
    top_k = expect({"top_k": 1, **data["config"]["attribution"]}, "top_k", int, place="config.attribution")
    if not 0 < top_k <= MOST:
        raise ResultsError(f"config.attribution.top_k is {top_k}, not a number of neurons")


def _check_column(column: Mapping[str, Any], place: str) -> None:
    one_of(expect(column, "status", str, place=place), COLUMN_STATUSES, f"{place}.status")
    expect({"reason": None, **column}, "reason", str, NONE, place=place)
    numbers(column, FIGURES, place)
    counts(column, (name for name in column if name.startswith("n_")), place)
    texts(column, _TEXTS, place)
    for neuron in expect({"top": [], **column}, "top", list, place=place):
        if not isinstance(neuron, Mapping):
            raise ResultsError(f"{place}.top holds {neuron!r}, not a neuron")
        if _is_neuron(neuron):
            continue  # twenty a column, in every cell of a board
        expect(neuron, "layer", int, place=f"{place}.top")
        expect(neuron, "neuron", int, place=f"{place}.top")
        counts(neuron, ("layer", "neuron", "position"), f"{place}.top")
        numbers(neuron, _NEURON, f"{place}.top")
    for level in each(column, "above", place):
        for name in ("threshold", "n", "share"):
            expect(level, name, int, float, place=f"{place}.above")
        numbers(level, ("threshold", "n", "share", "null", "heldout"), f"{place}.above")
    _check_shortcut(expect({"shortcut": None, **column}, "shortcut", dict, NONE, place=place), f"{place}.shortcut")


def _is_neuron(one: Mapping[str, Any]) -> bool:
    """Whether this is a neuron with its figures, by a quick look that may say no too often."""
    for name in ("layer", "neuron", "position"):
        value = one.get(name, 0)
        if type(value) is not int or not 0 <= value <= MOST:
            return False
    for name in _NEURON:
        value = one.get(name, 0.0)
        if type(value) is not float or not -LARGEST <= value <= LARGEST:
            return False
    return "layer" in one and "neuron" in one


def _check_shortcut(report: Mapping[str, Any] | None, place: str) -> None:
    if report:
        expect(report, "wanted", str, place=place)
        expect(report, "reason", str, place=place)
        verdicts = expect(report, "verdicts", dict, place=place)
        for name in verdicts:
            expect(verdicts, name, int, place=f"{place}.verdicts")
        counts(verdicts, verdicts, f"{place}.verdicts")
        expect(report, "neurons", list, place=place)
        for row in each(report, "neurons", place):
            for part in ("layer", "neuron"):
                expect(row, part, int, place=f"{place}.neurons")
            counts(row, ("layer", "neuron"), f"{place}.neurons")
            expect(row, "verdict", str, place=f"{place}.neurons")
            for part in _WEIGHED:
                expect(row, part, int, float, NONE, place=f"{place}.neurons")
            numbers(row, _WEIGHED, f"{place}.neurons")
