"""Real distributions for tests: built by setuptools, installed by pip into a folder, without any network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BUILD = """
import os, sys
from setuptools import build_meta
wheels = sys.argv[1]
for folder in sys.argv[2:]:
    os.chdir(folder)
    build_meta.build_wheel(wheels)
"""


@dataclass(frozen=True)
class Distribution:
    """A distribution of one module, or of a package where ``files`` has several."""

    name: str
    version: str
    entry_point: str
    files: Mapping[str, str]
    requires: Sequence[str] = ()

    def write(self, folder: Path) -> Path:
        """Write its project into a folder of its name and return that."""
        place = folder / self.name
        place.mkdir()
        modules = [file.removesuffix(".py") for file in self.files if "/" not in file]
        packages = sorted({file.partition("/")[0] for file in self.files if "/" in file})
        (place / "pyproject.toml").write_text(
            "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
            f"[project]\nname = '{self.name}'\nversion = '{self.version}'\ndependencies = {list(self.requires)}\n"
            f"[project.entry-points.skillneurons]\n{self.entry_point}\n"
            f"[tool.setuptools]\npy-modules = {modules}\npackages = {packages}\n"
        )
        for file, text in self.files.items():
            (place / file).parent.mkdir(exist_ok=True)
            (place / file).write_text(text)
        return place


def install(distributions: Sequence[Distribution], folder: Path) -> Path:
    """Build wheels of distributions and install them all into ``folder/site``; return that."""
    projects, wheels, site = folder / "projects", folder / "wheels", folder / "site"
    for one in (projects, wheels):
        one.mkdir(parents=True)
    places = [str(one.write(projects)) for one in distributions]
    _run([sys.executable, "-c", BUILD, str(wheels), *places])
    offline = ["--no-deps", "--no-index", "--disable-pip-version-check", "--no-compile", "-q"]
    built = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    assert len(built) == len(distributions)
    _run([sys.executable, "-m", "pip", "install", *offline, "--target", str(site), *built])
    return site


def environment(site: Path | None = None) -> dict[str, str]:
    """Return the environment of a child process that sees what is installed in a folder."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return env if site is None else {**env, "PYTHONPATH": str(site)}


def command(site: Path | None, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``skillneurons`` with what is installed in a folder."""
    line = [sys.executable, "-m", "skillneurons", *arguments]
    return subprocess.run(line, capture_output=True, text=True, env=environment(site), cwd=cwd, check=False)


def _run(line: Sequence[str]) -> None:
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
