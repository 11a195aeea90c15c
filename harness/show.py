"""One finished cell as text: what was measured, and the neurons that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillneurons.atomic import write_atomic
from skillneurons.errors import ResultsError, UserError, unknown_name
from skillneurons.neuron_card import card_lines, neuron_name, parse_neuron
from skillneurons.results import DamagedCell, Result, ResultsFolder, open_folder
from skillneurons.types import SPLITS


def show_cell(
    folder: str | Path | ResultsFolder, key: str, *, column: str | None = None, neuron: str | None = None, top: int = 10
) -> str:
    """Return the report of the cell whose key is, or begins with, ``key``.

    ``column`` chooses one column (with or without the metric's name); ``neuron`` (``L03.N0127``) shows
    that neuron's card.
    """
    opened = open_folder(folder)
    result = find_cell(opened, key)
    lines = _header(result)
    if result.status == "failed":
        return "\n".join([*lines, f"failed: {(result.error or {}).get('message', 'no reason was saved')}"])
    names = list(result.columns) if column is None else [column_named(result, column)]
    if neuron is not None:
        return "\n".join([*lines, "", *card_lines(opened, result, neuron, names)])
    lines += _score_lines(result)
    for name in names:
        tested = ((result.causal or {}).get("columns") or {}).get(name) or {}
        lines += ["", *_column_lines(name, result.columns[name], top, tested)]
    return "\n".join(lines)


def density_picture(
    folder: str | Path | ResultsFolder, key: str, column: str | None, neuron: str | None, path: Path
) -> Path:
    """Write the density of a neuron's held-out activation by the value of a column as SVG, and return its path.

    The neuron is the column's strongest where none is named. Raise UserError where its activations were not kept.
    """
    from skillneurons.density import density_svg
    from skillneurons.neuron_card import column_density

    results = open_folder(folder)
    result = find_cell(results, key)
    if column is None:
        raise UserError(f"--svg draws one column: add --column, one of {', '.join(result.columns)}")
    name = column_named(result, column)
    top = result.columns[name].get("top") or []
    if neuron is None and not top:
        raise UserError(
            f"{name} of {result.key} has no neurons ({result.columns[name].get('reason')}); choose another column"
        )
    layer, index = parse_neuron(neuron) if neuron is not None else (top[0]["layer"], top[0]["neuron"])
    density = column_density(results, result, name, layer, index)
    if density is None:
        kept = ", ".join(neuron_name(row["layer"], row["neuron"]) for row in top)
        raise UserError(f"the activations of {neuron_name(layer, index)} were not kept for {name}; those of: {kept}")
    write_atomic(path, density_svg(density, f"{neuron_name(layer, index)} by {name}").encode("utf-8"))
    return path


def find_cell(folder: ResultsFolder, key: str) -> Result:
    """Return the one cell whose key begins with ``key``; raise UserError for none, several or a damaged one."""
    if not folder.is_there:
        raise ResultsError(
            f"{folder.place}: no results here (no folder 'cells'); run `skillneurons run -o {folder.place}` first"
        )
    found = {path.stem: cell for path, cell in folder.iter_cells(key)}
    if key in found:
        found = {key: found[key]}
    if not found:
        raise unknown_name("cell", key, [path.stem for path, _ in folder.iter_cells()])
    if len(found) > 1:
        raise UserError(f"{key!r} begins {len(found)} keys: {', '.join(found)}; give more of it")
    cell = next(iter(found.values()))
    if isinstance(cell, DamagedCell):
        raise ResultsError(f"{cell.path}: {cell.reason}; delete the file and run again")
    return cell


def _header(result: Result) -> list[str]:
    accuracy, n = result.accuracy, result.n
    return [
        f"{result.key}",
        f"model {result.model['name']} ({result.model['revision']}), task {result.task['name']} v{result.task['version']}, "
        f"metric {result.metric['name']}, seed {result.seed}",
        f"examples: {', '.join(f'{split} {_count(n, split)}' for split in SPLITS)}; neurons {result.n_neurons}",
        f"heldout accuracy: untuned {_number(accuracy.get('untuned'))}, tuned {_number(accuracy.get('tuned'))} "
        f"(stderr {_number(accuracy.get('stderr'))})",
    ]


def _score_lines(result: Result) -> list[str]:
    """Return the task's own figures, and how many inputs were cut."""
    lines = [
        f"  {score['name']}, {score['part'] or 'all'}: {_number(score['value'])} (n {score['n']})"
        for score in result.scores
    ]
    if lines:
        lines.insert(0, "the task's own figures over discovery and heldout, with the tuned prompt:")
    cut = {split: count for split, count in result.truncated.items() if count}
    if cut:
        lines.append("inputs cut from the left: " + ", ".join(f"{count} of {split}" for split, count in cut.items()))
    return lines


def column_named(result: Result, column: str) -> str:
    """Return the full name of a column, given with or without the metric's; raise UnknownNameError for another."""
    for name in (column, f"{result.metric['name']}.{column}"):
        if name in result.columns:
            return name
    raise unknown_name("column", name, result.columns)


def _column_lines(name: str, figures: Mapping[str, Any], top: int, causal: Mapping[str, Any]) -> list[str]:
    if figures["status"] != "ok":
        return [f"{name}: {figures['status']}: {figures.get('reason') or 'no reason was saved'}"]
    interval = _interval(figures.get("heldout_top10_r_low"), figures.get("heldout_top10_r_high"), ".3f")
    lines = [
        f"{name}: 10th largest |r| {_number(figures.get('top10_r'))}, mean of ten {_number(figures.get('top10_mean_r'))}, "
        f"held out {_number(figures.get('heldout_top10_r'))}{interval}, without a prompt "
        f"{_number(figures.get('baseline_top10_r'))}, untuned {_number(figures.get('untuned_top10_r'))}, "
        f"partial {_number(figures.get('partial_r'))} (n {_count(figures, 'n_discovery')} + {_count(figures, 'n_heldout')})",
        *_null_lines(figures),
    ]
    rows: Sequence[Mapping[str, Any]] = (figures.get("top") or [])[:top]
    lines += [
        f"  {neuron_name(r['layer'], r['neuron'])}  r {_number(r.get('r'), '+.3f')}{_p(r.get('p_adjusted'))}  "
        f"heldout {_number(r.get('r_heldout'), '+.3f')}{_interval(r.get('ci_low'), r.get('ci_high'), '+.3f')}"
        + (f"  at prompt token [P{r['position'] + 1}]" if r.get("position") is not None else "")
        for r in rows
    ]
    return [*lines, *_shortcut_lines(figures.get("shortcut")), *_causal_lines(causal)]


def _causal_lines(causal: Mapping[str, Any]) -> list[str]:
    """Return the dose curve of ablations beside random sets, the steering curve, and each neuron's verdict."""
    lines = [f"  causes: {causal['reason']}"] if causal.get("reason") and "doses" not in causal else []
    for dose in causal.get("doses") or []:
        if dose["outcomes"] is None:
            lines.append(f"  ablation of {dose['k']}: {dose['reason']}")
            continue
        parts = [f"{name} {_compared(dose['outcomes'][name])}" for name in ("accuracy", "log_prob", "moved")]
        verdict = f"{dose['verdict']} by {dose['outcome']}{_interval(dose.get('low'), dose.get('high'), '.3f')}"
        lines.append(f"  ablation of {dose['k']}: {verdict}; " + "; ".join(parts))
    curve = causal.get("steering") or {}
    if "reason" in curve:
        lines.append(f"  steering: {curve['reason']}")
    elif curve:
        lines.append(
            f"  steering of ten: {curve['followed']} {curve['trend']} (p {_number(curve.get('p_rising'))} rising, "
            f"{_number(curve.get('p_falling'))} falling)"
        )
        for i, alpha in enumerate(curve["alphas"]):
            shown = (f"{name} {_number(curve[name][i])}" for name in ("metric", "log_prob", "accuracy", "neutral_loss"))
            lines.append(f"    {alpha:+g} sd: " + ", ".join(shown))
        for factor, reason in sorted((curve.get("refused") or {}).items()):
            lines.append(f"    {factor} sd: {reason}")
    for one in causal.get("neurons") or []:
        outcome = one["outcomes"][one["outcome"]]
        lines.append(
            f"  alone {neuron_name(one['layer'], one['neuron'])}: {one['verdict']}: {one['outcome']} {_compared(outcome)}"
        )
    return lines


def _compared(one: Mapping[str, Any]) -> str:
    """Return an effect beside random sets."""
    if one["random"] is None:
        return _number(one["effect"])
    return (
        f"{_number(one['effect'], '.4f')} (random {_number(one['random'], '.4f')}, sd {_number(one['random_sd'], '.4f')}; "
        f"z {_number(one['z'], '.1f')}, percentile {_number(one['percentile'], '.0f')}, p {_number(one['p'])})"
    )


def _null_lines(figures: Mapping[str, Any]) -> list[str]:
    """Return what the null says, or why there is none, and how many neurons stand above fixed levels."""
    if figures.get("null95_r") is None:
        lines = [f"  no null: {figures.get('null_reason') or 'not run'}"]
    else:
        lines = [
            f"  chance reaches |r| {_number(figures['null95_r'])} ({_count(figures, 'n_permutations')} permutations "
            f"of {figures.get('null_scheme') or '-'}); above it {_count(figures, 'n_fwer')} neurons, of which "
            f"{_count(figures, 'n_replicated')} hold out; {_count(figures, 'n_fdr')} by the false-discovery rate"
        ]
    lines += [
        f"  |r| >= {level['threshold']:g}: {level['n']} neurons ({100 * level['share']:.2f} %), held out "
        f"{_number(level.get('heldout'))}; the null gives {_number(level.get('null'), '.2f')}"
        for level in figures.get("above") or []
    ]
    for kind, what in (("interval", "no interval"), ("partial", "no partial r")):
        if figures.get(f"{kind}_reason"):
            lines.append(f"  {what}: {figures[f'{kind}_reason']}")
    return lines


def _shortcut_lines(report: Mapping[str, Any] | None) -> list[str]:
    """Return the shortcut report of a rival explanation, neuron by neuron."""
    if not report:
        return []
    lines = [f"  shortcut report against {report['wanted']}:"]
    if report["reason"]:
        lines.append(f"    {report['reason']}")
    for row in report["neurons"]:
        lines.append(
            f"    {neuron_name(row['layer'], row['neuron'])}  {row['verdict']}: r {_number(row['r_rival'], '+.3f')} against "
            f"{_number(row['r_wanted'], '+.3f')}, difference{_interval(row['difference_low'], row['difference_high'], '+.3f')}; "
            f"partial r {_number(row['partial_r'], '+.3f')}{_p(row['p_partial'])}; "
            f"level on the deciding cell {_number(row['level'], '.2f')}{_interval(row['level_low'], row['level_high'], '.2f')}"
        )
    return lines


def _count(figures: Mapping[str, Any], name: str) -> str:
    value = figures.get(name)
    return "-" if value is None else str(value)


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f" ({low:{form}} to {high:{form}})"


def _p(value: float | None) -> str:
    return "" if value is None else f" p {value:.3f}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)
