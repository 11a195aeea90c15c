"""A cell beside the same cell computed again: what differs by more than machines and versions explain.

What a cell is (model, task, metric, counts) and what it has (columns, doses, neurons one by one, the task's own figures) is the same, or
it is another cell. Its figures have the tolerances of ``Tolerance``; half precision is given ten times as much. *cause* and *hinders* are
claims: they must be found again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillneurons.file_faults import told
from skillneurons.results import canonical_json

EXACT = ("float32", "float64")
CLAIMS = ("cause", "hinders")


@dataclass(frozen=True)
class Tolerance:
    """How far a figure may be from the one computed here.

    ``score``: r of a neuron, and all figures of r (of ``stray`` of the neurons more); ``value``: of a metric, relative to 1 or itself, on
    ``texts`` of the examples, as many as have the same answer; ``share``: accuracies, drops; ``count``: neurons counted, relative;
    ``loss``: of a prompt, relative; ``spread``: of random sets, relative.
    """

    score: float = 2e-3
    stray: float = 0.005
    value: float = 2e-3
    texts: float = 0.98
    share: float = 0.02
    count: float = 0.03
    loss: float = 2e-3
    spread: float = 0.2

    def times(self, factor: float) -> Tolerance:
        """Return the same with every distance larger."""
        return Tolerance(
            self.score * factor, self.stray * factor, self.value * factor, 1 - (1 - self.texts) * 5, self.share * 2,
            self.count * 4, self.loss * factor, self.spread * 2,
        )  # fmt: skip


def tolerance_of(dtype: object) -> Tolerance:
    """Return the tolerances for a model's numbers."""
    return Tolerance() if dtype in EXACT else Tolerance().times(10)


_IDENTITY = ("model", "task", "metric", "seed", "prompt", "pass", "config", "n", "n_neurons", "truncated")
_SCORES = (
    *("top1_r", "top10_r", "top10_mean_r", "heldout_top10_r", "heldout_top10_r_low", "heldout_top10_r_high"),
    *("null95_r", "baseline_top10_r", "untuned_top10_r", "partial_r", "mean", "sd"),
)
_COUNTS = ("n_fwer", "n_fdr", "n_replicated", "n_discovery", "n_heldout", "n_constant")
_SAME = ("null_scheme", "n_permutations", "resampled_groups")
_DROPS = ("ablation_drop", "random_drop", "random_drop_sd")


def differences(theirs: Mapping[str, Any], mine: Mapping[str, Any], tolerance: Tolerance) -> Iterator[str]:
    """Yield what of a cell is not as computed here."""
    for name in _IDENTITY:
        yield from _same(name, _without_parity(theirs.get(name)), _without_parity(mine.get(name)))
    for name in ("untuned", "tuned", "stderr"):
        place = f"accuracy.{name}"
        yield from _number(place, theirs["accuracy"].get(name), mine["accuracy"].get(name), tolerance.share)
    yield from _own_figures(theirs.get("scores") or [], mine.get("scores") or [], tolerance)
    yield from _same("its columns", sorted(theirs["columns"]), sorted(mine["columns"]))
    for column, figures in theirs["columns"].items():
        if column in mine["columns"]:
            yield from _column(f"columns.{told(column)}", figures, mine["columns"][column], tolerance)
    yield from _causal(theirs.get("causal"), mine.get("causal"), tolerance)


def _without_parity(value: Any) -> Any:
    """Return a value without the distances of a model to its own feed-forward layers, which are mere rounding."""
    return {k: v for k, v in value.items() if k != "parity"} if isinstance(value, Mapping) else value


def _own_figures(
    theirs: Sequence[Mapping[str, Any]], mine: Sequence[Mapping[str, Any]], tolerance: Tolerance
) -> Iterator[str]:
    """Compare the task's own figures by name and part."""
    said, here = ({(one["name"], one["part"]): one for one in listed} for listed in (theirs, mine))
    yield from _same("scores", [list(one) for one in sorted(said)], [list(one) for one in sorted(here)])
    for key in sorted(said.keys() & here.keys()):
        place = f"scores.{told(' '.join(key).strip())}"
        value = here[key]["value"]
        yield from _number(place, said[key]["value"], value, tolerance.share * max(1.0, abs(value or 0.0)))
        yield from _number(f"{place}.n", said[key]["n"], here[key]["n"], 2 + tolerance.count * here[key]["n"])


def _column(place: str, theirs: Mapping[str, Any], mine: Mapping[str, Any], tolerance: Tolerance) -> Iterator[str]:
    if theirs["status"] != mine["status"]:
        yield f"{place}.status is {theirs['status']}, computed again {mine['status']}"
        return
    for name in _SCORES:
        wide = 3 * tolerance.score * max(1.0, abs(mine.get(name) or 0.0))
        yield from _number(f"{place}.{name}", theirs.get(name), mine.get(name), wide)
    for name in _COUNTS:
        yield from _number(f"{place}.{name}", theirs.get(name), mine.get(name), _count(mine.get(name), tolerance))
    for name in _SAME:
        yield from _same(f"{place}.{name}", theirs.get(name), mine.get(name))
    sets = [{(row["layer"], row["neuron"]) for row in one.get("top") or []} for one in (theirs, mine)]
    shared = len(sets[0] & sets[1])
    if shared < 0.7 * len(sets[1]):
        yield f"{place}.top shares {shared} of {len(sets[1])} neurons with those computed again"
    said, here = ([one["threshold"] for one in figures.get("above") or []] for figures in (theirs, mine))
    yield from _same(f"the thresholds of {place}.above", said, here)
    for level, again in zip(theirs.get("above") or [], mine.get("above") or [], strict=False):
        where = f"{place}.above[{level['threshold']:g}].null"
        yield from _number(where, level.get("null"), again.get("null"), _count(again.get("null"), tolerance))
    yield from _shortcut(f"{place}.shortcut", theirs.get("shortcut") or {}, mine.get("shortcut") or {})


def _shortcut(place: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    """Compare how many of the strongest neurons follow which explanation; three in ten may have changed sides."""
    said, here = theirs.get("verdicts") or {}, mine.get("verdicts") or {}
    moved = sum(abs(said.get(name, 0) - here.get(name, 0)) for name in {*said, *here}) / 2
    if theirs.get("wanted") != mine.get("wanted") or moved > 0.3 * max(sum(here.values()), sum(said.values())):
        yield f"{place} is {told(canonical_json(said))}, computed again {told(canonical_json(here))}"


def _causal(theirs: Mapping[str, Any] | None, mine: Mapping[str, Any] | None, tolerance: Tolerance) -> Iterator[str]:
    if (theirs is None) != (mine is None):
        yield f"causal is {'absent' if theirs is None else 'there'}, computed again it is {'absent' if mine is None else 'there'}"
    said, here = ((one or {}).get("columns") or {} for one in (theirs, mine))
    yield from _same("the columns of causal", sorted(said), sorted(here))
    for name in ("mode", "positions", "n_heldout"):
        yield from _same(f"causal.{name}", (theirs or {}).get(name), (mine or {}).get(name))
    yield from _number("causal.accuracy", (theirs or {}).get("accuracy"), (mine or {}).get("accuracy"), tolerance.share)
    for column in sorted(said.keys() & here.keys()):
        yield from _tested(f"causal.columns.{told(column)}", said[column], here[column], tolerance)


def _tested(place: str, theirs: Mapping[str, Any], mine: Mapping[str, Any], tolerance: Tolerance) -> Iterator[str]:
    for name in _DROPS:
        yield from _number(f"{place}.{name}", theirs.get(name), mine.get(name), 1.5 * tolerance.share)
    yield from _verdict(place, theirs, mine)
    doses, again = ({one["k"]: one for one in part.get("doses") or []} for part in (theirs, mine))
    yield from _same(f"the doses of {place}", sorted(doses), sorted(again))
    for k in sorted(doses.keys() & again.keys()):
        yield from _effect(f"{place}.doses[K={k}]", doses[k], again[k], tolerance)
    singles, known = (_singles(part) for part in (theirs, mine))
    yield from _number(f"the neurons one by one of {place}", len(singles), len(known), 0)
    for one in sorted(singles.keys() & known.keys()):
        where = f"{place}.neurons[L{one[0]:02d}.N{one[1]:04d}]"
        yield from _effect(where, singles[one], known[one], tolerance)
    yield from _steering(f"{place}.steering", theirs.get("steering") or {}, mine.get("steering") or {}, tolerance)


def _singles(part: Mapping[str, Any]) -> dict[tuple[int, int], Mapping[str, Any]]:
    return {(one["layer"], one["neuron"]): one for one in part.get("neurons") or []}


def _effect(place: str, theirs: Mapping[str, Any], mine: Mapping[str, Any], tolerance: Tolerance) -> Iterator[str]:
    """Compare the effect of a set of neurons: each outcome beside its random sets, and the verdict."""
    yield from _same(f"{place}.random_sets", theirs.get("random_sets"), mine.get("random_sets"))
    yield from _same(f"{place}.outcome", theirs.get("outcome"), mine.get("outcome"))
    said, here = theirs.get("outcomes") or {}, mine.get("outcomes") or {}
    yield from _same(f"the outcomes of {place}", sorted(said), sorted(here))
    for name in sorted(said.keys() & here.keys()):
        ours = here[name]
        for part in ("effect", "random"):
            wide = 2 * tolerance.share * max(1.0, abs(ours.get(part) or 0.0))
            yield from _number(f"{place}.{name}.{part}", said[name].get(part), ours.get(part), wide)
        wide = tolerance.spread * abs(ours.get("random_sd") or 0.0) + 0.1 * tolerance.share
        yield from _number(f"{place}.{name}.random_sd", said[name].get("random_sd"), ours.get("random_sd"), wide)
        wide = 2 / (1 + (mine.get("random_sets") or 20)) + tolerance.share
        yield from _number(f"{place}.{name}.p", said[name].get("p"), ours.get("p"), wide)
    for end in ("low", "high"):
        wide = 2 * tolerance.share * max(1.0, abs(mine.get(end) or 0.0))
        yield from _number(f"{place}.{end}", theirs.get(end), mine.get(end), wide)
    yield from _verdict(place, theirs, mine)


def _verdict(place: str, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    said, here = theirs.get("verdict"), mine.get("verdict")
    if said != here and {said, here} & {*CLAIMS}:
        yield f"{place}.verdict is {told(said)}, computed again {told(here)}"


def _steering(place: str, theirs: Mapping[str, Any], mine: Mapping[str, Any], tolerance: Tolerance) -> Iterator[str]:
    for name in ("alphas", "followed"):
        yield from _same(f"{place}.{name}", theirs.get(name), mine.get(name))
    for name in ("metric", "log_prob", "accuracy", "neutral_loss"):
        for i, (said, here) in enumerate(zip(theirs.get(name) or [], mine.get(name) or [], strict=False)):
            wide = 2 * tolerance.share * max(1.0, abs(here or 0.0))
            yield from _number(f"{place}.{name}[{i}]", said, here, wide)


def _count(here: float | None, tolerance: Tolerance) -> float:
    return 2 + tolerance.count * max(here or 0, 1)


def _same(place: str, said: Any, here: Any) -> Iterator[str]:
    if said != here:
        yield f"{place} is {told(canonical_json(said))}, computed again {told(canonical_json(here))}"


def _number(place: str, said: Any, here: Any, tolerance: float) -> Iterator[str]:
    if said is None and here is None:
        return
    if said is None or here is None or not abs(said - here) <= tolerance:
        yield f"{place} is {said}, computed again {here}"
