"""The page of one cell: its figures, its neurons, what was tested about causes, where it comes from, how to run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skillneurons.leaderboard.formats import printed
from skillneurons.leaderboard.site import places
from skillneurons.leaderboard.site.cell_settings import may_be_limited, settings_yaml
from skillneurons.leaderboard.site.column_help import HELP
from skillneurons.leaderboard.site.figures import OUTCOMES, column_figures, seed_figures
from skillneurons.leaderboard.site.kept import Kept, neuron_name
from skillneurons.leaderboard.site.page import number, render_page
from skillneurons.results import Result

_SHOWN = (
    *("n_discovery", "n_heldout", "top1_r", "top10_r", "top10_mean_r", "heldout_top10_r", "heldout_top10_r_low"),
    *("heldout_top10_r_high", "baseline_top10_r", "untuned_top10_r", "partial_r", "null95_r", "n_fwer", "n_fdr"),
    "n_replicated",
)
_REASONS = ("reason", "null_reason", "interval_reason", "partial_reason")


def cell_page(cell: Result, seeds: Sequence[Result], kept: Kept, verified: bool | None = None) -> bytes:
    """Return the page of a cell; ``seeds`` are the cells that differ from it in the seed alone, itself among them.

    ``verified`` says whether a trusted report stands for it, None where none was asked for.
    """
    place = places.cell_place(cell.key)
    names = [name for name, one in cell.columns.items() if one.get("status") == "ok"]
    data = {
        "columns": {
            name: {
                **column_figures(cell, name, kept.scores.get(name)),
                "seeds": seed_figures(seeds, name, place),
                "why": _why(cell, name),
            }
            for name in names
        },
        "why": {
            "scores": kept.reason,
            "causal": "Causes were not tested.",
            "steering": "Nothing was steered.",
            "seeds": "No held-out r.",
        },
    }
    return render_page(
        "cell.html.j2",
        place,
        f"{cell.metric['name']} on {cell.task['name']}, {cell.model['name']}, seed {cell.seed}",
        cell=cell,
        task_page=places.task_place(cell.task["name"]),
        data=data,
        first=_first(cell, names),
        columns=[_column(cell, name, kept) for name in names],
        shown=_SHOWN,
        help=HELP,
        table=[_line(name, one) for name, one in cell.columns.items()],
        provenance=[*_provenance(cell, kept.record), *_standing(verified)],
        seeds=_seeds(cell, seeds),
        settings=settings_yaml(cell, kept.record),
        limited=may_be_limited(cell, kept.record),
    )


def _seeds(cell: Result, seeds: Sequence[Result]) -> list[tuple[int, str]]:
    """Return the seeds with the pages of their cells, ``""`` for this one; nothing where it is the only one."""
    ordered = sorted(seeds, key=lambda one: (one.seed, one.key))
    pages = [(one.seed, "" if one.key == cell.key else places.cell_place(one.key)) for one in ordered]
    return pages if len(pages) > 1 else []


def _first(cell: Result, names: Sequence[str]) -> str:
    """Return the column to open with: the first whose causes were tested, else the first."""
    tested = (cell.causal or {}).get("columns") or {}
    return next((name for name in names if (tested.get(name) or {}).get("doses")), names[0] if names else "")


def _tested(cell: Result, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = ((cell.causal or {}).get("columns") or {}).get(name) or {}
    return found


def _why(cell: Result, name: str) -> dict[str, str]:
    """Return why figures of a column are missing, where the cell says so."""
    tested, causal = _tested(cell, name), cell.causal or {}
    pending = "The run broke off before its causal part; run again." if causal.get("pending") else ""
    untested = str(tested.get("reason") or causal.get("error") or pending)
    doses = [dose["reason"] for dose in tested.get("doses") or [] if not dose.get("outcomes")]
    curve = tested.get("steering") or {}
    told = {"causal": untested or "; ".join(doses), "steering": str(curve.get("reason") or untested)}
    return {figure: text for figure, text in told.items() if text}


def _column(cell: Result, name: str, kept: Kept) -> dict[str, Any]:
    measured, tested = cell.columns[name], _tested(cell, name)
    alone = {(one["layer"], one["neuron"]): one["verdict"] for one in tested.get("neurons") or []}
    top = []
    for row in measured.get("top") or []:
        neuron = neuron_name(row["layer"], row["neuron"])
        has_card = neuron in kept.cards.get(name, {})
        top.append(
            {
                "name": neuron,
                "page": places.card_place(cell.key, neuron) if has_card else "",
                "r": _signed(row.get("r")),
                "p": number(row.get("p_adjusted")),
                "heldout": _signed(row.get("r_heldout")),
                "interval": _interval(row.get("ci_low"), row.get("ci_high")),
                "partial": _signed(row.get("partial_r")),
                "verdict": alone.get((row["layer"], row["neuron"]), ""),
            }
        )
    doses = [
        {**dose, "figures": [_beside(dose["outcomes"].get(outcome)) for outcome in OUTCOMES]}
        for dose in tested.get("doses") or []
        if dose.get("outcomes")
    ]
    return {"name": name, "told": _told(measured), "doses": doses, "top": top}


def _told(measured: Mapping[str, Any]) -> str:
    """Return a column in a sentence or two."""
    held = number(measured.get("heldout_top10_r")) or "unknown"
    interval = _interval(measured.get("heldout_top10_r_low"), measured.get("heldout_top10_r_high"))
    told = f"The ten strongest neurons reach r {held} on held-out examples{f' ({interval})' if interval else ''}"
    told += f"; on discovery, where they were chosen, their mean |r| is {number(measured.get('top10_mean_r'))}."
    if measured.get("null95_r") is None:
        return f"{told} No null: {measured.get('null_reason') or 'not run'}."
    return (
        f"{told} By chance the strongest of all reaches {number(measured['null95_r'])} "
        f"({measured.get('n_permutations') or '-'} permutations of {measured.get('null_scheme') or '-'}); "
        f"{printed('n_fwer', measured.get('n_fwer')) or '-'} neurons lie above it."
    )


def _line(name: str, measured: Mapping[str, Any]) -> dict[str, Any]:
    reasons = [str(measured[one]) for one in _REASONS if measured.get(one)]
    figures = [printed(figure, measured.get(figure)) for figure in _SHOWN]
    return {"name": name, "status": measured.get("status"), "figures": figures, "reason": "; ".join(reasons)}


def _provenance(cell: Result, record: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, task, metric = cell.model, cell.task, cell.metric
    found = [
        ("key", cell.key),
        ("model", f"{model['name']}, revision {model['revision']}, {model.get('architecture') or ''}".rstrip(", ")),
        ("numbers kept as", f"{model.get('dtype')}, quantization {model.get('quantization') or 'none'}"),
        (
            "task",
            f"{task['name']} version {task['version']}, source hash {task.get('source_hash')}, data hash {task.get('data_hash')}",
        ),
        ("data", f"{task.get('source') or 'not said'}; licence {task.get('licence') or 'not said'}"),
        ("metric", f"{metric['name']} version {metric['version']}, source hash {metric.get('source_hash')}"),
        ("prompt", cell.prompt or "none"),
        ("examples", ", ".join(f"{count} {split}" for split, count in cell.n.items())),
    ]
    cut = {split: count for split, count in cell.truncated.items() if count}
    if cut:
        found.append(("inputs cut from the left", ", ".join(f"{count} of {split}" for split, count in cut.items())))
    if model.get("parity"):
        gaps = ", ".join(f"{name} {value:.1e}" for name, value in sorted(model["parity"].items()) if value is not None)
        found.append(("largest gap to the plain forward pass", gaps))
    if record.get("versions"):
        versions = ", ".join(f"{name} {version}" for name, version in sorted(record["versions"].items()))
        where = f"{record.get('device')}, {record.get('threads')} threads, Python {record.get('python')}"
        found.append(("measured with", f"{versions}; {where}"))
    return found


def _standing(verified: bool | None) -> list[tuple[str, str]]:
    """Return what is said of a cell where trusted reports were asked for."""
    told = {
        True: "yes, by a report that a trusted key signed",
        False: "no report that a trusted key signed stands for it",
    }
    return [] if verified is None else [("verified", told[verified])]


def _beside(one: Mapping[str, Any] | None) -> str:
    if not one or one.get("effect") is None:
        return ""
    random = printed("", one.get("random"))
    return f"{printed('', one['effect'])} ({random})" if random else printed("", one["effect"])


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
