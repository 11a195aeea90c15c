"""Why a plugin could not be loaded: the line of its own file, and words that lead to the remedy.

A plugin written for another version of ``skillneurons`` shows itself by a name that is not there, an argument
that is not taken, or a hook of another form; what it asks for in its distribution's metadata is then told too.
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import skillneurons
from skillneurons import types
from skillneurons.errors import PluginError
from skillneurons.plugin_calls import error_line
from skillneurons.plugin_record import PluginRecord
from skillneurons.plugins_installed import GROUP

MADE = ("Example", "Grader", "Metric", "Output", "PredictionForm", "Score", "Task")
UNKNOWN_ARGUMENT = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")
MISSING_ARGUMENT = re.compile(r"(\w+)\.__init__\(\) missing \d+ required positional arguments?: (.+)")
NO_NAME = re.compile(
    r"module 'skillneurons' has no attribute '(\w+)'|cannot import name '(\w+)' from 'skillneurons' \("
)


def broken(record: PluginRecord, error: BaseException) -> PluginRecord:
    """Return the record of a plugin that failed, with the line of its own file where it happened."""
    file, line = record.file, None
    elsewhere = ""
    if isinstance(error, SyntaxError) and error.filename and is_own(error.filename, file):
        line = error.lineno
    else:
        if isinstance(error, SyntaxError) and error.filename:
            elsewhere = f" ({error.filename}:{error.lineno})"
        frames = traceback.extract_tb(error.__traceback__)
        for frame in reversed(frames):
            if is_own(frame.filename, file):
                file, line = file or frame.filename, frame.lineno
                break
        if file and not elsewhere and frames and _is_beside(frames[-1].filename, file):
            elsewhere = f" ({frames[-1].filename}:{frames[-1].lineno})"
    if isinstance(error, PluginError):
        reason = str(error)
    elif isinstance(error, SyntaxError):
        reason = f"{type(error).__name__}: {error.msg}{elsewhere}"
    else:
        reason = f"{error_line(error)}{elsewhere}{_other_version(error)}"
    asked = _asked_for(record.distribution) if record.kind == "entry point" else ""
    if asked:
        reason += f" (it asks for {asked}, this is {skillneurons.__version__})"
    return replace(
        record,
        status="broken",
        error=reason,
        file=file,
        line=line,
        hooks=(),
        tasks=(),
        metrics=(),
        attributions=(),
        graders=(),
    )


def is_own(name: str, file: str | None) -> bool:
    """Return whether a file is the plugin's; while that is unknown, any but this package's and importlib's."""
    if file is not None:
        return Path(name).resolve() == Path(file).resolve()
    return not name.startswith("<") and "importlib" not in name and Path(name).parent != Path(__file__).parent


def _is_beside(name: str, file: str) -> bool:
    place, own = Path(name).resolve(), Path(file).resolve()
    return place != own and place.parent == own.parent


def _other_version(error: BaseException) -> str:
    """Return what this version has instead of what a plugin asked for, or nothing."""
    text = str(error)
    if found := NO_NAME.search(text):
        name = found[1] or found[2]
        return f"; skillneurons {skillneurons.__version__} has no {name!r}{_near(name, skillneurons.__all__)}"
    if (found := UNKNOWN_ARGUMENT.search(text)) and found[1] in MADE:
        takes = [one.name for one in fields(getattr(types, found[1]))]
        return (
            f"; skillneurons.{found[1]} of {skillneurons.__version__} takes {', '.join(takes)}{_near(found[2], takes)}"
        )
    if (found := MISSING_ARGUMENT.search(text)) and found[1] in MADE:
        needs = [one.name for one in fields(getattr(types, found[1])) if _is_required(one)]
        return f"; skillneurons.{found[1]} of {skillneurons.__version__} needs {', '.join(needs)}"
    return ""


def _is_required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _asked_for(distribution: str | None) -> str:
    """Return what a distribution requires of this package, where the installed version is none of that."""
    if distribution is None:
        return ""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:  # found by its folder, not by its name: it says nothing to compare with
        return ""
    for text in wanted:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:  # an installer's to refuse, and no reason of this failure
            continue
        if requirement.name.lower() != GROUP or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        if not requirement.specifier.contains(skillneurons.__version__, prereleases=True):
            return f"{GROUP}{requirement.specifier}"
    return ""
