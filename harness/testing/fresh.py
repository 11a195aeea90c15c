"""What a fresh process says of a plugin: which libraries it loads, what it registers, and what its parts give.

The process has the same import path and another PYTHONHASHSEED, so that what depends on ``hash``, on the order of a set,
on the time or on chance comes out otherwise.
"""

from __future__ import annotations

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
CODE = "import sys; from skillneurons.testing.fresh import main; main(sys.argv[1], sys.argv[2])"


def report_of_fresh_process(plugin: str) -> dict[str, Any]:
    """Return ``report(plugin)`` of another process; raise RuntimeError with its last line where it dies."""
    paths = dict.fromkeys(entry or str(Path.cwd()) for entry in sys.path)
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "report.json"
        done = subprocess.run(  # noqa: S603 - this interpreter, and no shell
            [sys.executable, "-P", "-c", CODE, plugin, str(answer)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode or not answer.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"a fresh process that loads it ends with exit code {done.returncode}: {last}")
        found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
        return found


def main(plugin: str, answer: str) -> None:
    """Write the report of this process, as JSON."""
    Path(answer).write_text(json.dumps(report(plugin)), encoding="utf-8")


def report(plugin: str) -> dict[str, Any]:
    """Return ``heavy`` (libraries by plugin, and by grader), ``names`` and ``values`` (by subject: texts by name)."""
    heavy = _loaded_by_importing(plugin)
    from skillneurons.testing.subjects import Context

    context = Context(plugin)
    kinds = ("tasks", "metrics", "attributions", "graders")
    names = {record.name: {kind: list(getattr(record, kind)) for kind in kinds} for record in context.records}
    for subject, case in context.cases.items():
        if subject.startswith("grader "):
            heavy[subject] = _loaded_by(case.try_to_make)
    return {"heavy": heavy, "names": names, "values": {s: values_of(case) for s, case in context.cases.items()}}


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


def _loaded_by_importing(plugin: str) -> dict[str, list[str]]:
    import pluggy
    from skillneurons import hookspecs
    from skillneurons.plugin_loading import import_source
    from skillneurons.testing.subjects import wanted_sources

    def register_all(source: Any) -> None:
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(import_source(source)[0])
        for kind in ("tasks", "metrics", "attributions", "graders"):
            getattr(manager.hook, f"register_{kind}")(register=lambda *registered: None)

    found = {}
    for source in wanted_sources(plugin)[0]:
        found[source.record.name] = _loaded_by(lambda one=source: register_all(one))
    return found


def _loaded_by(function: Any) -> list[str]:
    """Return the heavy libraries that a call loads."""
    before = set(sys.modules)
    function()
    return [name for name in HEAVY if name in sys.modules and name not in before]
