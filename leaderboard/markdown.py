"""The table as a page: how to read it, then each model's accuracies, rows and empty numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skillneurons.leaderboard.bundles import RenderedRow
from skillneurons.leaderboard.formats import markdown_heads, one_line, printed
from skillneurons.leaderboard.ranks import Standings
from skillneurons.leaderboard.rows import COLUMNS
from skillneurons.leaderboard.standings_text import standings_lines

_HEADER = """\
# Skill neurons: the leaderboard

Written by `skillneurons leaderboard` from finished cells; edits are overwritten. `board.csv` and
`board.parquet` hold the same rows in full precision.

How to read it:

- One row per model, task and metric column, averaged over `seeds` prompt seeds; `keys` names the cells
  behind it.
- **N** is the number of examples with a score: `n_discovery` to choose neurons, `n_heldout` to measure
  the chosen ones again. **M** (`n_neurons`) is the number of feed-forward neurons searched. The best of M
  unrelated neurons reaches an |r| that grows with M and shrinks with N: set every r beside `null95_r`,
  that chance level.
- **Discovery**: `top1_r` and `top10_r` are the largest and the 10th largest |r|, `top10_mean_r` the mean
  |r| of the ten best. They were chosen on the same examples, so they flatter.
- **Held-out**: `heldout_top10_r` is the mean r of the same ten neurons, with their discovery sign, on
  examples that nothing was chosen on (no group of examples is in two splits). `_low` and `_high` are its
  95 % bootstrap interval over groups; `shrinkage` is `top10_mean_r` minus it. `baseline_top10_r` is the same
  figure without a prompt, `untuned_top10_r` with the prompt before tuning; `partial_r` the same with the nuisance
  columns of the config held constant. Accuracies are held-out too; a task's own figures (as its authors define them) are over discovery
  and held-out together, with the tuned prompt. `tuned_on` says what the prompt was tuned on, `graded_by` who
  graded generated texts; a *synthetic* grader knows only text made for it.
- `null95_r` is what the strongest neuron reaches by chance: the 95th percentile, over permutations of the metric, of
  the largest |r| of all neurons (Westfall-Young max-T). `null_scheme` says what was permuted: single rows, whole groups
  of one size (and the rows within them, where the column varies there), or, where groups have no partners of their size,
  rows within their group alone; that last threshold keeps whatever groups have in common, and is conservative. `n_fwer` and `n_fdr` count the neurons that pass the family-wise and the
  false-discovery threshold on discovery, `n_replicated` those of `n_fwer` that pass a max-T test among themselves
  on held-out examples too. `above` counts neurons at or above fixed levels of |r|, beside what the null gives.
- `verdict`: of the ten strongest neurons of a rival explanation, how many follow it rather than the wanted one
  (*shortcut*), the wanted one, or leave it open; counted once per seed, one test per neuron and rival, uncorrected.
- `stability` is the overlap (Jaccard, 0 to 1) of the ten best neurons between two seeds, `stability_chance` that of
  ten random ones; `_sd` columns are standard deviations over seeds.
- **Causes**: `ablation_drop` is the held-out accuracy lost when the ten neurons are ablated (each at its mean, at prompt
  tokens), `random_drop` the mean of the same for random sets matched per layer and by mean |activation|, `random_drop_sd`
  their standard deviation, `causal_z` the distance between the two in it. A neuron that correlates and does nothing is a
  *correlate*, not a skill neuron.
- `verified`: whether a report that a trusted key signed stands for all cells of the row; verified rows stand first, and the others in
  a part of their own.
- An empty number was not measured or is undefined; the note in `reason` says why.
"""

_HEADS = {
    "yes": (
        "# Verified",
        "",
        "A report that a trusted key signed stands for the cells of these rows, as they are now.",
    ),
    "no": (
        "# Not verified",
        "",
        "No report that a trusted key signed stands for the cells of these rows: nobody has checked them.",
    ),
}


def markdown_text(
    rows: Sequence[RenderedRow],
    accuracies: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
    left_out: Sequence[str],
    causes: Mapping[tuple[str, str], Sequence[str]] | None = None,
    standings: Standings | None = None,
    unverified_causes: Mapping[tuple[str, str], Sequence[str]] | None = None,
) -> str:
    """Return ``board.md``; every reason stands once, below the table whose rows refer to it.

    With ``unverified_causes`` (which may be empty) the rows of cells that are not verified have a part of their own, the last.
    """
    lines = _HEADER.splitlines()
    beside = standings_lines(standings) if standings is not None else []
    if beside:
        lines += ["", *beside]
    if unverified_causes is None:
        lines += _models(rows, accuracies, causes or {})
    else:
        for standing, told in (("yes", causes or {}), ("no", unverified_causes)):
            own = [one for one in rows if one.row["verified"] == standing]
            if own:
                lines += ["", *_HEADS[standing]]
            lines += _models(own, [one for one in accuracies if one["verified"] == standing], told)
            if standing == "yes" and not own:
                lines += ["", "No cell is verified."]
    if not rows:
        lines += ["", "No finished cells."]
    for title, listed in (("Not comparable", notes), ("Left out", left_out)):
        if listed:
            lines += ["", f"## {title}", "", *(f"- {one_line(line)}" for line in listed)]
    return "\n".join(lines) + "\n"


def _models(
    rows: Sequence[RenderedRow],
    accuracies: Sequence[Mapping[str, Any]],
    causes: Mapping[tuple[str, str], Sequence[str]],
) -> list[str]:
    """Return the sections of models."""
    lines: list[str] = []
    by_model: dict[tuple[str, str], list[RenderedRow]] = {}
    for one in rows:
        by_model.setdefault((one.row["model"], one.row["revision"] or ""), []).append(one)
    for (model, revision), rows_of_it in sorted(by_model.items()):
        lines += ["", f"## {one_line(_title(model, revision))}", ""]
        own = [entry for entry in accuracies if (entry["model"], entry["revision"] or "") == (model, revision)]
        if own:
            lines += [*(line for entry in own for line in _accuracy_lines(entry)), ""]
        told = causes.get((model, revision), ())
        lines += [*told, "### All columns", ""] if told else []
        lines += _section(rows_of_it)
    return lines


def _title(model: str, revision: str) -> str:
    return f"{model} ({revision})" if revision else model


def _section(rows: Sequence[RenderedRow]) -> list[str]:
    numbers: dict[str, int] = {}
    lines = markdown_heads(list(COLUMNS))
    for one in rows:
        reason = one.row["reason"]
        note = f"note {numbers.setdefault(reason, len(numbers) + 1)}" if reason else ""
        lines.append(f"{one.before}{note}{one.after}")
    if numbers:
        lines += ["", "Notes:", "", *(f"{number}. {one_line(reason)}" for reason, number in numbers.items())]
    return lines


def _accuracy_lines(entry: Mapping[str, Any]) -> list[str]:
    figures = [f"{printed('', entry[name]) or 'not run'} {name}" for name in ("untuned", "tuned")]
    if entry["stderr"] is not None:
        figures[-1] += f" (standard error {printed('', entry['stderr'])})"
    if entry["chance"] is not None:
        figures.append(f"chance {printed('', entry['chance'])}")
    splits = ", ".join(f"{count} {split}" for split, count in entry["n"].items() if count is not None)
    seeds = "1 seed" if entry["seeds"] == 1 else f"{entry['seeds']} seeds"
    name = one_line(f"{entry['task']} (version {entry['version']})")
    lines = [f"- **{name}**: accuracy {', '.join(figures)}; {seeds}; N = {splits}; M = {entry['n_neurons']}"]
    about = [f"prompt tuned on {entry['tuned_on']}"] if entry["tuned_on"] else []
    about += [f"graded by {entry['graded_by']}"] if entry["graded_by"] else []
    if about:
        lines.append(f"  - {one_line('; '.join(about))}")
    by_name: dict[str, list[str]] = {}
    for score in entry["scores"]:
        figure = f"{printed('', score['value']) or 'not scored'} (n = {score['n']})"
        by_name.setdefault(score["name"], []).append(f"{score['part'] or 'all'} {figure}")
    lines += [f"  - {one_line(name)}: {one_line(', '.join(parts))}" for name, parts in by_name.items()]
    return lines
