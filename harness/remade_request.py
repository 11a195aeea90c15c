"""What was asked for when a cell was made: its config and its unit, from what the cell says alone.

Nothing that a stranger's cell names is followed by itself: a text among a task's options (a path, an address, a grader) counts only
where the verifier gave the same one, a neutral text only where it is built in, and code of a model's own never runs. Settings that
would take for ever are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillneurons.config import Config
from skillneurons.errors import SkillNeuronsError, UserError
from skillneurons.file_faults import told
from skillneurons.neutral import NEUTRAL
from skillneurons.plan import TaskData, Unit, load_task_data, settings_of, unit_of
from skillneurons.registry import Registry
from skillneurons.results import Result, ResultsFolder, canonical_json
from skillneurons.task_setup import set_up
from skillneurons.types import SPLITS

SECTIONS = ("model", "prompt", "data", "attribution", "causal")
_MOST = {
    "data": {"train": 10**6, "validation": 10**6, "discovery": 10**6, "heldout": 10**6},
    "prompt": {"steps": 10**6, "num_virtual_tokens": 10**4, "batch_size": 10**5},
    "attribution": {"permutations": 10**5, "bootstrap": 10**5, "top_k": 10**6},
    "causal": {"random_sets": 10**4, "examples": 10**6, "generated": 10**6, "cards": 10**4},
}
_LARGE = 10**7  # of a number among a task's options
Given = Mapping[str, Any]  # an option's value by tasks.NAME.OPTION


@dataclass(frozen=True)
class Request:
    """A cell's config, with its ``fault`` where there can be no such config, and why it is not followed (``refused``)."""

    config: Config | None = None
    fault: str = ""
    refused: str = ""


def request_of(cell: Result, *, given: Given | None = None, **more: Any) -> Request:
    """Return the config that a cell was made with; ``more`` are further settings (device, output, limit).

    ``given`` are the options in which texts are allowed.
    """
    name = str(cell.task["name"])
    options = dict(cell.task.get("options") or {})
    sections = {one: cell.config[one] for one in SECTIONS if cell.config.get(one)}
    sections.setdefault("causal", {"enabled": False})  # a cell keeps these settings only where causes were tested
    too_many = next(_beyond(sections), "")
    if too_many:
        return Request(refused=f"its settings ask for {too_many}, more than is computed for a stranger")
    refused = next(_untrusted(name, options, given or {}), "")
    if refused:
        return Request(refused=refused)
    neutral = sections["causal"].get("neutral_text")
    if neutral is not None and neutral not in NEUTRAL:
        return Request(refused=f"causal.neutral_text is {told(repr(neutral))}, a file that is not here")
    if (sections.get("model") or {}).get("trust_remote_code"):
        return Request(refused="model.trust_remote_code is true: a stranger's code is never run")
    own = {"models": [cell.model["name"]], "tasks": {name: options}, "metrics": [cell.metric["name"]]}
    try:
        return Request(Config.model_validate({**own, "seeds": [cell.seed], **sections, **more}))
    except ValueError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        return Request(fault=told("; ".join(lines[1:3])))


def _beyond(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for section, bounds in _MOST.items():
        for name, most in bounds.items():
            value = (sections.get(section) or {}).get(name)
            if isinstance(value, int) and value > most:
                yield f"{section}.{name} {value}"


def _untrusted(name: str, options: Mapping[str, Any], given: Given) -> Iterator[str]:
    """Yield why a task's options are not followed."""
    for option, value in options.items():
        place = f"tasks.{name}.{option}"
        if place in given and canonical_json(given[place]) == canonical_json(value):
            continue
        said = f"its option {place} is {told(canonical_json(value))}"
        if _largest(value) > _LARGE:
            yield f"{said}, more than is computed for a stranger"
        if _has_text(value):
            yield f"{said}: what a cell names is not followed; where you trust it, give --set {place}=VALUE"


def _largest(value: Any) -> float:
    if isinstance(value, Mapping):
        return max(map(_largest, value.values()), default=0.0)
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0.0)
    return abs(value) if isinstance(value, int | float) else 0.0


def _has_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_text(one) for one in (*value, *value.values()))
    return any(map(_has_text, value)) if isinstance(value, list | tuple) else isinstance(value, str)


def given_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options after ``--set`` by their place; raise UserError for anything that is none."""
    from skillneurons.config_overrides import read

    given = {}
    for text in texts:
        place, equals, written = text.partition("=")
        value, problem = read(written)
        if not equals or problem or not place.startswith("tasks."):
            raise UserError(
                f"--set {text}: {problem or 'it is no option of a task'}; write tasks.NAME.OPTION=VALUE, "
                "for example tasks.hans.path=FILE"
            )
        given[place] = value
    return given


def claimed_unit(cell: Result, config: Config, registry: Registry) -> Unit:
    """Return the unit of a cell with the keys that follow from what the cell says; its data are not loaded."""
    about, options = cell.task, dict(cell.task.get("options") or {})
    task = set_up(registry, str(about["name"]), options, grading=False).task
    data = TaskData(
        task, options, str(about.get("source_hash")), hash=about.get("data_hash"),
        grader=about.get("grader"), tuned_on=str(about.get("tuned_on") or ""),
    )  # fmt: skip
    metrics = [registry.metric(str(cell.metric["name"]))]
    nowhere = ResultsFolder(Path(__file__).parent / "nowhere")
    revision = str(cell.model["revision"])
    name = str(cell.model["name"])
    return unit_of(config, registry, nowhere, (), settings_of(config), metrics, name, revision, data, cell.seed)


def loaded_data(
    cell: Result, config: Config, registry: Registry, record: Mapping[str, Any], known: dict[str, TaskData]
) -> tuple[TaskData, Config]:
    """Return the task's data as they are here, with the limit under which they are the cell's where there is one.

    A limit is in no cell: none, the most examples of a split, and that of the run record are tried. ``known`` keeps what was loaded.
    """
    name, tried = str(cell.task["name"]), []
    limits = [None, max(cell.n.values(), default=0) or None, record.get("limit")]
    for limit in dict.fromkeys(one for one in limits if one is None or (isinstance(one, int) and 0 < one < 10**6)):
        limited = config.model_copy(update={"limit": limit})
        place = canonical_json([name, config.tasks[name], config.data.model_dump(), limit])
        if place not in known:
            known[place] = load_task_data(limited, registry, name, config.tasks[name])
        tried.append((known[place], limited))
        if tried[-1][0].hash == cell.task.get("data_hash"):
            return tried[-1]
    fits = [one for one in tried if all(one[0].counts[split] == cell.n.get(split) for split in SPLITS)]
    return (fits or tried)[0]


def identity_differs(cell: Result, data: TaskData) -> str:
    """Return what a cell says of its task that the task here does not, or nothing."""
    task = data.task
    here = {name: getattr(task, name) for name in ("kind", "chance", "form", "source", "licence")}
    for name, value in {**here, "tuned_on": data.tuned_on}.items():
        said = cell.task.get(name)
        if said != value:
            return f"task.{name} is {told(repr(said))}, of the task here {told(repr(value))}"
    return ""


def told_error(error: Exception) -> str:
    """Return what went wrong with a plugin's data in one line."""
    kind = "" if isinstance(error, SkillNeuronsError) else f"{type(error).__name__}: "
    return f"{kind}{told(error)}"
