"""Consistency without the model, of the causal part: its numbers follow from each other.

Of an effect e beside n random sets of mean m and standard deviation s: z = (e - m) / s; p = (k + 1) / (n + 1); the percentile fits p. The
table's figures are those of the dose K = 10. The single random sets are not kept, so of a verdict it is known what it needs: *cause* a
p of at most 0.05 and an interval above 0 and above m, *hinders* the same below (not of ``moved``), and whatever meets that is called so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skillneurons.ablation import ALPHA, ENOUGH
from skillneurons.causal import FIGURES, TABLE_K
from skillneurons.figure_check import differs
from skillneurons.file_faults import told
from skillneurons.finding import CONSISTENCY, Ledger
from skillneurons.kept_pass import KeptPass
from skillneurons.results import Result

_CLOSE = 1e-9
_OF_TABLE = dict(zip(FIGURES, ("effect", "random", "random_sd", "z"), strict=True))
MEANING = "the causal figures do not follow from each other"


def check_causal_part(kept: KeptPass, ledger: Ledger) -> None:
    """Check the doses, single neurons, figures and verdicts of every column."""
    causal = kept.cell.causal or {}
    for what in _left_out(kept.cell.config.get("causal") or {}, kept.cell):
        ledger.say(CONSISTENCY, kept.path, what, "something that was measured was left out", [kept.cell.key])
    untested = _untested(kept.cell.config.get("causal") or {}, kept.cell)
    if untested:
        ledger.cannot(
            kept.path, f"causal.columns.{told(untested)} has no doses, and whether there were any cannot be told"
        )
    for name, column in (causal.get("columns") or {}).items():
        for what in _faults(column):
            ledger.say(CONSISTENCY, kept.path, f"causal.columns.{told(name)}.{what}", MEANING, [kept.cell.key])
        for what in _strongest(kept, name, column):
            ledger.say(CONSISTENCY, kept.path, f"causal.columns.{told(name)}.{what}", MEANING, [kept.cell.key])


def _left_out(settings: Mapping[str, Any], cell: Result) -> Iterator[str]:
    """Yield what the settings ask for and the cell has not: a causal part, its columns, doses of every K, all their random sets."""
    if not settings:
        return
    columns = (cell.causal or {}).get("columns") or {}
    if set(columns) != set(cell.columns):
        yield f"causal.columns has {_listed(columns)}, its settings ask for {_listed(cell.columns)}"
    wanted = sorted(set(settings.get("k") or []))
    for name, column in columns.items():
        place = f"causal.columns.{told(name)}"
        doses = sorted(dose["k"] for dose in column.get("doses") or [])
        if doses != wanted and (doses or not column.get("reason")):
            yield f"{place}.doses are of K = {doses}, its settings ask for {wanted}"
        fewer = [dose for dose in column.get("doses") or [] if dose.get("outcomes") and not dose.get("random_sets")]
        if fewer:
            yield f"{place}.doses[K={fewer[0]['k']}] has no random sets"
        if not doses:
            continue
        singles, cards = len(column.get("neurons") or []), min(int(settings.get("cards") or 0), cell.n_neurons)
        if singles != cards and not column.get("neurons_reason"):
            yield f"{place}.neurons are {singles}, its settings ask for {cards}"
        if settings.get("steering") and not column.get("steering"):
            yield f"{place} has no steering, its settings ask for {told(settings['steering'])}"


def _untested(settings: Mapping[str, Any], cell: Result) -> str:
    """Return a column that the settings ask for and that was not tested, by whatever reason."""
    if not settings:
        return ""
    columns, asked = (cell.causal or {}).get("columns") or {}, settings.get("columns")
    ok = [name for name, one in cell.columns.items() if one["status"] == "ok"]
    without = [name for name in ok if not (columns.get(name) or {}).get("doses")]
    if asked == "primary":
        return without[0] if len(without) == len(ok) and ok else ""
    return next((name for name in without if asked == "all" or name in (asked or ())), "")


def _listed(names: Iterable[str]) -> str:
    return told(", ".join(sorted(names))) or "none"


def _faults(column: Mapping[str, Any]) -> Iterator[str]:
    doses = [dose for dose in column.get("doses") or [] if dose.get("outcomes")]
    for dose in doses:
        for what in _effect(dose, int(dose.get("random_sets") or 0)):
            yield f"doses[K={dose['k']}].{what}"
    for one in column.get("neurons") or []:
        for what in _effect(one, 0):
            yield f"neurons[L{one['layer']:02d}.N{one['neuron']:04d}].{what}"
    ten = next((dose for dose in doses if dose["k"] == TABLE_K), None)
    if ten is None:
        for name in FIGURES:
            if column.get(name) is not None:
                yield f"{name} is {column[name]}, and no dose of K = {TABLE_K} was measured"
        return
    for name, part in _OF_TABLE.items():
        here = ten["outcomes"]["accuracy"].get(part)
        if column.get(name) != here:
            yield f"{name} is {column.get(name)}, its dose of K = {TABLE_K} says {here}"
    judged = ten["outcomes"].get(ten["outcome"]) or {}
    for name in ("percentile", "p"):
        if column.get(name) != judged.get(name):
            yield f"{name} is {told(column.get(name))}, its dose of K = {TABLE_K} says {told(judged.get(name))}"
    if column.get("verdict") != ten["verdict"]:
        yield f"verdict is {told(column.get('verdict'))}, its dose of K = {TABLE_K} says {told(ten['verdict'])}"


def _effect(one: Mapping[str, Any], sets: int) -> Iterator[str]:
    for name, compared in one["outcomes"].items():
        for what in _compared(compared, sets):
            yield f"{name}.{what}"
    judged = one["outcomes"].get(one["outcome"]) or {}
    may = _may_be(one, judged, sets)
    if one["verdict"] not in may:
        yield f"verdict is {told(one['verdict'])}, its figures give {' or '.join(may)}"


def _compared(one: Mapping[str, Any], sets: int) -> Iterator[str]:
    effect, mean, sd, z, percentile, p = (one.get(n) for n in ("effect", "random", "random_sd", "z", "percentile", "p"))
    if effect is None or mean is None:
        return
    if z is not None and not sd:
        yield f"z is {z}, and random_sd is {sd}"
    elif z is not None and sd is not None and differs(z, (effect - mean) / sd, _CLOSE * max(1.0, abs(z))):
        yield f"z is {z}, (effect - random) / random_sd is {(effect - mean) / sd:.6f}"
    if p is None or percentile is None or not sets:
        return
    if not any(_fits(p, percentile, n) for n in range(sets, 0, -1)):  # a set of no finite effect is not counted
        yield f"p is {p} and percentile {percentile}, which no count among {sets} random sets gives"


def _fits(p: float, percentile: float, n: int) -> bool:
    above = p * (n + 1) - 1  # random sets at or above the effect
    whole = abs(above - round(above)) < 1e-6 and -1e-6 <= above <= n + 1e-6
    return whole and n - above - 1e-6 <= percentile * n / 100 <= n - above / 2 + 1e-6


def _may_be(one: Mapping[str, Any], judged: Mapping[str, Any], sets: int) -> tuple[str, ...]:
    """Return the verdicts that an effect's figures allow."""
    low, high, mean, p = one.get("low"), one.get("high"), judged.get("random"), judged.get("p")
    if judged.get("effect") is None or low is None or high is None or mean is None or p is None or 0 < sets < ENOUGH:
        return ("undecided",)
    signed = one["outcome"] != "moved"
    if p <= ALPHA and low > max(0.0, mean) + 1e-6:
        return ("cause", "undecided") if high - low < 1e-6 else ("cause",)
    allowed = ["correlate", "undecided"]
    if p <= ALPHA and low > max(0.0, mean) - 1e-6:
        allowed.append("cause")  # within rounding
    if signed and high < min(0.0, mean) + 1e-6:
        allowed.append("hinders")
    return tuple(allowed)


def _strongest(kept: KeptPass, name: str, column: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the neurons tested one by one are not the strongest of the column."""
    listed = (kept.cell.columns.get(name) or {}).get("top") or []
    singles = column.get("neurons") or []
    for mine, one in zip(listed, singles, strict=False):
        if (mine["layer"], mine["neuron"]) != (one["layer"], one["neuron"]):
            yield (
                f"neurons has L{one['layer']:02d}.N{one['neuron']:04d} where the strongest is "
                f"L{mine['layer']:02d}.N{mine['neuron']:04d}"
            )
            return
