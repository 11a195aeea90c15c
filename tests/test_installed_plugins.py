"""Real distributions, built and installed here: what the command says of good and of broken ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import skillneurons
from distributions import Distribution, command, install

GOOD = Distribution(
    "good-skills",
    "1.2",
    "good = 'good_skills'",
    {
        "good_skills/__init__.py": """import warnings

import skillneurons as sn
from good_skills.words import count

print("good morning")
warnings.warn("these words are few", stacklevel=1)


@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("words", count))
""",
        "good_skills/words.py": "def count(example, output):\n    return float(len(output.text.split()))\n",
    },
    requires=["skillneurons>=0.1"],
)
BROKEN = Distribution("broken-skills", "0.3", "broken = 'broken_skills'", {"broken_skills.py": "x = 1\nprint(x / 0)\n"})
TWICE = Distribution(
    "twice-skills",
    "2.0",
    "twice = 'twice_skills'",
    {
        "twice_skills.py": """import skillneurons as sn


@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("more_words", lambda example, output: 1.0))
    register(sn.Metric("words", lambda example, output: 2.0))
"""
    },
)
OLD = Distribution(
    "old-skills",
    "0.1",
    "old = 'old_skills'",
    {
        "old_skills.py": """import skillneurons as sn


@sn.hookimpl
def register_tasks(register):
    register(sn.Task(name="older", version="1", loader=list))
"""
    },
    requires=["skillneurons<0.1"],
)
HALF = Distribution(
    "half-skills",
    "1.0",
    "half = 'half_skills:plugin'",
    {
        "half_skills.py": """import sys

import skillneurons as sn


class Plugin:
    @sn.hookimpl
    def register_metrics(self, register):
        sys.exit("no more")

    @sn.hookimpl
    def register_tasks(self, register):
        register(sn.Task("half", "1", lambda split, *, limit=None, seed=0: []))

    @sn.hookimpl
    def cell_finished(self, result):
        raise ValueError("never called")


plugin = Plugin()
"""
    },
)
VERSION = skillneurons.__version__
STRANGERS = ("broken", "good", "half", "old", "twice")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install([GOOD, BROKEN, TWICE, OLD, HALF], tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="session")
def warnings_of(site: Path) -> dict[str, str]:
    """Return the line that is said of each plugin."""
    return {
        "broken": f"plugin broken 0.3 ({site}/broken_skills.py:2) could not be loaded: ZeroDivisionError: division by zero",
        "half": f"plugin half 1.0 ({site}/half_skills.py:9) could not be loaded: SystemExit: no more",
        "old": f"plugin old 0.1 ({site}/old_skills.py:6) could not be loaded: TypeError: Task.__init__() got an unexpected "
        f"keyword argument 'loader'; skillneurons.Task of {VERSION} takes name, version, load, kind, source, licence, "
        "chance, max_new_tokens, description, options, label_columns, grade, form, sizes, subtasks, score, predictions, "
        "follow_up, rubric, marks, tuned_on, fit, rivals, primary, family; did you mean 'load'? "
        f"(it asks for skillneurons<0.1, this is {VERSION})",
        "twice": f"plugin twice 2.0 ({site}/twice_skills.py:7) could not be loaded: metric 'words' is already taken by plugin "
        f"good 1.2 ({site}/good_skills/__init__.py:10); choose another name",
        "good": f"plugin good 1.2 ({site}/good_skills/__init__.py:10) warns: UserWarning: these words are few "
        f"({site}/good_skills/__init__.py:7)",
    }


def said(lines: list[str]) -> str:
    return "".join(f"skillneurons: warning: {line}\n" for line in lines)


def strangers(printed: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in json.loads(printed) if row["name"] in STRANGERS}


def test_plugins_list_tells_everything_of_each(site: Path, warnings_of: dict[str, str]) -> None:
    done = command(site, "plugins", "list", "--json")
    assert done.returncode == 0
    assert done.stderr == "good morning\n" + said([warnings_of[n] for n in ("broken", "half", "old", "twice", "good")])
    rows = strangers(done.stdout)
    assert tuple(rows) == STRANGERS
    good = rows["good"]
    assert len(good.pop("source_hash")) == 16
    assert good == {
        "name": "good",
        "kind": "entry point",
        "status": "ok",
        "distribution": "good-skills",
        "version": "1.2",
        "entry_point": "good_skills",
        "file": f"{site}/good_skills/__init__.py",
        "line": 10,
        "error": None,
        "reason": None,
        "hooks": ["register_metrics"],
        "tasks": [],
        "metrics": ["words"],
        "attributions": [],
        "graders": [],
        "warned": [f"UserWarning: these words are few ({site}/good_skills/__init__.py:7)"],
    }
    for name in ("broken", "half", "old", "twice"):
        row = rows[name]
        place = f"plugin {name} {row['version']} ({row['file']}:{row['line']}) could not be loaded: "
        assert place + row["reason"] == warnings_of[name] and row["error"] == row["reason"]
        assert row["status"] == "broken" and row["distribution"] == f"{name}-skills"
        assert not any(row[kind] for kind in ("tasks", "metrics", "attributions", "graders", "hooks"))


def test_the_hash_follows_the_modules_of_a_package(site: Path) -> None:
    def hash_now() -> str:
        return str(strangers(command(site, "plugins", "list", "--json").stdout)["good"]["source_hash"])

    words = site / "good_skills" / "words.py"
    before, text = hash_now(), words.read_text()
    words.write_text(text + "# changed\n")
    assert hash_now() != before
    words.write_text(text)
    assert hash_now() == before


def test_every_other_command_goes_on_and_nothing_is_half_there(site: Path, warnings_of: dict[str, str]) -> None:
    done = command(site, "list", "metrics", "--json")
    assert done.returncode == 0
    named = {row["name"]: row["plugin"] for row in json.loads(done.stdout)}
    assert named["words"] == "good" and "more_words" not in named and "confidence" in named
    done = command(site, "list", "tasks", "--json")
    assert done.returncode == 0 and "half" not in {row["name"] for row in json.loads(done.stdout)}
    done = command(site, "validate", "demo")
    assert (done.returncode, done.stdout) == (0, "ok: 15 cells\n")


def test_asking_for_what_is_not_there_names_the_broken_plugins(
    site: Path, warnings_of: dict[str, str], tmp_path: Path
) -> None:
    done = command(site, "run", "-t", "half", "--dry-run", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    told = "; ".join(warnings_of[name] for name in ("broken", "half", "old", "twice"))
    assert "skillneurons: error: command line: tasks.half: no task named 'half'; known: arithmetic, " in done.stderr
    assert f"perhaps it is of a broken plugin: {told}\n" in done.stderr


def test_strict_plugins_ends_with_all_of_them(site: Path, warnings_of: dict[str, str]) -> None:
    done = command(site, "list", "metrics", "--strict-plugins")
    assert (done.returncode, done.stdout) == (2, "")
    told = "\n".join(warnings_of[name] for name in ("broken", "half", "old", "twice"))
    assert done.stderr == "good morning\n" + f"skillneurons: error: {told}\n"


def test_a_plugin_that_is_left_out_is_not_imported(site: Path, warnings_of: dict[str, str]) -> None:
    out = [word for name in ("good", "broken", "half", "old") for word in ("--no-plugin", name)]
    done = command(site, "plugins", "list", "--json", "--strict-plugins", *out)
    assert (done.returncode, done.stderr) == (0, "")
    rows = strangers(done.stdout)
    assert {name: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys(("broken", "good", "half", "old"), "blocked"),
        "twice": "ok",
    }
    assert rows["twice"]["metrics"] == ["more_words", "words"]  # its name is free now
    assert rows["good"]["reason"] == "left out by --no-plugin good" and rows["good"]["file"] is None
    done = command(site, "list", "metrics", "--no-plugin", "god")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "skillneurons: error: no plugin named 'god'; did you mean 'good'? known: arithmetic, auroc, "
    )


def test_without_them_nothing_is_said(tmp_path: Path) -> None:
    done = command(None, "plugins", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "") and strangers(done.stdout) == {}


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        (
            "entry_points.txt",
            b"[skillneurons]\njust_a_module\n",
            "entry point 'just_a_module' is not of the form 'name = module' or 'name = module:object'",
        ),
        (
            "entry_points.txt",
            b"[skillneurons]\nx = a b\n",
            "entry point 'x = a b' is not of the form 'name = module' or 'name = module:object'",
        ),
        (
            "entry_points.txt",
            b"[skillneurons]\n\xff = x\n",
            "its entry_points.txt is not UTF-8 text (invalid start byte, byte 15); install it again",
        ),
        ("METADATA", b"\xff\xfe", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("METADATA", b"", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_damaged_metadata_is_told_and_hides_no_other_plugin(
    site: Path, tmp_path: Path, file: str, text: bytes, reason: str
) -> None:
    folder = tmp_path / "odd-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_bytes(b"Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_bytes(b"[skillneurons]\nodd = nowhere_at_all\n")
    (folder / file).write_bytes(text)
    done = command(Path(f"{tmp_path}:{site}"), "plugins", "list", "--json")
    assert done.returncode == 0
    rows = json.loads(done.stdout)
    assert [row["reason"] for row in rows if row["status"] == "broken" and row["reason"] == reason] == [reason]
    assert "good" in {row["name"] for row in rows if row["status"] == "ok"}
