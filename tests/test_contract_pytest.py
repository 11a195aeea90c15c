"""The contract as tests: a test file of one line, ``pytest --contract``, and the fixtures, each in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from contract_plugins import GOOD, TASK
from test_imports import loaded_by

ROOT = Path(__file__).parent.parent
BROKEN = "import skillneurons as sn\n\n1 / 0\n"
ONE_LINE = "from skillneurons.testing import contract\n\ntest_contract = contract({plugin!r})\n"
END_TO_END = """
def test_a_row(run_plugin, skillneurons_model):
    [result] = run_plugin({plugin!r}, overrides=["prompt.steps=2"])
    assert (result.status, result.metric["name"], result.task["name"]) == ("ok", "confidence", "parity")
    assert result.n_neurons == skillneurons_model.n_neurons
    assert result.causal is None
"""


def run_pytest(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a pytest in a folder, with the plugin of this package alone; return its exit code and what it says."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "skillneurons.testing.pytest_plugin",
            "-p",
            "no:cacheprovider",
            *arguments,
        ],
        cwd=folder,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, re.sub(r" in [0-9.]+s.*", "", done.stdout + done.stderr)


def test_a_test_file_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "has_word.py").write_text(GOOD["grader"])
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "test_good.py").write_text(ONE_LINE.format(plugin="has_word.py"))
    (tmp_path / "test_broken.py").write_text(ONE_LINE.format(plugin="broken.py"))
    (tmp_path / "test_nobody.py").write_text(ONE_LINE.format(plugin="nobody.py"))
    code, said = run_pytest(tmp_path, "-v", "-W", "error")
    assert code == 1
    assert "test_good.py::test_contract[grader has_word: points] PASSED" in said
    assert "test_good.py::test_contract[plugin has_word: light] PASSED" in said
    assert "test_broken.py::test_contract[plugin broken: loads] FAILED" in said
    assert "plugin broken (broken.py:3) could not be loaded: ZeroDivisionError: division by zero\n" in said
    assert "test_nobody.py::test_contract[plugin nobody.py: loads] FAILED" in said
    assert "plugin 'nobody.py': no such file; give a file, a folder or an importable module\n" in said
    assert "2 failed, 8 passed" in said


def test_the_option_needs_no_test_file(tmp_path: Path) -> None:
    (tmp_path / "has_word.py").write_text(GOOD["grader"])
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    code, said = run_pytest(tmp_path, "-v", "-W", "error", "--contract", "has_word.py", "--contract", "nobody")
    assert code == 1
    assert "contract::grader has_word: points PASSED" in said
    assert "contract::plugin nobody: loads FAILED" in said
    assert "no plugin named 'nobody'; known: arithmetic, " in said
    assert "1 failed, 8 passed" in said
    assert "test_other" not in said
    code, said = run_pytest(tmp_path, "-v", "test_other.py", "--contract", "has_word.py")
    assert code == 0
    assert "test_other.py::test_other PASSED" in said
    assert "9 passed" in said


def test_the_fixtures_run_a_plugin_end_to_end(tmp_path: Path) -> None:
    source = TASK + '\n\n@sn.hookimpl\ndef register_tasks(register):\n    register(sn.Task("parity", "1", load))\n'
    (tmp_path / "parity.py").write_text(source)
    (tmp_path / "test_parity.py").write_text(END_TO_END.format(plugin="parity.py"))
    code, said = run_pytest(tmp_path)
    assert (code, "1 passed" in said) == (0, True), said


def test_it_is_found_by_pytest_where_the_package_is_installed() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["pytest11"] == {"skillneurons": "skillneurons.testing.pytest_plugin"}


def test_it_loads_nothing_heavy_and_the_kit_needs_no_pytest() -> None:
    assert loaded_by("import skillneurons.testing.pytest_plugin") == set()
    assert loaded_by("import skillneurons.testing\nassert 'pytest' not in sys.modules") == set()


def test_a_pytest_that_has_nothing_to_do_with_it_loads_three_modules() -> None:
    line = (
        "import sys, skillneurons.testing.pytest_plugin\n"
        "print(*sorted(name for name in sys.modules if name.partition('.')[0] in ('skillneurons', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["skillneurons", "skillneurons.testing", "skillneurons.testing.pytest_plugin"]


def test_the_kit_has_its_names_and_no_others() -> None:
    import skillneurons.testing as kit

    assert {"Check", "Finding", "check_plugin", "contract", "known_checks"} <= set(dir(kit))
    with pytest.raises(AttributeError) as error:
        kit.made_up  # noqa: B018 - the name is what is tried
    assert str(error.value) == "module 'skillneurons.testing' has no attribute 'made_up'"


def test_running_a_plugin_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    from skillneurons.errors import PluginError
    from skillneurons.testing.end_to_end import run_small

    (tmp_path / "broken.py").write_text(BROKEN)
    with pytest.raises(PluginError) as error:
        run_small(str(tmp_path / "broken.py"), tmp_path, {}, {})
    place = f"{tmp_path / 'broken.py'}:3"
    assert str(error.value) == f"plugin broken ({place}) could not be loaded: ZeroDivisionError: division by zero"
