"""Tables that are made from the code: settings, columns of the board, statistics, tasks, metrics, graders, checks."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from making.blocks import markdown, table

if TYPE_CHECKING:
    from pydantic import BaseModel
    from skillneurons.registry import Registry

NUMBERS = (
    ("exclusiveMinimum", "above {}"),
    ("minimum", "at least {}"),
    ("exclusiveMaximum", "below {}"),
    ("maximum", "at most {}"),
)
LARGE = 10**12  # bounds beyond this only keep a number storable


@cache
def built_in() -> Registry:
    """Return what is registered without the plugins that happen to be installed here."""
    from importlib import metadata

    from skillneurons.plugin_loading import GROUP
    from skillneurons.registry import load_registry

    installed = {point.name for point in metadata.entry_points(group=GROUP)}
    return load_registry(blocked=sorted(installed))


def setting_names() -> list[str]:
    """Return the dotted path of every setting: ``prompt.steps``."""
    from skillneurons.config import Config

    return [name for name, _ in _leaves(Config)]


def settings() -> str:
    """Return a table of the settings of each section, the run's own first."""
    from skillneurons.config import Config

    schema = Config.model_json_schema()
    lines = ["## The run itself", "", _settings_table(Config, schema, "")]
    for name, model in _sections(Config):
        lines += ["", f"## {name}", "", markdown(inspect.cleandoc(model.__doc__ or "")), ""]
        lines += [_settings_table(model, schema["$defs"][model.__name__], f"{name}.")]
    return "\n".join(lines)


def columns() -> str:
    """Return what each column of the board says, by group, from the texts that the board's own page shows."""
    from skillneurons.leaderboard.site.column_help import GROUPS, HELP

    lines: list[str] = []
    grouped = [name for names in GROUPS.values() for name in names]
    others = {"Also there": tuple(name for name in column_names() if name not in grouped)}
    for title, names in {**GROUPS, **others}.items():
        lines += [f"## {title}", "", table(("column", "what it says"), [(f"`{one}`", HELP[one]) for one in names]), ""]
    return "\n".join(lines)


def column_names() -> list[str]:
    """Return the columns of the board, then those that its page alone shows."""
    from skillneurons.leaderboard.rows import COLUMNS
    from skillneurons.leaderboard.site.column_help import HELP

    return list(dict.fromkeys([*COLUMNS, *HELP]))


def statistics() -> str:
    """Return the statistics that are built in."""
    rows = [
        (
            f"`{row['name']}`",
            markdown(row["description"]),
            "yes" if row["null"] else "no",
            f"the mean on `{row['baseline_split']}`" if row["baseline_split"] else "",
        )
        for row in listed("attributions")
    ]
    return table(("`attribution.statistic`", "what it is", "permutation null", "needs first"), rows)


def metrics() -> str:
    """Return the metrics that are built in, with the columns that each has for each task."""
    columns = {row["name"]: row["columns"] for row in listed("tasks")}
    rows = []
    for row in listed("metrics"):
        own = dict.fromkeys(name for task in columns.values() for name in task[row["name"]])
        short = [name.partition(".")[2] or name for name in own]
        families = dict.fromkeys(_family(name) for name in short)
        rows.append((f"`{row['name']}`", markdown(row["description"]), ", ".join(f"`{name}`" for name in families)))
    return table(("metric", "what it is", "columns (over all tasks)"), rows)


def tasks() -> str:
    """Return the tasks that are built in, with their options."""
    rows = [
        (
            f"`{row['name']}`",
            row["kind"],
            markdown(row["description"]),
            ", ".join(f"`{name}`" for name in row["options"]),
        )
        for row in listed("tasks")
    ]
    return table(("task", "kind", "what it is", "options (`tasks.NAME.OPTION`)"), rows)


def graders() -> str:
    """Return the graders that are built in, with their options."""
    rows = [
        (f"`{row['name']}`", markdown(row["description"]), ", ".join(f"`{name}`" for name in row["options"]))
        for row in listed("graders")
    ]
    return table(("grader", "what it is", "options (`grader_options`)"), rows)


def config_text(name: str) -> str:
    """Return a built-in config as it stands."""
    from skillneurons.config import built_in_config

    return f"```yaml\n{built_in_config(name).read_text(encoding='utf-8').rstrip()}\n```"


def listed(what: str) -> list[dict[str, Any]]:
    """Return what ``skillneurons list WHAT --json`` tells of the built-ins."""
    from skillneurons.listing import listing

    rows: list[dict[str, Any]] = json.loads(listing(what, built_in(), as_json=True))
    return rows


def _family(name: str) -> str:
    """Return a name without the digit that counts columns of one kind."""
    return f"{name[:-1]}0 to 9" if name[-2:-1] == "_" and name[-1].isdigit() else name


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    from pydantic import BaseModel

    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def _leaves(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    sections = dict(_sections(model))
    for name, field in model.model_fields.items():
        if name in sections:
            yield from _leaves(sections[name], f"{before}{name}.")
        else:
            yield f"{before}{name}", field


def _settings_table(model: type[BaseModel], schema: Mapping[str, Any], before: str) -> str:
    inside = dict(_sections(model))
    rows = []
    for name, field in model.model_fields.items():
        if name not in inside:
            of = schema["properties"][name]
            default = "must be given" if field.is_required() else f"`{json.dumps(of.get('default'))}`"
            rows.append((f"`{before}{name}`", _type(of), default, markdown(field.description or "")))
    if not any(row[3] for row in rows):
        return table(("setting", "value", "default"), [row[:3] for row in rows])
    return table(("setting", "value", "default", "what it does"), rows)


def _type(schema: Mapping[str, Any]) -> str:
    """Return in words what a setting may be."""
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    bounds = [text.format(f"{schema[key]:g}") for key, text in NUMBERS if _bounds(schema, key)]
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    kind = str(schema.get("type", ""))
    if kind == "array":
        inner = schema.get("items", {})
        count = f"{schema['minItems']} " if schema.get("minItems", 0) > 1 else ""
        return f"list of {count}{_type(inner)}".replace("number", "numbers").replace("text", "texts")
    if kind == "object":
        return "mapping"
    if kind == "null":
        return "nothing"
    return " ".join([names.get(kind, kind or "anything"), *([", ".join(bounds)] if bounds else [])])


def _bounds(schema: Mapping[str, Any], key: str) -> bool:
    return key in schema and abs(schema[key]) < LARGE
