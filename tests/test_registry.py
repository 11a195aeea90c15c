from __future__ import annotations

import sys
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.plugin_hash import source_hash
from skillneurons.registry import load_registry

GOOD = """
import skillneurons as sn

@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("words", lambda example, output: float(len(output.text.split()))))
"""


def write(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(text)
    return str(path)


def reason(path: str) -> str:
    (record,) = [record for record in load_registry([path]).records if record.file == path]
    assert record.status == "broken"
    return str(record.error)


def test_built_ins_come_through_the_same_door() -> None:
    registry = load_registry()
    assert {"arithmetic", "arithmetic-open", "hans", "skillmix"} <= set(registry.tasks)
    assert {"confidence", "labels", "heuristics"} <= set(registry.metrics)
    assert "pearson" in registry.attributions
    assert all(record.kind == "builtin" and record.source_hash for record in registry.records)


def test_a_file_a_folder_and_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "mine", GOOD)
    write(tmp_path, "_private", "raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    for name in (path, str(tmp_path), "mine"):
        registry = load_registry([name])
        assert registry.metric("words").per_example(None, sn.Output("a b c", 1.0, 0.0)) == 3.0  # type: ignore[arg-type]
        assert registry.records[-1].metrics == ("words",)


def test_a_plugin_that_raises_on_import_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "bad", "import skillneurons\n\nraise RuntimeError('no luck')\n")
    registry = load_registry([path])
    assert registry.warnings == [f"plugin bad ({path}:3) could not be loaded: RuntimeError: no luck"]
    assert "hans" in registry.tasks  # everything else goes on


def test_a_syntax_error_is_named_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "bad", "x = 1\ndef f(:\n")
    assert load_registry([path]).warnings[0].startswith(f"plugin bad ({path}:2) could not be loaded: SyntaxError")


def test_strict_raises(tmp_path: Path) -> None:
    path = write(tmp_path, "bad", "raise RuntimeError('no luck')\n")
    with pytest.raises(sn.PluginError, match="RuntimeError: no luck"):
        load_registry([path], strict=True)


def test_asking_for_what_a_broken_plugin_may_have_brought_gives_its_error(tmp_path: Path) -> None:
    path = write(tmp_path, "bad", "raise RuntimeError('no luck')\n")
    with pytest.raises(sn.UserError, match="no task named 'mine'.*perhaps it is of a broken plugin: .*no luck"):
        load_registry([path]).task("mine")


def test_a_plugin_that_registers_nothing(tmp_path: Path) -> None:
    assert reason(write(tmp_path, "empty", "x = 1\n")).startswith(
        "registers nothing; a plugin implements one of register_tasks"
    )
    silent = "import skillneurons as sn\n@sn.hookimpl\ndef register_tasks(register):\n    pass\n"
    assert reason(write(tmp_path, "silent", silent)) == "registers nothing: register_tasks never called register(...)"


def test_a_hook_without_its_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "unmarked", "def register_tasks(register):\n    pass\n")
    assert reason(path) == "register_tasks is not marked as a hook; put @skillneurons.hookimpl above it"


def test_a_name_already_taken_names_both_and_leaves_nothing_behind(tmp_path: Path) -> None:
    text = GOOD + "    register(sn.Metric('confidence', lambda example, output: 1.0))\n"
    path = write(tmp_path, "clash", text)
    assert reason(path).startswith("metric 'confidence' is already taken by plugin confidence 0")
    assert "confidence.py" in reason(path)
    assert "words" not in load_registry([path]).metrics


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("register('words')", "register_metrics: register takes a skillneurons.Metric, got str"),
        (
            "register(sn.Metric('../x', len))",
            "metric name '../x': use letters, digits, '.', '_', '-' (and '/' between parts)",
        ),
        ("register(sn.Metric('x', 3))", "metric 'x': per_example must be a function, got int"),
        (
            "register(sn.Metric('x', len, columns='ab'))",
            "metric 'x': columns is the text 'ab', not a list of names; write ('ab',)",
        ),
        (
            "register(sn.Metric('x', len, tasks=('hans')))",
            "metric 'x': tasks is the text 'hans', not a list of names; write ('hans',)",
        ),
        (
            "register(sn.Metric('x', len, needs='margin'))",
            "metric 'x': needs is the text 'margin', not a list of names; write ('margin',)",
        ),
    ],
)
def test_what_is_registered_is_checked(tmp_path: Path, line: str, message: str) -> None:
    text = f"import skillneurons as sn\n@sn.hookimpl\ndef register_metrics(register):\n    {line}\n"
    assert reason(write(tmp_path, "odd", text)) == message


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("label_columns='even'", "label_columns is the text 'even', not a list of names; write ('even',)"),
        ("primary='labels.even'", "primary is the text 'labels.even', not a list of names; write ('labels.even',)"),
        ("rivals={'a': 'b'}", "rivals['a'] is the text 'b', not a list of names; write ('b',)"),
    ],
)
def test_a_text_in_place_of_a_task_s_names_is_refused(tmp_path: Path, field: str, message: str) -> None:
    text = "import skillneurons as sn\n@sn.hookimpl\ndef register_tasks(register):\n"
    path = write(tmp_path, "odd", f"{text}    register(sn.Task('parity', '1', len, {field}))\n")
    assert reason(path) == f"task 'parity': {message}"


def test_two_plugins_of_one_name_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "confidence", GOOD)
    registry = load_registry([path])
    first, second = (one for one in registry.records if one.name == "confidence")
    assert registry.warnings == [] and "words" in registry.metrics
    assert registry.remarks == [
        f"plugin {second.label} has the name of plugin {first.label}; --no-plugin confidence leaves out both, so rename one"
    ]


def test_an_empty_plugin_name_is_refused() -> None:
    for name in ("", " "):
        with pytest.raises(sn.PluginError) as error:
            load_registry([name])
        assert str(error.value) == (
            f"plugin {name!r}: an empty name; give a file, a folder ('.' is this one) or an importable module"
        )


def test_a_hook_of_another_shape_is_refused(tmp_path: Path) -> None:
    text = "import skillneurons as sn\n@sn.hookimpl\ndef register_tasks(register, extra):\n    pass\n"
    assert "extra" in reason(write(tmp_path, "shape", text))


def test_a_blocked_plugin_is_not_even_imported(tmp_path: Path) -> None:
    path = write(tmp_path, "bad", "raise RuntimeError('no luck')\n")
    registry = load_registry([path], blocked=["bad", "hans"])
    assert registry.warnings == [] and "hans" not in registry.tasks
    assert [record.name for record in registry.records if record.status == "blocked"] == ["hans", "bad"]


def test_a_missing_path_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(sn.PluginError, match="no such file; give a file, a folder or an importable module"):
        load_registry([str(tmp_path / "nowhere.py")])
    with pytest.raises(sn.PluginError, match="has no \\*.py file"):
        load_registry([str(tmp_path)])


def test_a_file_may_import_the_files_beside_it_and_its_hash_follows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = write(tmp_path, "mine", GOOD + "import beside_mine\n")
    write(tmp_path, "beside_mine", "import deeper_mine\n")
    write(tmp_path, "deeper_mine", "x = 1\n")
    write(tmp_path, "stranger_mine", "x = 1\n")
    record = load_registry([path]).records[-1]
    assert record.status == "ok" and record.source_hash == source_hash(Path(path))
    write(tmp_path, "stranger_mine", "x = 2\n")
    assert source_hash(Path(path)) == record.source_hash
    write(tmp_path, "deeper_mine", "x = 2\n")
    assert source_hash(Path(path)) != record.source_hash


def test_two_files_of_one_name_are_never_confused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    paths = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "same_beside", "x = 1\n")
        metric = GOOD.replace("words", f"words-{folder}")
        paths.append(write(tmp_path / folder, f"plugin_{folder}", metric + "import same_beside\n"))
    records = load_registry(paths).records[-2:]
    assert [record.status for record in records] == ["ok", "broken"]
    assert records[1].error == (
        f"imports same_beside.py beside it, but {tmp_path / 'one' / 'same_beside.py'} has the same name; rename one"
    )


def test_a_failed_file_leaves_nothing_behind(tmp_path: Path) -> None:
    before = set(sys.modules), list(sys.path)
    load_registry([write(tmp_path, "bad", "raise RuntimeError('no luck')\n")])
    assert not {name for name in set(sys.modules) - before[0] if "plugin_bad" in name} and sys.path == before[1]


def test_a_broken_file_beside_is_the_one_named(tmp_path: Path) -> None:
    beside = write(tmp_path, "broken_beside", "x = 1\ndef f(:\n")
    path = write(tmp_path, "mine", "x = 1\nimport broken_beside\n")
    assert load_registry([path]).warnings == [
        f"plugin mine ({path}:2) could not be loaded: SyntaxError: invalid syntax ({beside}:2)"
    ]


def test_a_module_is_placed_in_its_own_file_or_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path, "stray_module", "import json\n\njson.loads('{')\n")
    assert (
        load_registry(["stray_module"])
        .warnings[0]
        .startswith(f"plugin stray_module ({path}:3) could not be loaded: JSONDecodeError: ")
    )
    for name in ("no_such_module", "no_such.module"):
        missing = name.partition(".")[0]
        assert load_registry([name]).warnings == [
            f"plugin {name} could not be loaded: ModuleNotFoundError: No module named {missing!r}"
        ]


@pytest.mark.parametrize("code", ["raise RuntimeError('no luck')\n", GOOD])
def test_an_installed_plugin_is_named_with_its_distribution(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "some_skills-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: some-skills\nVersion: 1.2\n")
    (folder / "entry_points.txt").write_text("[skillneurons]\nskills = some_skills_module\n")
    path = write(tmp_path, "some_skills_module", code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_skills_module", raising=False)
    registry = load_registry()
    (record,) = [record for record in registry.records if record.kind == "entry point"]
    assert (record.name, record.distribution, record.version) == ("skills", "some-skills", "1.2")
    assert (record.entry_point, record.file) == ("some_skills_module", path)
    if code == GOOD:
        assert record.metrics == ("words",) and record.status == "ok"
    else:
        assert registry.warnings == [f"plugin skills 1.2 ({path}:1) could not be loaded: RuntimeError: no luck"]
    blocked = load_registry(blocked=["skills"])
    assert blocked.warnings == [] and "words" not in blocked.metrics


def test_a_misspelt_hook(tmp_path: Path) -> None:
    text = GOOD + "\n@sn.hookimpl\ndef register_taskz(register):\n    pass\n"
    path = write(tmp_path, "misspelt", text)
    assert reason(path) == (
        "no hook named 'register_taskz'; did you mean 'register_tasks'? "
        "known: cell_finished, register_attributions, register_graders, register_metrics, register_tasks"
    )
    assert "words" not in load_registry([path]).metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'a..b', '1', list", "task name 'a..b': two dots in a row are not allowed in a name"),
        ("'x', '1', list, kind='open_ended'", "task 'x': kind 'open_ended' must be one of open, choice, generation"),
        ("'x', '1', 3", "task 'x': load must be a function, got int"),
        (
            "'x', '1', list, kind='generation'",
            "task 'x': a generation task needs grade(example, text), or rubric and marks",
        ),
    ],
)
def test_a_task_is_checked(tmp_path: Path, arguments: str, message: str) -> None:
    text = (
        f"import skillneurons as sn\n@sn.hookimpl\ndef register_tasks(register):\n    register(sn.Task({arguments}))\n"
    )
    assert reason(write(tmp_path, "odd", text)) == message


def test_a_statistic_is_checked(tmp_path: Path) -> None:
    text = "import skillneurons as sn\n@sn.hookimpl\ndef register_attributions(register):\n    register('x', 3)\n"
    assert reason(write(tmp_path, "odd", text)) == (
        "attribution 'x': factory must be a function (n_neurons, n_columns), got int"
    )


def test_an_observer_that_fails_is_reported_and_the_others_are_called(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    bad = write(
        tmp_path,
        "bad",
        "import skillneurons as sn\n@sn.hookimpl\ndef cell_finished(result):\n    raise ValueError('tired')\n",
    )
    good = write(
        tmp_path,
        "good",
        f"import pathlib\nimport skillneurons as sn\n@sn.hookimpl\ndef cell_finished(result):\n"
        f"    pathlib.Path({str(seen)!r}).write_text(result.key)\n",
    )

    class Cell:
        key = "k1"

    complaints = load_registry([bad, good]).notify("cell_finished", result=Cell())
    assert complaints == [f"plugin bad ({bad}:4) failed in hook cell_finished for cell k1: ValueError: tired"]
    assert seen.read_text() == "k1"


def test_a_hook_implemented_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "named.py"
    path.write_text(
        "import skillneurons as sn\n@sn.hookimpl(specname='register_metrics')\ndef words(register):\n"
        "    register(sn.Metric('words', lambda example, output: 1.0))\n"
    )
    assert "words" in load_registry([str(path)]).metrics
    path.write_text(path.read_text().replace("register_metrics", "register_metrix"))
    assert "no hook named 'register_metrix'; did you mean 'register_metrics'?" in load_registry([str(path)]).warnings[0]


def test_leaving_out_a_plugin_that_is_not_there_is_an_error() -> None:
    with pytest.raises(sn.UserError, match="no plugin named 'hanz'; did you mean 'hans'?"):
        load_registry(blocked=["hanz"])


def test_nearest_name() -> None:
    with pytest.raises(sn.UserError) as error:
        sn.get_task("hanz")
    assert str(error.value) == (
        "no task named 'hanz'; did you mean 'hans'? known: arithmetic, arithmetic-choice, arithmetic-open, hans, lm-eval, skillmix, skillmix-text"
    )
