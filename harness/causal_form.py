"""What the causal part of a cell must hold where it is there: doses, single neurons, a steering curve, by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skillneurons.errors import ResultsError
from skillneurons.form import LARGEST, NONE, counts, each, expect, number_list, numbers, one_of, texts

_DROPS = ("ablation_drop", "random_drop", "random_drop_sd", "causal_z")
_COMPARED = ("effect", "random", "random_sd", "z", "percentile", "p")
_OUTCOMES = ("accuracy", "log_prob", "moved")
_CURVES = ("metric", "log_prob", "accuracy", "neutral_loss")
_FOLLOWED = ("metric", "log_prob")
_TRENDS = ("p_rising", "p_falling")


def check_causal(causal: Mapping[str, Any]) -> None:
    """Raise ResultsError with the first thing that is wrong."""
    texts(causal, ("mode", "positions", "error"), "causal")
    numbers(causal, ("accuracy",), "causal")
    if causal.get("mode") is not None:
        expect(causal, "positions", str, place="causal")
    columns = expect({"columns": {}, **causal}, "columns", dict, place="causal")
    for name in columns:
        place = f"causal.columns.{name}"
        figures = expect(columns, name, dict, place="causal.columns")
        numbers(figures, _DROPS, place)
        texts(figures, ("reason", "verdict"), place)
        for dose in each(figures, "doses", place):
            expect(dose, "k", int, place=f"{place}.doses")
            expect(dose, "reason", str, place=f"{place}.doses")
            counts(dose, ("k",), f"{place}.doses")
            if expect(dose, "outcomes", dict, NONE, place=f"{place}.doses") is not None:
                _check_effect(dose, f"{place}.doses", _OUTCOMES)
        for neuron in each(figures, "neurons", place):
            for part in ("layer", "neuron"):
                expect(neuron, part, int, place=f"{place}.neurons")
            counts(neuron, ("layer", "neuron"), f"{place}.neurons")
            _check_effect(neuron, f"{place}.neurons")
        curve = expect({"steering": None, **figures}, "steering", dict, NONE, place=place)
        if curve:
            _check_curve(curve, f"{place}.steering")


def _check_effect(one: Mapping[str, Any], place: str, names: tuple[str, ...] = ()) -> None:
    """Check the outcomes of one set of neurons, the one that the verdict is about, and the verdict."""
    outcomes = expect(one, "outcomes", dict, place=place)
    judged = expect(one, "outcome", str, place=place)
    expect(one, "verdict", str, place=place)
    numbers(one, ("low", "high"), place)
    for name in outcomes if judged in outcomes else (*outcomes, judged):
        if _is_compared(outcomes.get(name)):
            continue  # dozens of them in every cell of a board
        compared = expect(outcomes, name, dict, place=f"{place}.outcomes")
        for part in _COMPARED:
            expect(compared, part, int, float, NONE, place=f"{place}.outcomes.{name}")
        numbers(compared, _COMPARED, f"{place}.outcomes.{name}")
    for name in names:
        expect(outcomes, name, dict, place=f"{place}.outcomes")


def _is_compared(one: Any) -> bool:
    """Whether this is an effect beside random sets, by a quick look that may say no too often."""
    if type(one) is not dict:
        return False
    for name in _COMPARED:
        value = one.get(name, "")
        if value is not None and (type(value) is not float or not -LARGEST <= value <= LARGEST):
            return False
    return True


def _check_curve(curve: Mapping[str, Any], place: str) -> None:
    """Check a steering curve, or the reason why there is none."""
    texts(curve, ("reason", "followed", "trend"), place)
    refused = expect({"refused": None, **curve}, "refused", dict, NONE, place=place)
    for factor in refused or {}:
        expect(refused, factor, str, place=f"{place}.refused")
    if "reason" in curve:
        return
    alphas = number_list(curve, "alphas", place)
    for name in ("followed", "trend"):
        expect(curve, name, str, place=place)
    one_of(curve["followed"], _FOLLOWED, f"{place}.followed")
    if None in alphas:
        raise ResultsError(f"{place}.alphas is {alphas!r}, not a list of numbers")
    for name in _CURVES:
        if len(number_list(curve, name, place)) != len(alphas):
            raise ResultsError(f"{place}.{name} has not as many values as alphas")
    numbers(curve, _TRENDS, place)
