"""Settings given by environment variables: ``SKILLNEURONS_PROMPT__STEPS=100`` is ``prompt.steps: 100``.

After the prefix stands the dotted path in capitals, ``__`` between its parts; ``_`` stands for itself and for any character
that is neither letter nor digit (``SKILLNEURONS_TASKS__ARITHMETIC_OPEN__DIGITS`` is the option of ``arithmetic-open``), where
that gives exactly one known name. Below an option a part is taken in small letters. The value is YAML, as after ``--set``.

An option of a task that is not to run is passed over, as in a file: a variable is often set once, for every run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillneurons.config_overrides import named_tasks, put, read
from skillneurons.registry import Registry
from skillneurons.settings import all_settings

PREFIX = "SKILLNEURONS_"
RESERVED = ("SKILLNEURONS_BROWSER",)  # not settings: what the tests ask whether a browser must be there
RULE = f"a variable is {PREFIX} and the path in capitals, as in {PREFIX}PROMPT__STEPS"


@dataclass(frozen=True)
class Variable:
    """A setting that the environment gives: the variable's name, the path and the value."""

    name: str
    parts: tuple[str, ...]
    value: Any

    @property
    def of_a_task(self) -> bool:
        """Whether it is for one task, which must be chosen first."""
        return self.parts[0] == "tasks" and len(self.parts) > 1


def read_environment(
    environ: Mapping[str, str], tasks: Sequence[str], registry: Registry | None, faults: list[str]
) -> list[Variable]:
    """Return the settings of an environment, whole sections before their parts; what is none becomes a fault.

    ``tasks`` are the names of tasks in the file and on the command line; without a registry no other is known.
    """
    names = sorted(name for name in environ if name.startswith(PREFIX) and name not in RESERVED)
    known = _known(tasks, registry) if names else {}
    found = []
    for name in names:
        parts, fault = _path(name.removeprefix(PREFIX), known, registry)
        value, problem = read(environ[name])
        if fault or problem:
            faults.append(f"{name if name.isprintable() else repr(name)}: {fault or problem}")
        elif parts:
            found.append(Variable(name, parts, value))
    return sorted(found, key=lambda variable: len(variable.parts))


def apply_variables(
    values: dict[str, Any], variables: Sequence[Variable], places: dict[str, str], faults: list[str]
) -> None:
    """Put variables into the values of a config; those of a task only where it is to run."""
    for variable in variables:
        if variable.of_a_task:
            chosen = named_tasks(values)
            if not isinstance(chosen, dict) or variable.parts[1] not in chosen:
                continue
        put(values, list(variable.parts), variable.value, variable.name, places, faults)


def _known(tasks: Sequence[str], registry: Registry | None) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the paths of all settings, tasks and options by how a variable writes them."""
    names = set(tasks)
    paths = {tuple(key.split(".")) for key, _ in all_settings()}
    if registry is not None:
        names |= set(registry.tasks)
        names |= {f"{task}/{part}" for task, found in registry.tasks.items() for part in found.value.subtasks}
        paths |= {
            ("tasks", name, option)
            for name in names
            if name.partition("/")[0] in registry.tasks
            for option in registry.tasks[name.partition("/")[0]].value.options
        }
    paths |= {("tasks", name) for name in names}
    known: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for path in sorted(paths):
        known.setdefault(tuple(map(_capitals, path)), []).append(path)
    return known


def _capitals(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _path(
    text: str, known: Mapping[tuple[str, ...], Sequence[tuple[str, ...]]], registry: Registry | None
) -> tuple[tuple[str, ...], str]:
    """Return the path that a variable means, or what is wrong with it; neither for a task that nobody can know here."""
    written = tuple(text.split("__"))
    deepest = 3 if written[0] == "TASKS" else len(written)  # options of options are nobody's here
    head, rest = written[:deepest], tuple(part.lower() for part in written[deepest:])
    found = known.get(head, ())
    if len(found) > 1:
        meant = " or ".join(".".join(path) for path in found)
        return (), f"can mean {meant}; write it in the file or after --set"
    if found:
        return (*found[0], *rest), "" if all(rest) else RULE
    if registry is None and head[0] == "TASKS" and len(head) > 1:
        named = known.get(head[:2], ())
        return ((*named[0], *(part.lower() for part in written[2:])), "") if len(named) == 1 else ((), "")
    return (), f"no setting of that name; {_hint(text, written, known)}"


def _hint(text: str, written: Sequence[str], known: Mapping[tuple[str, ...], Any]) -> str:
    """Return the variable that was probably meant: the part that is wrong set right, or a whole name that is near."""
    tried = [part.upper() for part in written]
    right = next(n for n in range(len(tried), -1, -1) if n == 0 or tuple(tried[:n]) in known)
    parts = sorted({one[right] for one in known if len(one) > right and one[:right] == tuple(tried[:right])})
    near = difflib.get_close_matches(tried[right], parts, n=1, cutoff=0.6 if right else 0.8) if parts else []
    if near:
        return f"did you mean {PREFIX}{'__'.join([*tried[:right], near[0], *tried[right + 1 :]])}?"
    near = difflib.get_close_matches(text.upper(), ["__".join(one) for one in sorted(known)], n=1, cutoff=0.75)
    return f"did you mean {PREFIX}{near[0]}?" if near else RULE
