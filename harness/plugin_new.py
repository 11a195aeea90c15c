"""A new plugin from its templates: a package that can be installed, with its tests, or a single file.

The package (``NAME/``) has ``pyproject.toml``, the module, ``tests/`` and a README. It appears whole or not at all,
and nothing that is there is ever written over.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from string import Template

from skillneurons import __version__
from skillneurons.atomic import cannot_write, make_folder
from skillneurons.errors import UserError
from skillneurons.registry import Registry

KINDS = ("task", "metric", "attribution")
TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST = 50
QUICK = "--limit 100 --set prompt.steps=50 --set causal.enabled=false"
RUN = {
    "task": f"skillneurons run -t {{name}} -M confidence {QUICK}",
    "metric": f"skillneurons run -t arithmetic -M {{name}} {QUICK}",
    "attribution": f"skillneurons run -t arithmetic -M confidence --set attribution.statistic={{name}} {QUICK}",
}


def new_plugin(registry: Registry, kind: str, name: str, folder: Path, *, single_file: bool = False) -> list[Path]:
    """Write a new plugin into a folder and return its files.

    Raise UserError where the name cannot be taken or something is there already; ``registry`` knows the names that are.
    """
    texts = texts_of(kind, checked_new_name(registry, kind, name))
    module = name.replace("-", "_")
    place = folder / (f"{module}.py" if single_file else name)
    if place.is_symlink() or place.exists():
        raise UserError(
            f"{place} is already there, and nothing is written over; choose another name, or a place with -o"
        )
    if importlib.util.find_spec(module) is not None:
        raise UserError(
            f"plugin name {name!r}: a module {module!r} is installed already; choose another, such as {name}_{kind}"
        )
    make_folder(folder)
    if single_file:
        _write_new(place, texts[f"{module}.py"])
        return [place]
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.", ignore_cleanup_errors=True) as draft:
            whole = Path(draft) / name
            for part, text in texts.items():
                file = whole / part
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            whole.rename(place)  # fails where somebody was quicker
    except OSError as error:
        raise cannot_write(place, error) from error
    return [place / part for part in texts]


def _write_new(place: Path, text: str) -> None:
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:  # somebody was quicker
        raise cannot_write(place, error) from error
    except OSError as error:
        place.unlink(missing_ok=True)
        raise cannot_write(place, error) from error


def checked_new_name(registry: Registry, kind: str, name: str) -> str:
    """Return a name that can be a plugin's, a module's and a file's; raise UserError with the remedy otherwise."""
    where = f"plugin name {name!r}"
    if len(name) > LONGEST or not NAME.fullmatch(name):
        raise UserError(
            f"{where}: use small letters, digits and single '_' or '-' between them, a letter first, at most {LONGEST} characters"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise UserError(f"{where}: {module!r} is a word of Python; choose another, such as {name}_{kind}")
    if module in sys.stdlib_module_names or module in ("skillneurons", "tests", "setup", "conftest"):
        raise UserError(
            f"{where}: {module!r} is a module that others import or run; choose another, such as {name}_{kind}"
        )
    for record in registry.records:
        if name == record.name:
            raise UserError(
                f"{where}: a plugin of this name is there, {record.label}; choose another, such as {name}_{kind}"
            )
    taken = getattr(registry, f"{kind}s").get(name)
    if taken is not None:
        raise UserError(f"{where}: a {kind} of this name is there, of plugin {taken.plugin.label}; choose another")
    return name


def texts_of(kind: str, name: str) -> Mapping[str, str]:
    """Return the files of a new package: path in it, and text."""
    module = name.replace("-", "_")
    told = {
        "kind": kind,
        "name": name,
        "module": module,
        "distribution": f"skillneurons-{name.replace('_', '-')}",
        "since": ".".join(__version__.split(".")[:2]),
        "run": RUN[kind].format(name=name),
    }
    files = {
        "README.md": "README.md.txt",
        "pyproject.toml": "pyproject.toml.txt",
        f"{module}.py": f"{kind}.py.txt",
        "tests/test_contract.py": "contract_test.py.txt",
        f"tests/test_{module}.py": f"{kind}_test.py.txt",
    }
    return {path: Template((TEMPLATES / file).read_text("utf-8")).substitute(told) for path, file in files.items()}


def next_commands(kind: str, name: str, place: Path, *, single_file: bool) -> list[str]:
    """Return what to type next, line by line."""
    from shlex import quote

    run = RUN[kind].format(name=name)
    if single_file:
        file = quote(str(place))
        return [f"skillneurons plugins check {file}", f"{run} -p {file}"]
    return [
        f"cd {quote(str(place))}",
        'pip install --no-build-isolation -e ".[test]" && pytest',
        f"skillneurons plugins check {name}",
        run,
    ]
