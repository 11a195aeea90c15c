"""What was found about causes, as tables: doses, steering, neurons, specificity, interactions, skills on demand.

Figures are means over the prompt seeds that have them; verdicts are counted. What concerns several tasks stands in
``across/*.json`` beside the cells; a file that cannot be read is named and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from skillneurons.leaderboard.formats import one_line
from skillneurons.leaderboard.rows import mean
from skillneurons.leaderboard.settings import settings_key
from skillneurons.results import Result

OUTCOMES = ("accuracy", "log_prob", "moved")
VERDICTS = ("cause", "hinders", "correlate", "undecided")


def causes_part(cells: Sequence[Result]) -> dict[str, Any]:
    """Return what is told about causes for the cells of one model, task and metric, as plain JSON content."""
    tested = _tested(cells)
    if not tested:
        return {}
    steering = _steering_rows(tested)
    return {
        "doses": [[*row[:2], _line(row), row] for row in _dose_rows(tested)],
        "steering": [[*row[:2], _line(row), list(alphas)] for alphas, rows in steering.items() for row in rows],
        "refused": _refused(tested),
        "ways": _ways(cells),
    }


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the rows of all parts, by task and column."""
    told = [part for part in parts if part]
    rows = {name: [row for part in told for row in part[name]] for name in ("doses", "steering")}
    for listed in rows.values():
        listed.sort(key=lambda one: one[:2])
    refused = sorted({line for part in told for line in part["refused"]})
    return {**rows, "refused": refused, "ways": sorted({way for part in told for way in part["ways"]})}


def causes_lines(parts: Sequence[Mapping[str, Any]], across: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the Markdown lines about causes of one model; nothing where nothing was tested."""
    told = _joined(parts)
    if not told["doses"]:
        return []
    ways = "; ".join(told["ways"])
    lines = [
        "### Causes",
        "",
        f"Neurons chosen on discovery are ablated ({ways}) and measured on held-out examples, beside random sets of "
        "as many neurons of the same layers and of like mean |activation|, no two alike. `accuracy`: what it loses; `log_prob`: nats that "
        "the right answer loses; `moved`: how far the column's values move, in their sd (an external label cannot move). "
        "Each with the mean of the random sets in brackets. `percentile` among them and the verdict are about one outcome: "
        "`moved`, or `log_prob` for a label. *cause*: more than 95 % of random sets, and above 0 and their mean by its interval; "
        "*hinders*: the same with the sign turned, the right answer is likelier without them; *correlate*: by its interval no more "
        "than random sets do; *undecided*: else, or nothing was moved.",
        "",
        *_table(
            ("task", "column", "K", *OUTCOMES, "percentile", "verdict (seeds)", "neurons one by one"),
        ),
        *(line for _, _, line, _ in told["doses"]),
    ]
    steering: dict[tuple[float, ...], list[str]] = {}
    for _, _, line, alphas in told["steering"]:
        steering.setdefault(tuple(alphas), []).append(line)
    if steering:
        lines += [
            "",
            "**Steering**: the ten strongest pushed by alpha sd along their correlation; the mean of the column (of log p of the "
            "right answer for a label), the trend by seed (Page's test; *bent*: both ends lie on one side of 0), and the loss of neutral text (nats per token) at both ends and at 0.",
        ]
        for alphas, listed in steering.items():
            headers = ("task", "column", "follows", *(f"{a:+g}" for a in alphas), "trend (seeds)", "neutral text")
            lines += ["", *_table(headers), *listed]
    if told["refused"]:
        lines += ["", "Not steered: " + "; ".join(told["refused"]) + "."]
    for part in (_specificity, _interactions, _on_demand):
        lines += part(across)
    return [*lines, ""]


def _ways(cells: Sequence[Result]) -> list[str]:
    """Return how neurons were ablated: what was put in their place, and at which tokens."""
    parts = [cell.causal for cell in cells if cell.causal and cell.causal.get("mode")]
    return sorted({f"{part['mode']}, at {part['positions']} tokens" for part in parts})


def _tested(cells: Sequence[Result]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Return the tested columns by (task, column), one part per seed, seeds in order."""
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for cell in sorted(cells, key=lambda one: (one.task["name"], one.seed, one.key)):
        for column, figures in ((cell.causal or {}).get("columns") or {}).items():
            if figures.get("doses"):
                settings = settings_key(cell)  # seeds of one row differ in nothing else
                found.setdefault((cell.task["name"], column, settings), []).append(figures)
    ways: dict[str, str] = {}
    for cell in cells:
        part = cell.causal or {}
        ways[settings_key(cell)] = f"{part.get('mode')}, {part.get('positions')}"
    several = len({(task, column) for task, column, _ in found}) < len(found)
    return {
        (task, f"{column} ({ways[settings]}, {number})" if several else column): parts
        for number, ((task, column, settings), parts) in enumerate(sorted(found.items()))
    }


def _dose_rows(tested: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for (task, column), parts in tested.items():
        ks = sorted({dose["k"] for part in parts for dose in part["doses"]})
        for k in ks:
            doses = [dose for part in parts for dose in part["doses"] if dose["k"] == k]
            done = [dose for dose in doses if dose["outcomes"]]
            if not done:
                reasons = "; ".join(sorted({dose["reason"] for dose in doses}))
                rows.append((task, f"`{column}`", str(k), "", "", "", "", reasons, ""))
                continue
            still = all(dose["outcome"] != "moved" for dose in done)
            figures = [_beside([dose["outcomes"][name] for dose in done], name, still) for name in OUTCOMES]
            judged = mean(dose["outcomes"][dose["outcome"]]["percentile"] for dose in done)
            singles = [one["verdict"] for part in parts for one in part.get("neurons") or []] if k == ks[0] else []
            rows.append(
                (
                    task,
                    f"`{column}`",
                    str(k),
                    *figures,
                    _number(judged, 0),
                    _counted([dose["verdict"] for dose in done]),
                    _counted(singles),
                )
            )
    return rows


def _beside(outcomes: Sequence[Mapping[str, Any]], name: str, still: bool) -> str:
    """Return an effect with that of the random sets; a dash for the movement of what cannot move (``still``)."""
    effect, random = (mean(one[part] for one in outcomes) for part in ("effect", "random"))
    if effect is None or (still and name == "moved" and effect == 0 and not random):
        return "-"
    return f"{_number(effect)} ({_number(random)})"


def _counted(told: Sequence[str], order: Sequence[str] = VERDICTS) -> str:
    return ", ".join(f"{name} {told.count(name)}" for name in order if name in told)


def _steering_rows(
    tested: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
) -> dict[tuple[float, ...], list[tuple[str, ...]]]:
    """Return the steering curves, one row per column, by the factors that they have."""
    rows: dict[tuple[float, ...], list[tuple[str, ...]]] = {}
    for (task, column), parts in tested.items():
        curves: dict[tuple[tuple[float, ...], str], list[Mapping[str, Any]]] = {}
        for part in parts:
            curve = part.get("steering") or {}
            if curve.get("alphas"):
                curves.setdefault((tuple(curve["alphas"]), curve["followed"]), []).append(curve)
        for (alphas, followed), alike in curves.items():
            values = [_number(mean(curve[followed][i] for curve in alike)) for i in range(len(alphas))]
            trends = _counted([curve["trend"] for curve in alike], ("rising", "falling", "bent", "none"))
            ends = [0, *([alphas.index(0.0)] if 0.0 in alphas else []), -1]
            losses = " / ".join(_number(mean(curve["neutral_loss"][i] for curve in alike), 2) for i in ends)
            rows.setdefault(alphas, []).append((task, f"`{column}`", followed, *values, trends, losses))
    return rows


def _refused(tested: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return which columns, or which factors, could not be steered, with the reason."""
    found: dict[str, None] = {}
    for (task, column), parts in tested.items():
        for part in parts:
            curve = part.get("steering") or {}
            if curve.get("reason"):
                found[f"{task} `{column}`: {one_line(curve['reason'])}"] = None
            for alpha, reason in sorted((curve.get("refused") or {}).items()):
                found[f"{task} `{column}` by {alpha}: {one_line(reason)}"] = None
    return list(found)


def _specificity(across: Sequence[Mapping[str, Any]]) -> list[str]:
    tasks, entries = _tasks(across), [entry for one in across for entry in one["specificity"]]
    if not entries:
        return []
    columns = {task: column for one in across for task, column in one["columns"].items()}
    follows = {task for one in across for task, outcome in one["outcomes"].items() if outcome == "moved"}

    def cell(row: str, column: str, k: int, outcome: str) -> str:
        own = [e for e in entries if (e["set"], e["on"], e["k"]) == (row, column, k)]
        done = [e[outcome] for e in own if e.get(outcome)]
        if not done:
            return "; ".join(sorted({one_line(e.get("reason", "")) for e in own}))
        told = _beside(done, outcome, still=column not in follows)
        return told if told == "-" else f"{told} {_number(mean(one['percentile'] for one in done), 0)}"

    lines = [
        "",
        "**Specificity**: the strongest neurons of a task (row) ablated at the prompt of every task (column). Random sets in "
        "brackets, then the percentile among them.",
    ]
    heads = {
        "accuracy": "accuracy lost by the {k} neurons of",
        "log_prob": "nats lost by the {k} neurons of",
        "moved": "metric moved (sd) by the {k} neurons of",
    }
    for k in sorted({entry["k"] for entry in entries}):
        for outcome, head in heads.items():
            on = [f"on {t}" + (f" (`{columns.get(t)}`)" if outcome == "moved" else "") for t in tasks]
            rows = [(task, *(cell(task, other, k, outcome) for other in tasks)) for task in tasks]
            lines += ["", *_table((head.format(k=k), *on), rows)]
    return lines


def _interactions(across: Sequence[Mapping[str, Any]]) -> list[str]:
    tasks = _tasks(across)
    between = [one["interactions"]["between"] for one in across]
    if not between:
        return []

    def shared(a: str, b: str) -> str:
        own = [o for one in between for o in one["overlaps"] if {o["first"], o["second"]} == {a, b}]
        if not own:
            return "-"
        return f"{_number(mean(o['shared'] for o in own), 1)} ({_number(own[0]['chance'], 2)})"

    def joint(a: str, b: str) -> str:
        own = [j for one in between for j in one["joints"].get(a, []) if {j["first"], j["second"]} == {a, b}]
        if not own:
            return "-"
        kinds = [j["kind"] for j in own]
        told = ", ".join(f"{name} {kinds.count(name)}" for name in dict.fromkeys(kinds))
        return f"{_number(mean(j['excess'] for j in own))} ({told})"

    lines = [
        "",
        "**Interactions between tasks**: neurons that two tasks' sets of ten share, with what chance gives in brackets; "
        "and, measured on the row's task, how much more nats are lost without both sets than without each (the sum).",
        "",
        *_pairs("shared with", tasks, shared),
        "",
        *_pairs("excess, on", tasks, joint),
    ]
    rows = []
    for task in tasks:
        within = [one["interactions"]["within"].get(task) or {} for one in across]
        names = dict.fromkeys((o["first"], o["second"]) for one in within for o in one.get("overlaps", []))
        for first, second in names:
            pair = {first, second}
            overlaps = [o for one in within for o in one.get("overlaps", []) if {o["first"], o["second"]} == pair]
            joints = [j for one in within for j in one.get("joints", []) if {j["first"], j["second"]} == pair]
            kinds = [j["kind"] for j in joints]
            rows.append(
                (
                    task,
                    f"`{first}` and `{second}`",
                    f"{_number(mean(o['shared'] for o in overlaps), 1)} ({_number(overlaps[0]['chance'], 2)})",
                    *(_number(mean(j[f"effect_{name}"] for j in joints)) for name in ("first", "second", "both")),
                    _number(mean(j["excess"] for j in joints)),
                    ", ".join(f"{name} {kinds.count(name)}" for name in dict.fromkeys(kinds)),
                )
            )
    if rows:
        lines += ["", "**Interactions within a task**, of the sets of its columns; nats lost on that task.", ""]
        lines += _table(("task", "sets", "shared (chance)", "first", "second", "both", "excess", "by interval"), rows)
    return lines


def _on_demand(across: Sequence[Mapping[str, Any]]) -> list[str]:
    tasks = _tasks(across)
    found = [one["on_demand"] for one in across if (one.get("on_demand") or {}).get("policies")]
    if not found:
        return []
    names = [*tasks, "mean"]
    right = tuple(_number(mean(one["recognised"].get(name) for one in found)) for name in names)
    policies = list(dict.fromkeys(policy for one in found for policy in one["policies"]))
    order = [
        "never",
        *(p for p in policies if p.startswith("always")),
        "gate",
        "oracle",
        "gate + boost",
        "oracle + boost",
    ]
    rows = [
        (p, *(_number(mean(one["policies"].get(p, {}).get(name) for one in found)) for name in names))
        for p in order
        if p in policies
    ]
    return [
        "",
        "**Skills on demand**: a gate reads the input, recognises the skill and switches on its prompt (*boost*: and pushes its "
        f"ten neurons by {found[0]['alpha']:g} sd); accuracy on held-out inputs of every task, beside no prompt, one prompt for all, "
        "and the right one known.",
        "",
        *_table(("policy", *names), [("the gate is right", *right), *rows]),
    ]


def _pairs(corner: str, names: Sequence[str], cell: Callable[[str, str], str]) -> list[str]:
    return _table((corner, *names), [(a, *("-" if a == b else cell(a, b) for b in names)) for a in names])


def _tasks(across: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({task for one in across for task in one["tasks"]})


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]] = ()) -> list[str]:
    return ["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers), *map(_line, rows)]


def _line(row: Sequence[str]) -> str:
    return "| " + " | ".join(map(one_line, row)) + " |"


def _number(value: float | None, decimals: int = 3) -> str:
    if value is None:
        return ""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def causes_text(parts: Sequence[Mapping[str, Any]]) -> str:
    """Return a short table for a terminal: the tested columns, their doses and verdicts."""
    from tabulate import tabulate

    told = _joined(parts)
    ways = "; ".join(told["ways"])
    rows = [tuple(cell.strip("`") for cell in row[:8]) for *_, row in told["doses"]]
    if not rows:
        return ""
    headers = ("task", "column", "K", "accuracy lost", "nats lost", "moved, sd", "percentile", "verdict (seeds)")
    return f"ablation ({ways}), held out (random sets in brackets):\n\n" + tabulate(
        rows, headers=headers, tablefmt="github", disable_numparse=True
    )
