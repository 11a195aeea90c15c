"""New plugins as a contributor meets them: written, installed by pip, their own tests run, one row on the board."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import skillneurons
from distributions import command, environment
from skillneurons.cli import main
from skillneurons.plugin_new import KINDS
from skillneurons.registry import load_registry

NAMES = {"task": "which-is-more", "metric": "shouting", "attribution": "slope_per_sd"}
QUICK = "--limit 100 --set prompt.steps=50 --set causal.enabled=false"


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the import path as it was, without the folders of other tests' plugins: those stay on it as long as they are loaded."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "pytest-of-" not in place])


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a new package of each kind, and all of them installed in its folder ``site``."""
    folder = tmp_path_factory.mktemp("new")
    for kind, name in NAMES.items():
        assert main(["plugins", "new", kind, name, "-o", str(folder)]) == 0
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "-q"]
    copies = [folder / name for name in NAMES.values()]
    line = [sys.executable, "-m", "pip", "install", *offline, "--target", str(folder / "site"), *map(str, copies)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_passes_its_own_tests(packages: Path, kind: str) -> None:
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-q"]
    env = environment(packages / "site")
    done = subprocess.run(line, capture_output=True, text=True, env=env, cwd=packages / NAMES[kind], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "failed" not in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_package_is_found_once_installed_and_keeps_the_contract(packages: Path, kind: str) -> None:
    name = NAMES[kind]
    done = command(packages / "site", "list", f"{kind}s", "--json", cwd=packages)
    assert (done.returncode, done.stderr) == (0, "")
    assert name in {row["name"] for row in json.loads(done.stdout)}
    done = command(packages / "site", "plugins", "check", name, "--json", cwd=packages)
    findings = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert {one["status"] for one in findings} <= {"ok", "skipped"}
    assert {one["subject"] for one in findings} == {f"plugin {name}", f"{kind} {name}"}


COLLIDING = ("len", "float", "sn", "np", "register-metrics", "example", "load", "value", "slope", "accumulator", "self")


@pytest.mark.parametrize("kind", KINDS)
def test_no_name_collides_with_what_the_templates_use(tmp_path: Path, kind: str) -> None:
    for name in COLLIDING:
        assert main(["plugins", "new", kind, name, "-o", str(tmp_path)]) == 0
        module = name.replace("-", "_")
        package = tmp_path / name
        (record,) = [
            one for one in load_registry([str(package / f"{module}.py")], strict=True).records if one.name == module
        ]
        assert getattr(record, f"{kind}s") == (name,)
    tests = [f"{name}/tests/test_{name.replace('-', '_')}.py" for name in COLLIDING]
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-W", "error", "--import-mode=importlib"]
    paths = environment()
    paths["PYTHONPATH"] = os.pathsep.join(str(tmp_path / name) for name in COLLIDING)
    done = subprocess.run([*line, *tests], capture_output=True, text=True, env=paths, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(COLLIDING) * (2 if kind == 'task' else 1)} passed" in done.stdout


def test_what_is_written_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "metric", "shouting"]) == 0
    assert capsys.readouterr().out == (
        "written:\n  shouting/README.md\n  shouting/pyproject.toml\n  shouting/shouting.py\n"
        "  shouting/tests/test_contract.py\n  shouting/tests/test_shouting.py\n"
        'next:\n  cd shouting\n  pip install --no-build-isolation -e ".[test]" && pytest\n  skillneurons plugins check shouting\n'
        f"  skillneurons run -t arithmetic -M shouting {QUICK}\n"
    )
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "shouting/README.md",
        "shouting/pyproject.toml",
        "shouting/shouting.py",
        "shouting/tests/test_contract.py",
        "shouting/tests/test_shouting.py",
    ]
    assert main(["plugins", "new", "task", "more", "--file", "-o", "a b"]) == 0
    assert capsys.readouterr().out == (
        "written:\n  a b/more.py\nnext:\n  skillneurons plugins check 'a b/more.py'\n"
        f"  skillneurons run -t more -M confidence {QUICK} -p 'a b/more.py'\n"
    )
    assert [path.name for path in (tmp_path / "a b").iterdir()] == ["more.py"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_is_the_package_s_module_and_keeps_the_contract(
    tmp_path: Path, packages: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = NAMES[kind]
    assert main(["plugins", "new", kind, name, "--file", "-o", str(tmp_path)]) == 0
    file = tmp_path / f"{name.replace('-', '_')}.py"
    assert file.read_text() == (packages / name / file.name).read_text()
    (record,) = [one for one in load_registry([str(file)], strict=True).records if one.file == str(file)]
    assert getattr(record, f"{kind}s") == (name,)
    capsys.readouterr()
    assert main(["plugins", "check", str(file)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("subject") and f"{kind} {name}" in printed.out
    assert printed.err.startswith(f"skillneurons: {file}: ") and " 0 failed, " in printed.err


def test_a_new_metric_comes_to_a_row_on_the_board(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    assert main(["plugins", "new", "metric", "shouting", "--file", "-o", str(tmp_path)]) == 0
    few = ["--limit", "24", "--set", "prompt.steps=3", "--set", "causal.enabled=false", "--device", "cpu"]
    asked = [
        "-p",
        str(tmp_path / "shouting.py"),
        "-t",
        "arithmetic",
        "-M",
        "shouting",
        "-m",
        str(model_folder("qwen2")),
    ]
    assert main(["run", *asked, *few, "-o", str(tmp_path / "runs")]) == 0
    with (tmp_path / "runs" / "board.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["task"], row["metric"], row["status"]) == ("arithmetic", "shouting", "ok")


VERSION = skillneurons.__version__
FORM = "use small letters, digits and single '_' or '-' between them, a letter first, at most 50 characters"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("metric", "Shouting", f"plugin name 'Shouting': {FORM}"),
        ("metric", "../up", f"plugin name '../up': {FORM}"),
        ("metric", "/etc", f"plugin name '/etc': {FORM}"),
        ("metric", "a.b", f"plugin name 'a.b': {FORM}"),
        ("metric", "a__b", f"plugin name 'a__b': {FORM}"),
        ("metric", "3d", f"plugin name '3d': {FORM}"),
        ("metric", "größe", f"plugin name 'größe': {FORM}"),
        ("metric", "", f"plugin name '': {FORM}"),
        ("metric", "a" * 51, f"plugin name '{'a' * 51}': {FORM}"),
        ("metric", "line\n", f"plugin name 'line\\n': {FORM}"),
        ("task", "lambda", "plugin name 'lambda': 'lambda' is a word of Python; choose another, such as lambda_task"),
        ("task", "match", "plugin name 'match': 'match' is a word of Python; choose another, such as match_task"),
        (
            "metric",
            "json",
            "plugin name 'json': 'json' is a module that others import or run; choose another, such as json_metric",
        ),
        (
            "task",
            "skillneurons",
            "plugin name 'skillneurons': 'skillneurons' is a module that others import or run; choose another, such as skillneurons_task",
        ),
        (
            "metric",
            "numpy",
            "plugin name 'numpy': a module 'numpy' is installed already; choose another, such as numpy_metric",
        ),
        (
            "metric",
            "confidence",
            "plugin name 'confidence': a plugin of this name is there, confidence {version} ({place}); choose another, such as confidence_metric",
        ),
        (
            "task",
            "confidence",
            "plugin name 'confidence': a plugin of this name is there, confidence {version} ({place}); choose another, such as confidence_task",
        ),
        (
            "task",
            "arithmetic-open",
            "plugin name 'arithmetic-open': a task of this name is there, of plugin arithmetic {version} ({arithmetic}); choose another",
        ),
        (
            "metric",
            "setup",
            "plugin name 'setup': 'setup' is a module that others import or run; choose another, such as setup_metric",
        ),
    ],
)
@pytest.mark.parametrize("form", [[], ["--file"]])
def test_names_that_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str, message: str, form: list[str]
) -> None:
    assert main(["plugins", "new", kind, name, "-o", str(tmp_path), *form]) == 2
    for mark, plugin in (("{place}", "confidence"), ("{arithmetic}", "arithmetic")):
        (known,) = [one for one in load_registry().records if one.name == plugin]
        message = message.replace(mark, f"{known.file}:{known.line}")
    told = message.replace("{version}", VERSION)
    assert capsys.readouterr() == ("", f"skillneurons: error: {told}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", [[], ["--file"]])
@pytest.mark.parametrize("there", ["file", "folder", "dead link"])
def test_nothing_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str], there: str
) -> None:
    place = tmp_path / ("unwritten.py" if form else "unwritten")
    if there == "file":
        place.write_text("precious")
    elif there == "folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "nowhere")
    assert main(["plugins", "new", "task", "unwritten", "-o", str(tmp_path), *form]) == 2
    told = f"{place} is already there, and nothing is written over; choose another name, or a place with -o"
    assert capsys.readouterr() == ("", f"skillneurons: error: {told}\n")
    assert list(tmp_path.iterdir()) == [place] and (there != "file" or place.read_text() == "precious")


def test_a_place_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["plugins", "new", "task", "unwritten", "-o", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err == (
        f"skillneurons: error: cannot write {tmp_path / 'file'}: file exists; give another folder with -o DIR\n"
    )


BAD = """import skillneurons as sn


@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("mine", lambda example, output: 1 / len(output.text)))
"""


def test_a_plugin_that_breaks_the_contract_is_told_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(BAD)
    assert main(["plugins", "check", "mine", "-p", str(file)]) == 1  # the name of a file that -p brings
    printed = capsys.readouterr()
    assert "ZeroDivisionError" in printed.out and " failed, " in printed.err
    file.write_text("raise RuntimeError('no luck')\n")
    assert main(["plugins", "check", str(file), "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding == {
        "subject": "plugin mine",
        "check": "loads",
        "status": "failed",
        "message": f"plugin mine ({file}:1) could not be loaded: RuntimeError: no luck",
    }


def test_what_a_plugin_prints_while_it_is_checked_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "loud.py"
    noisy = "(print('seen', example.id), print('twice\\nthe same', file=sys.stderr), 1.0)[-1]"
    file.write_text("import sys\n" + BAD.replace("1 / len(output.text)", noisy).replace("mine", "loud"))
    assert main(["plugins", "check", str(file)]) == 0
    printed = capsys.readouterr()
    assert "seen" not in printed.out
    lines = printed.err.splitlines()
    found = re.fullmatch(r"skillneurons: metric loud printed 'seen [^']+' and (\d+) lines more", lines[0])
    assert found and int(found[1]) > 1000 and len(lines) == 2
    assert lines[1].startswith(f"skillneurons: {file}: ")


def test_a_plugin_that_is_not_there_or_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "confidense"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(
        "skillneurons: error: no plugin named 'confidense'; did you mean 'confidence'? known: arithmetic, "
    )
    assert main(["plugins", "check", str(tmp_path / "gone.py")]) == 2
    assert capsys.readouterr().err == (
        f"skillneurons: error: plugin '{tmp_path / 'gone.py'}': no such file; give a file, a folder or an importable module\n"
    )
    assert main(["plugins", "--no-plugin", "hans", "check", "hans"]) == 2
    assert capsys.readouterr().err == (
        "skillneurons: error: plugin 'hans' is left out by --no-plugin hans; leave that away to check it\n"
    )


def test_plugin_options_stand_before_the_action_and_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "one.py", tmp_path / "two.py"]
    for file in files:
        file.write_text(BAD.replace("mine", file.stem))
    assert main(["plugins", "-p", str(files[0]), "list", "--json", "-p", str(files[1])]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names[-2:] == ["one", "two"]
    files[1].write_text("raise RuntimeError\n")
    assert main(["plugins", "-p", str(files[1]), "--strict-plugins", "list"]) == 2
    assert main(["plugins", "list", "-p", str(files[1]), "--strict-plugins"]) == 2
