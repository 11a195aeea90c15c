"""Find the YAML file of a task of lm-evaluation-harness, and see that it brings no code of its own.

Names come from the files' own keys (``task``, ``group``, ``tag``), as that harness finds them; nothing is imported or run
for that. ``!function`` in a file outside the installed harness would import Python from there, and a data set read by the
builder ``pandas`` would be unpickled: both are refused unless the option ``allow_code`` says that the folder is trusted.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import skillneurons as sn

NAMED = re.compile(rb"""^\s*["']?(?:task|group)["']?[ \t]*:[ \t]*["']?([A-Za-z0-9][^\s"'#,]*)""", re.MULTILINE)
READ_BY = ("json", "csv", "parquet", "arrow", "text")
LISTED = 8


def installed_tasks() -> Path:
    """Return the folder of the installed harness's own tasks; UserError where it is not installed, or too old."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise sn.UserError("task 'lm-eval' needs the package lm-eval: pip install 'skillneurons[lm-eval]'")
    tasks = Path(spec.origin).resolve().parent / "tasks"
    if not (tasks / "_yaml_loader.py").is_file():
        raise sn.UserError("task 'lm-eval' needs lm-eval 0.4.12 or newer: pip install -U 'skillneurons[lm-eval]'")
    return tasks


def task_file(name: str, path: str | None, *, allow_code: bool = False) -> tuple[Path, Mapping[str, Any]]:
    """Return the file that defines a task and what stands in it, with its includes, functions not resolved.

    ``path`` is a folder or a YAML file to look in instead of the installed tasks. Raise UserError for a name that nobody
    has, for a group or tag, for a file with code.
    """
    installed = installed_tasks()
    place = Path(path).expanduser() if path is not None else installed
    if not place.exists():
        raise sn.UserError(
            f"tasks.lm-eval/{name}.path: {path!r} does not exist; give a folder or a YAML file with the task"
        )
    texts = {file: file.read_bytes() for file in ([place] if place.is_file() else _yaml_files(place))}
    own = None if allow_code else installed
    for file, text in texts.items():
        if name.encode() in NAMED.findall(text):
            config = _read(file, own)
            if config.get("task") == name:
                if not allow_code:
                    _check_data(name, file, config, installed)
                return file, config
            if config.get("group") == name:
                raise _several(name, "group", [_member(one) for one in config.get("task") or ()])
    folders = {file.parent for file, text in texts.items() if b"tag" in text and name.encode() in text}
    near_tag = [_read(file, own) for file in texts if file.parent in folders]  # a tag may come by an include
    members = [str(config["task"]) for config in near_tag if name in _listed(config.get("tag")) and "task" in config]
    if members:
        raise _several(name, "tag", members)
    known = sorted({found.decode(errors="replace") for text in texts.values() for found in NAMED.findall(text)})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if path is None:
        raise sn.UserError(
            f"the installed lm-evaluation-harness has no task named {name!r}{hint or '; give your own with the option path'}"
        )
    listed = f"; known: {', '.join(known[:LISTED]) or 'none'}"
    raise sn.UserError(f"{path!r} has no task named {name!r}{hint or listed}")


def _yaml_files(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*.yaml") if not {"__pycache__", ".ipynb_checkpoints"} & set(file.parts))
    return sorted(files, key=lambda file: file.as_posix())


def _member(item: Any) -> str:
    return str(item.get("task") or item.get("group")) if isinstance(item, Mapping) else str(item)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _several(name: str, what: str, members: list[str]) -> sn.UserError:
    rest = f" and {len(members) - LISTED} more" if len(members) > LISTED else ""
    return sn.UserError(
        f"lm-eval/{name} is a {what} of several tasks; name them one by one: "
        f"{', '.join(f'lm-eval/{member}' for member in members[:LISTED])}{rest}"
    )


def _read(file: Path, installed: Path | None) -> dict[str, Any]:
    """Return what stands in a file and its includes; refuse code outside ``installed`` (None: any code may be there)."""
    import yaml
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        if installed is not None:
            for place, line, tag in _code_in(file, installed, set()):
                raise sn.UserError(
                    f"{place}:{line}: {tag} runs Python of that folder; set the task's option allow_code: true if you trust "
                    "it as you trust a plugin"
                )
        config: dict[str, Any] = load_yaml(file, resolve_func=False)
    except (OSError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise sn.DataError(f"{file}: no task file of lm-evaluation-harness ({' '.join(str(error).split())})") from error
    return config


def _code_in(file: Path, installed: Path, seen: set[Path]) -> Iterator[tuple[Path, int, str]]:
    """Yield (file, line, tag) of everything in a file and its includes that is more than plain YAML.

    A file is built only after all its tags were seen to be plain; its includes are those of the mapping that comes of it, so
    that those count that a merge key (``<<``) brings.
    """
    import yaml
    from lm_eval.tasks._yaml_loader import load_yaml

    file = file.resolve()
    if file in seen or file.is_relative_to(installed):
        return
    seen.add(file)
    loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # as that harness has it
    waiting, known = [yaml.compose(file.read_bytes(), Loader=loader)], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in known:
            continue
        known.add(id(node))
        if not node.tag.startswith("tag:yaml.org,2002:") or ":python" in node.tag:
            yield file, node.start_mark.line + 1, node.tag
        if isinstance(node, yaml.MappingNode):
            waiting += [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    includes = load_yaml(file, resolve_func=False, recursive=False).get("include", ())
    for include in includes if isinstance(includes, list | tuple) else [includes]:
        if not isinstance(include, str):
            raise ValueError(f"include: {include!r} must be the name of a file, or a list of such names")
        yield from _code_in(file.parent / include, installed, seen)


def _check_data(name: str, file: Path, config: Mapping[str, Any], installed: Path) -> None:
    """Refuse a data set of a file outside the installed harness that a builder with code or pickles would read."""
    source = str(config.get("dataset_path"))
    if config.get("dataset_path") is None:  # told with the other keys that are missing
        return
    if file.resolve().is_relative_to(installed) or source in READ_BY or ("/" in source and not source.endswith(".py")):
        return
    raise sn.UserError(
        f"{file}: dataset_path {source!r} of task {name!r} must be one of {', '.join(READ_BY)}, a folder, or a data set of the "
        "hub (owner/name): others may run code; set the task's option allow_code: true if you trust it"
    )
