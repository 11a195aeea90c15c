"""What a fresh process says of a plugin: which libraries it loads, what it registers, and what its parts give.

The process has the same import path and another PYTHONHASHSEED, so that what depends on ``hash``, on the order of a set,
on the time or on chance comes out otherwise. A library that one plugin has loaded is there for the next, so each further
plugin of a folder is imported in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HEAVY = (
    "torch",
    "transformers",
    "datasets",
    "pandas",
    "scipy",
    "sklearn",
    "pyarrow",
    "matplotlib",
    "tensorflow",
    "jax",
    "peft",
    "openai",
    "nltk",
    "spacy",
)
CODE = "import sys; from skillneurons.testing.fresh import main; main(*sys.argv[1:])"
LONGEST = 600  # seconds: what takes longer waits for something


def report_of_fresh_process(plugin: str, n_sources: int = 1) -> dict[str, Any]:
    """Return ``report(plugin)`` of another process, and of one more for each further source what importing it gives.

    Raise RuntimeError with the last line of a process that dies, or that takes too long.
    """
    found = _answer(plugin)
    for place in range(1, n_sources):
        found["imports"].update(_answer(plugin, str(place)))
    return found


def _answer(plugin: str, *place: str) -> dict[str, Any]:
    paths = dict.fromkeys(entry or str(Path.cwd()) for entry in sys.path)
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "report.json"
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter, and no shell
                [sys.executable, "-P", "-c", CODE, plugin, str(answer), *place],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": seed},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"a fresh process that loads it has not ended after {LONGEST} seconds") from error
        if done.returncode or not answer.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"a fresh process that loads it ends with exit code {done.returncode}: {last}")
        found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        return found


def main(plugin: str, answer: str, place: str = "") -> None:
    """Write the report of this process, as JSON; with a place, what importing that source gives."""
    found = imports_of(plugin, int(place)) if place else report(plugin)
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


def report(plugin: str) -> dict[str, Any]:
    """Return ``imports`` of the first source, ``names`` by plugin and ``values`` by subject (texts by name)."""
    imports = imports_of(plugin, 0)
    from skillneurons.testing.subjects import Context

    context = Context(plugin)
    kinds = ("tasks", "metrics", "attributions", "graders")
    names = {record.name: {kind: list(getattr(record, kind)) for kind in kinds} for record in context.records}
    values = {subject: values_of(case) for subject, case in context.cases.items()}
    return {"imports": imports, "names": names, "values": values}


def imports_of(plugin: str, place: int) -> dict[str, dict[str, Any]]:
    """Import one source and let it register; return what this gives, by its name.

    ``heavy`` are the libraries that it loads, ``made`` those that making each of its graders loads, ``error`` is '' where it
    is well.
    """
    from skillneurons.testing.checks import said
    from skillneurons.testing.subjects import wanted_sources

    source = wanted_sources(plugin)[0][place]
    graders: list[Any] = []
    error = ""

    def register() -> None:
        nonlocal error
        try:
            _register_all(source, graders)
        except (Exception, SystemExit) as failure:  # of this source alone; the others are looked at
            error = said(failure)

    heavy = _loaded_by(register)
    made = {grader.name: _loaded_by(lambda one=grader: _try_to_make(one)) for grader in graders}
    return {source.record.name: {"heavy": heavy, "made": made, "error": error}}


def _try_to_make(grader: Any) -> None:
    """Make a grader, so that what this loads is seen; whether it can be made is told by ``make``."""
    with contextlib.suppress(Exception):
        grader.make(**grader.options)


def values_of(case: Any) -> dict[str, str]:
    """Return what a subject gives, as texts by name; an error is its text under ``error``."""
    from skillneurons.testing.checks import NotApplicable, said

    try:
        found: dict[str, str] = case.fingerprint()
    except NotApplicable:
        return {}
    except (Exception, SystemExit) as error:  # the checks of this process say the same in their own words
        return {"error": said(error)}
    return found


def _register_all(source: Any, graders: list[Any]) -> None:
    import pluggy
    from skillneurons import hookspecs
    from skillneurons.plugin_loading import import_source

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(import_source(source)[0])
    for kind in ("tasks", "metrics", "attributions"):
        getattr(manager.hook, f"register_{kind}")(register=lambda *registered: None)
    manager.hook.register_graders(register=graders.append)


def _loaded_by(function: Any) -> list[str]:
    """Return the heavy libraries that a call loads."""
    before = set(sys.modules)
    function()
    return [name for name in HEAVY if name in sys.modules and name not in before]
