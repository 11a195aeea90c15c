"""Each check of the contract catches the plugin that is broken in this one way, and lets good ones pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from contract_plugins import BROKEN, BROKEN_PLUGINS, GOOD
from skillneurons.errors import PluginError, UnknownNameError
from skillneurons.plugin_loading import BUILTINS
from skillneurons.testing import Finding, check_plugin, known_checks
from skillneurons.testing.checks import KINDS, Check, NotApplicable
from skillneurons.testing.text_checks import fault_of, token_fault

EXPECTED = {  # by subject: the one check that fails, and what it says
    "task loads": (
        "loads",
        "task 'loads', train example 0 ('2'): an example of a choice task needs two or more choices with the target among them, got target 'maybe' and choices ('yes', 'no')",
    ),
    "task loads-list": (
        "loads",
        "task 'loads-list', train example 0 ('2'): choices must be a tuple, got ['yes', 'no']; write ('yes', 'no')",
    ),
    "task loads-nothing": (
        "loads",
        "task 'loads-nothing': load gives None for its train split; it must return a list of skillneurons.Example",
    ),
    "task loads-unlike": (
        "loads",
        "task 'loads-unlike': load cannot be called as load('train', limit=1, seed=0) (got an unexpected keyword argument 'limit'); define it as load(split, *, limit=None, seed=0)",
    ),
    "task loads-no-data": (
        "loads",
        "cannot find parity.csv; with its default options a task works from what it generates, or from files it brings",
    ),
    "task loads-raises": (
        "loads",
        "plugin broken_tasks (FILE:50) failed in hook register_tasks (task 'loads-raises', load, train split): AttributeError: 'Example' object has no attribute 'word'",
    ),
    "task options": (
        "options",
        "task 'options': declares the option 'k', but load does not take it (got an unexpected keyword argument 'k'); add the keyword",
    ),
    "task options-default": (
        "options",
        "task 'options-default': load gives another example with the declared defaults ('Is 2 a multiple of 1?') than without options ('Is 2 a multiple of 2?'); declare the defaults that load has",
    ),
    "task subtasks": (
        "subtasks",
        "task 'subtasks': subtask 'of-5' fixes 'm', which is no option of the task; declare it",
    ),
    "task splits": (
        "splits",
        "task 'splits': group 'all' stands in train and in validation; a group belongs to one split (skillneurons.split_by_group assigns it)",
    ),
    "task splits-copied": (
        "splits",
        "task 'splits-copied': 'train-0' in train and 'validation-0' in validation are the same item ('Is 0 even?'); give both one group, which belongs to one split",
    ),
    "task splits-copied-late": (
        "splits",
        "task 'splits-copied-late': 'train-2000' in train and 'validation-2000' in validation are the same item ('Is 2000 odd or even?'); give both one group, which belongs to one split",
    ),
    "task limit": (
        "limit",
        "task 'limit': its train split has 338 examples with limit 1, and 120 with limit 120; limit=N gives N of them, or all where there are fewer",
    ),
    "task same-seed": (
        "same seed",
        "task 'same-seed': train example 0 ('2') differs when it is loaded again; draw from random.Random(seed) alone, and sort what comes from a set",
    ),
    "task same-seed-elsewhere": (
        "same seed",
        "task 'same-seed-elsewhere': train example 0 ('2') differs in a fresh process with another PYTHONHASHSEED; draw from random.Random(seed) alone, and sort what comes from a set",
    ),
    "task same-seed-everywhere": (
        "same seed",
        "task 'same-seed-everywhere': load changes the state of random, which is everybody's; draw from random.Random(seed) alone",
    ),
    "task stable-ids": (
        "stable ids",
        "task 'stable-ids': the id 'train/0' is 'Is 649 even?' (seed 0, limit 120, train) and 'Is 778 even?' (seed 1, limit 120, train); make the id from the content (skillneurons.stable_hash), or give both one group",
    ),
    "task chance": (
        "chance",
        "task 'chance': chance is declared 0.25, but a guess among the choices is right 0.500 of the time",
    ),
    "task chance-place": (
        "chance",
        "task 'chance-place': always the choice at place 0 is right for 1.000 of 240 examples where a guess is 0.500; put the target in another place and spread it over the answers",
    ),
    "task balance": (
        "balance",
        "task 'balance': 'yes' is the answer of 0 of the first 120 train examples, where an even share is 60; shuffle by the seed before [:limit], and balance the answers",
    ),
    "task can-be-passed": (
        "can be passed",
        "task 'can-be-passed', example '0': its own target '1' is graded 0; grade must give correct = 1 to the expected answer",
    ),
    "task can-be-passed-text": (
        "can be passed",
        "task 'can-be-passed-text': no target is graded as right (the best of 50 has correct = 0.5), so nobody can pass it; grade must give correct = 1 to an expected answer",
    ),
    "task can-be-failed": (
        "can be failed",
        "task 'can-be-failed', example '0': every answer is right, even 'zxqv ...' and an empty text; grade must tell right from wrong",
    ),
    "task grades": (
        "grades",
        "task 'grades', example '0', text '1': grade gives correct = 2; it must be from 0 to 1, or NaN where it is not scored",
    ),
    "task labels": (
        "labels",
        "task 'labels': the label 'never' is declared, but NaN or absent for each of 240 examples; give it, or leave it out of Task.label_columns",
    ),
    "task text-round-trips": (
        "text round-trips",
        "task 'text-round-trips', train example '2': its prompt 'Is café 2 open?' is not in Unicode's NFC form, into which many tokenizers put it; use unicodedata.normalize('NFC', text)",
    ),
    "task text-round-trips-token": (
        "text round-trips",
        "task 'text-round-trips-token', train example '2': its prompt 'Is 2 over?<|endoftext|>' comes back from the embedded tokenizer as 'Is 2 over?'; leave special tokens such as <|endoftext|> out",
    ),
    "metric needs": (
        "needs",
        "metric 'needs': needs 'logits', which no Output has, so it is never scored; fields: text, correct, target_log_prob, choice_log_probs, predicted, n_target_tokens, predicted_log_prob, margin, entropy, labels",
    ),
    "metric tasks": (
        "tasks",
        "metric 'tasks': no task named 'arithmetik'; did you mean 'arithmetic'? known: arithmetic, arithmetic-choice, arithmetic-open, hans, lm-eval, skillmix, skillmix-text; none of Metric.tasks is there, so it is never measured",
    ),
    "metric runs": (
        "runs",
        "metric 'runs', task 'arithmetic-open', example '1_digit_addition/6/2', the target: plugin broken_metrics (FILE:23) failed in hook register_metrics (<lambda>): TypeError: 'NoneType' object is not subscriptable; a metric gives a number for every answer, or math.nan, and names what it cannot do without in Metric.needs",
    ),
    "metric columns": (
        "columns",
        "metric 'columns', example '3_digit_multiplication/291/876/right': returned other columns than declared (unexpected [], missing ['columns.b']); return a number, or a mapping with the columns of Metric.columns",
    ),
    "metric numbers": (
        "numbers",
        "metric 'numbers', example '1_digit_addition/6/2': numbers must be one finite number or NaN, got inf (an empty text)",
    ),
    "metric scored": (
        "scored",
        "metric 'scored': scored is NaN for every answer of task 'arithmetic', which it applies to; give a number, or leave the task out (Metric.tasks, or columns as a function of the task)",
    ),
    "metric deterministic": (
        "deterministic",
        "metric 'deterministic': task 'arithmetic', example '3_digit_multiplication/291/876/right', right and sure differs in a fresh process with another PYTHONHASHSEED; use skillneurons.stable_hash, not hash()",
    ),
    "metric batch-invariance": (
        "batch invariance",
        "metric 'batch-invariance', task 'arithmetic', example '2_digit_multiplication/98/80/right', wrong and unsure: gives [1.0], and [0.0] after other examples; keep nothing between calls",
    ),
    "metric leaves-its-input": (
        "leaves its input",
        "metric 'leaves-its-input', task 'arithmetic', example '3_digit_multiplication/291/876/right', right and sure: changes the example it is given; work on a copy (dict(example.fields))",
    ),
    "attribution shape": (
        "shape",
        "attribution 'shape': result() gives shape (12, 3) of float64; it must be a float array of shape (columns, neurons), here (3, 12)",
    ),
    "attribution deterministic": (
        "deterministic",
        "attribution 'deterministic': result() differs in a fresh process with another PYTHONHASHSEED; use nothing of hash() or time",
    ),
    "attribution batch-invariance": (
        "batch invariance",
        "attribution 'batch-invariance': result() in batches of 7 differs from one update by 21 of its largest number; keep sums (or the rows), never a mean of batches",
    ),
    "attribution merge": (
        "merge",
        "attribution 'merge': result() of rows 0 to 75 merged with the rest differs from all rows at once by 1.4 of its largest number; merge must add all that update adds",
    ),
    "attribution not-scored": (
        "not scored",
        "attribution 'not-scored': result() of a column with NaN is not that of its scored rows alone; a NaN value is a row that is not there for this column",
    ),
    "attribution not-scored-elsewhere": (
        "not scored",
        "attribution 'not-scored-elsewhere': result() of a column changes when another column has NaN; leave the row out of the column with NaN alone",
    ),
    "attribution leaves-its-input": (
        "leaves its input",
        "attribution 'leaves-its-input': changes the activations it is given, which other statistics read too; work on a copy",
    ),
    "attribution constant-neuron": (
        "constant neuron",
        "attribution 'constant-neuron': a neuron that is 2.5 in every row has effect 0.0025 for column 0; it tells nothing of any value, so its effect is 0 or NaN (take the mean off the activations)",
    ),
    "attribution planted-neuron": (
        "planted neuron",
        "attribution 'planted-neuron': of 12 neurons one all but equals the column and one its negative; their effects are 0.2496 and 0.2492, the largest of the others 0.07264; effect() is signed and largest where the relation is closest",
    ),
    "grader make": (
        "make",
        "grader 'make': declares the option 'word', but make does not take it (got an unexpected keyword argument 'word'); add the keyword",
    ),
    "grader light-make": (
        "light make",
        "grader 'light-make': make loads scipy; load what is heavy when the first text is graded",
    ),
    "grader points": (
        "points",
        "grader 'points', example 'Beekeeping/modus_ponens/statistical_syllogism', text 'If the honeycomb breaks the beekeeper stops , and it breaks , so the beekeeper stops .': 'modus_ponens' gets 2.0; a point is 1, 0 or NaN",
    ),
    "grader deterministic": (
        "deterministic",
        "grader 'deterministic': the points of example 'Sewing/complex_question/statistical_syllogism', text 'Why does the seamstress still hide the broken hem ?' differ when it is graded again; a synthetic grader goes by the text alone",
    ),
}

Found = dict[str, dict[str, list[tuple[str, str]]]]


def failures(plugin: str) -> list[tuple[str, str, str]]:
    return [(one.subject, one.check, one.message) for one in check_plugin(plugin) if one.status == "failed"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Return, by kind and subject, the checks that fail, of plugins that register one broken thing per check."""
    folder = tmp_path_factory.mktemp("broken")
    by_kind: Found = {}
    for kind, source in BROKEN.items():
        file = folder / f"broken_{kind}s.py"
        file.write_text(source, encoding="utf-8")
        by_kind[kind] = {}
        for subject, check, message in failures(str(file)):
            by_kind[kind].setdefault(subject, []).append((check, message.replace(str(file), "FILE")))
    return by_kind


@pytest.mark.parametrize("subject", EXPECTED)
def test_a_broken_part_is_caught_by_its_check_alone(subject: str, found: Found) -> None:
    assert found[subject.partition(" ")[0]][subject] == [EXPECTED[subject]]


def test_nothing_else_of_the_broken_plugins_fails(found: Found) -> None:
    assert {subject for subjects in found.values() for subject in subjects} == set(EXPECTED)


PLUGINS = {  # by check: what it says of the plugin broken in this way
    "loads": "plugin {name} ({file}:3) could not be loaded: ZeroDivisionError: division by zero",
    "light": (
        "plugin {name}: importing and registering it loads scipy; every command waits for that, so import heavy "
        "libraries inside the functions that use them"
    ),
    "same names": (
        "plugin {name}: registers the graders {mine}, in a fresh process {theirs}; names must not depend on hash(), the "
        "time or chance"
    ),
    "texts": (
        "grader has_word: version 2 must be a text that is not empty, such as '1'; it tells results of old data from new ones"
    ),
}


@pytest.mark.parametrize("check", PLUGINS)
def test_a_broken_plugin_is_caught_by_its_check_alone(check: str, tmp_path: Path) -> None:
    file = tmp_path / f"broken_{check.replace(' ', '_')}.py"
    file.write_text(BROKEN_PLUGINS[check], encoding="utf-8")
    [(subject, name, message)] = failures(str(file))
    words = message.replace(",", "").replace(";", "").split()
    mine, theirs = ([*[word for word in words if word.startswith("word-")], "", ""])[:2]
    assert (subject, name) == (f"plugin {file.stem}", check)
    assert mine != theirs or not mine
    assert message == PLUGINS[check].format(name=file.stem, file=file, mine=mine, theirs=theirs)


HEAVY = (
    "plugin {name}: importing and registering it loads scipy; every command waits for that, so import heavy libraries "
    "inside the functions that use them"
)


def test_a_broken_file_leaves_the_good_ones_beside_it_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a_broken.py").write_text(BROKEN_PLUGINS["loads"])
    (tmp_path / "b_good.py").write_text(GOOD["metric"])
    (tmp_path / "c_good.py").write_text(GOOD["grader"])
    place = f"{tmp_path / 'a_broken.py'}:3"
    assert failures(str(tmp_path)) == [
        (
            "plugin a_broken",
            "loads",
            f"plugin a_broken ({place}) could not be loaded: ZeroDivisionError: division by zero",
        )
    ]


def test_each_heavy_plugin_of_a_folder_is_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("import scipy\n" + GOOD["metric"].replace('"shouting"', f'"{name}"'))
    assert failures(str(tmp_path)) == [(f"plugin {name}", "light", HEAVY.format(name=name)) for name in ("one", "two")]


ELSEWHERE = f"""import os
import skillneurons as sn

if os.getpid() != {{pid}}:
    {{instead}}
{GOOD["metric"]}"""


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (
            "raise RuntimeError('not here')",
            "importing it in a fresh process fails: RuntimeError: not here; it must not depend on what is loaded already",
        ),
        (
            "os._exit(3)",
            "a fresh process that loads it ends with exit code 3: no message; importing must end, and leave the process alone",
        ),
        (
            "import time; time.sleep(60)",
            "a fresh process that loads it has not ended after 3 seconds; importing must end, and leave the process alone",
        ),
    ],
)
def test_what_goes_wrong_in_a_fresh_process_alone(
    instead: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in instead:
        monkeypatch.setattr("skillneurons.testing.fresh.LONGEST", 3)
    file = tmp_path / "homely.py"
    file.write_text(ELSEWHERE.replace("{pid}", str(os.getpid())).replace("{instead}", instead))
    found = {(one.subject, one.check): one for one in check_plugin(str(file)) if one.status != "ok"}
    assert found["plugin homely", "light"].message == f"plugin homely: {said}"
    if "RuntimeError" not in said:
        assert [one.check for one in found.values() if one.status == "failed"] == ["light"]
        assert found["plugin homely", "same names"].message == "a fresh process says nothing of it (see light)"


def test_every_check_has_a_broken_plugin() -> None:
    tested = {("plugin", name) for name in PLUGINS}
    tested |= {(subject.partition(" ")[0], check) for subject, (check, _) in EXPECTED.items()}
    assert tested == {(one.kind, one.name) for one in known_checks()}


def test_every_check_says_its_rule_in_a_line_of_its_own() -> None:
    rules = [one.doc for one in known_checks()]
    assert all(rules) and len(set(rules)) == len(rules)


def test_checks_stand_in_one_order_whatever_was_imported_first() -> None:
    line = (
        "import skillneurons.testing.text_checks, skillneurons.testing.grader_checks\n"
        "from skillneurons.testing import known_checks\n"
        "print([(one.kind, one.name) for one in known_checks()])"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[(one.kind, one.name) for one in known_checks()]}\n"
    assert list(dict.fromkeys(one.kind for one in known_checks())) == list(KINDS)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_plugin_of_ten_lines_passes(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"good_{kind}.py"
    file.write_text(GOOD[kind], encoding="utf-8")
    findings = check_plugin(str(file))
    assert [one for one in findings if one.status == "failed"] == []
    assert {one.check for one in findings if one.subject.startswith(f"{kind} ")} == {c.name for c in known_checks(kind)}  # type: ignore[arg-type]


def test_the_plugins_of_contributing_md_pass(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "@sn.hookimpl" in block]
    for number, block in enumerate(blocks):
        (tmp_path / f"plugin_{number}.py").write_text(block, encoding="utf-8")
    findings = check_plugin(str(tmp_path))
    assert [one for one in findings if one.status == "failed"] == []
    assert {one.subject.split()[0] for one in findings} == set(KINDS)


@pytest.mark.parametrize("name", [name.rpartition(".")[2] for name in BUILTINS])
def test_every_built_in_keeps_the_contract(name: str) -> None:
    findings = check_plugin(name)
    assert [one for one in findings if one.status == "failed"] == []
    alone = name == "lm_eval"  # a family of tasks, of which none is listed
    assert (len(findings) == len(known_checks("plugin"))) == alone


def test_no_such_plugin(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as unknown:
        check_plugin("hanz")
    assert str(unknown.value).startswith("no plugin named 'hanz'; did you mean 'hans'? known: arithmetic, auroc, ")
    assert str(unknown.value).endswith("; or give a file, a folder or an importable module")
    with pytest.raises(PluginError) as absent:
        check_plugin("absent.py")
    assert str(absent.value) == "plugin 'absent.py': no such file; give a file, a folder or an importable module"
    with pytest.raises(PluginError) as nameless:
        check_plugin("")
    assert str(nameless.value) == (
        "plugin '': an empty name; give a file, a folder ('.' is this one) or an importable module"
    )
    with pytest.raises(PluginError) as empty:
        check_plugin(str(tmp_path))
    assert (
        str(empty.value)
        == f"plugin folder {str(tmp_path)!r} has no *.py file (names beginning with '_' are passed over)"
    )


def test_a_plugin_is_a_name_a_module_a_file_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import skillneurons.plugins.predictivity as builtin

    by_name = check_plugin("predictivity")
    assert check_plugin("skillneurons.plugins.predictivity") == by_name == check_plugin(str(builtin.__file__))
    (tmp_path / "has_word_grader.py").write_text(GOOD["grader"], encoding="utf-8")
    (tmp_path / "covariance_statistic.py").write_text(GOOD["attribution"], encoding="utf-8")
    subjects = ["plugin covariance_statistic", "plugin has_word_grader", "attribution covariance", "grader has_word"]
    assert list(dict.fromkeys(one.subject for one in check_plugin(str(tmp_path)))) == subjects
    monkeypatch.syspath_prepend(tmp_path)
    assert {one.subject for one in check_plugin("has_word_grader")} == {"plugin has_word_grader", "grader has_word"}


def test_what_a_check_raises_is_its_finding() -> None:
    def fails(case: object) -> str | None:
        raise ValueError("no\nnumber")

    def passes_over(case: object) -> str | None:
        raise NotApplicable("nothing to see")

    assert Check("task", "limit", "the rule", fails).of("task x", None) == Finding(
        "task x", "limit", "failed", "task x: ValueError: no number; the rule"
    )
    assert Check("task", "limit", "the rule", passes_over).of("task x", None) == Finding(
        "task x", "limit", "skipped", "nothing to see"
    )


def test_texts_that_do_not_round_trip() -> None:
    assert fault_of("caf\u00e9") == token_fault("caf\u00e9 12\n") == ""
    lone = "cannot be written as UTF-8 (surrogates not allowed at 1); decode the source with its own encoding"
    assert fault_of("a\ud800") == lone
    assert token_fault("") == "has no token; give a text that the model can read"
