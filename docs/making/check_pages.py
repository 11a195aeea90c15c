"""The checks of the contract, from the kit that makes them."""

from __future__ import annotations

from skillneurons.testing import known_checks
from skillneurons.testing.checks import KINDS, Check

from making.blocks import markdown, table

# What a hook's plugin registers, by the hook; an observer registers nothing.
KIND_OF_HOOK = {
    "register_tasks": "task",
    "register_metrics": "metric",
    "register_attributions": "attribution",
    "register_graders": "grader",
    "cell_finished": "plugin",
}
TITLES = {
    "plugin": "Every plugin",
    "task": "A task",
    "metric": "A metric",
    "attribution": "A statistic",
    "grader": "A grader",
}


def checks(hook: str = "") -> str:
    """Return the checks that apply to what a hook registers, or all of them, by subject."""
    if hook:
        return _table([one for one in known_checks() if one.kind == KIND_OF_HOOK[hook]])
    lines: list[str] = []
    for kind in KINDS:
        lines += [f"## {TITLES[kind]}", "", _table(known_checks(kind)), ""]
    return "\n".join(lines)


def _table(chosen: list[Check]) -> str:
    return table(("check", "what must hold"), [(f"`{one.name}`", _rule(one)) for one in chosen])


def _rule(one: Check) -> str:
    return markdown(f"{one.doc[:1].upper()}{one.doc[1:]}.")
