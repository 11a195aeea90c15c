"""What is installed: every folder is packaged, no module shadows a folder, every version is pinned."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import skillneurons

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("harness", "plugins", "tasks", "leaderboard")


def pyproject(root: Path = ROOT) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


def packaged(setuptools: dict[str, Any]) -> dict[str, str]:
    """Return folder by package; a package without a folder of its own is not there."""
    return {name: setuptools["package-dir"].get(name, "") for name in setuptools["packages"]}


def folders_with_code(root: Path) -> set[str]:
    return {path.parent.relative_to(root).as_posix() for folder in FOLDERS for path in (root / folder).rglob("*.py")}


def shadows(root: Path) -> list[str]:
    """Return the modules of harness/ that would hide a folder mapped into the package."""
    return [name for name in FOLDERS[1:] if (root / "harness" / f"{name}.py").exists()]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(project: dict[str, Any]) -> set[str]:
    lines = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    return {normal(re.split(r"[\s\[<>=!~;@]", line, maxsplit=1)[0]) for line in lines}


def pinned(text: str) -> dict[str, str]:
    matches = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line) for line in text.splitlines()]
    return {normal(match[1]): match[2] for match in matches if match}


def test_every_folder_with_code_is_a_package_of_the_wheel() -> None:
    assert set(packaged(pyproject()["tool"]["setuptools"]).values()) == folders_with_code(ROOT)


def test_that_an_unlisted_folder_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "harness" / "inner").mkdir(parents=True)
    (tmp_path / "harness" / "inner" / "module.py").write_text("")
    assert folders_with_code(tmp_path) == {"harness/inner"}


def test_packages_stand_where_their_names_say() -> None:
    for name, folder in packaged(pyproject()["tool"]["setuptools"]).items():
        inner = folder.removeprefix("harness").strip("/").replace("/", ".")
        assert name == f"skillneurons.{inner}".rstrip(".")


def test_no_module_shadows_a_folder(tmp_path: Path) -> None:
    assert shadows(ROOT) == []
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "tasks.py").write_text("")
    assert shadows(tmp_path) == ["tasks"]


@pytest.mark.parametrize(
    "file",
    [
        "harness/py.typed",
        "harness/pocket/*.safetensors",
        "harness/pocket/small/*",
        "harness/configs/*",
        "harness/templates/*",
        "leaderboard/site/templates/*",
        "leaderboard/site/assets/*",
        "leaderboard/site/vendor/*",
    ],
)
def test_data_files_are_packaged(file: str) -> None:
    setuptools = pyproject()["tool"]["setuptools"]
    package = {folder: name for name, folder in packaged(setuptools).items()}
    packed = {
        path
        for folder, name in package.items()
        for pattern in setuptools["package-data"].get(name, [])
        for path in (ROOT / folder).glob(pattern)
    }
    found = set(ROOT.glob(file))
    assert found, f"{file} is not in the repository"
    assert found <= packed


def test_constraints_pin_every_dependency() -> None:
    text = (ROOT / "constraints.txt").read_text()
    pins = pinned(text)
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    only_by_hand = {
        "bench": extras.pop("bench"),
        "quant": extras.pop("quant"),
    }  # rivals and GPU loaders: no make target needs
    assert all(only_by_hand.values())  # them for tests, and their own pins would fight with ours
    assert required(project) - pins.keys() == set()
    assert len(pins) == len(text.splitlines()), "a line of constraints.txt is not NAME==VERSION"
    assert list(pins) == sorted(pins), "constraints.txt is not sorted"


def test_that_a_missing_or_loose_pin_would_be_seen() -> None:
    project = {"dependencies": ["torch>=2", "types_X"], "optional-dependencies": {"test": ["a[b]>=1"]}}
    assert required(project) == {"torch", "types-x", "a"}
    assert pinned("torch==2.13.0\nnumpy>=1\npandas @ file:///x\n-e .") == {"torch": "2.13.0"}


def test_version_is_that_of_the_installed_distribution() -> None:
    assert importlib.metadata.version("skillneurons") == skillneurons.__version__
