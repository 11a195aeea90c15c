"""Tasks of lm-evaluation-harness: the same examples, log-probabilities and grades as that harness has itself."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from lm_eval_files import LARGER, SUMS, write_rows, write_tasks
from skillneurons.cli import main
from skillneurons.examples import load_splits
from skillneurons.predict import predict
from skillneurons.task_setup import set_up, with_options
from skillneurons.types import SPLITS

pytest.importorskip("lm_eval", reason="needs the package lm-eval")
EVERYTHING = dict.fromkeys(SPLITS, 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("lm_eval") / "mine")


def ready(name: str, folder: Path, **options: Any) -> sn.Task:
    return set_up(sn.load_registry(strict=True), f"lm-eval/{name}", {"path": str(folder), **options}).task


def everything(task: sn.Task) -> list[sn.Example]:
    return [example for split in SPLITS for example in task.load(split)]


def refused(name: str, place: Path | None, **options: Any) -> str:
    given = options if place is None else {"path": str(place), **options}
    with pytest.raises(sn.UserError) as error:
        task = set_up(sn.load_registry(), f"lm-eval/{name}" if name else "lm-eval", given).task
        load_splits(task, EVERYTHING, seed=0, options=given)
    return str(error.value)


@pytest.fixture(scope="module")
def reference(folder: Path, model_folder: Callable[[str], Path]) -> dict[str, list[dict[str, Any]]]:
    """Return what that harness itself measures of the tiny model, document by document."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of its own evaluation
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model_folder("qwen2")), "dtype": "float32"},
            tasks=["larger", "sums"],
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            device="cpu",
            batch_size=4,
            log_samples=True,
            bootstrap_iters=0,
        )
    assert found is not None
    samples: dict[str, list[dict[str, Any]]] = found["samples"]
    return samples


def test_choices_are_those_of_the_harness_and_so_are_their_log_probabilities(
    folder: Path, reference: Mapping[str, list[dict[str, Any]]], qwen: sn.LanguageModel
) -> None:
    task = ready("larger", folder)
    examples = [*task.load("discovery"), *task.load("heldout")]
    theirs = {sample["arguments"][0][0].strip(): sample for sample in reference["larger"]}
    assert len(examples) == len(theirs) == len(reference["larger"])
    predictions = predict(qwen, task, examples)
    for one in predictions:
        sample = theirs[one.example.prompt]
        asked = [context + continuation for context, continuation in sample["arguments"]]
        assert [one.example.prompt + choice for choice in one.example.choices or ()] == asked
        assert one.output.choice_log_probs == pytest.approx([lp for ((lp, _),) in sample["resps"]], rel=1e-4)
        assert one.output.correct == sample["acc"]
    scores = {score.name: score.value for score in task.score([(one.example, one.output) for one in predictions])}  # type: ignore[misc]
    for name in ("acc", "acc_norm"):
        assert scores[name] == pytest.approx(sum(s[name] for s in reference["larger"]) / len(theirs))
    assert (
        0 < scores["acc"] < 1 and scores["acc"] != scores["acc_norm"]
    )  # the model is neither always right nor always wrong


def test_texts_are_graded_as_the_harness_grades_them(
    folder: Path, reference: Mapping[str, list[dict[str, Any]]], qwen: sn.LanguageModel
) -> None:
    theirs = {(sample["arguments"][0][0], sample["filter"]): sample for sample in reference["sums"]}
    for pipeline in ("number", "plain"):
        task = ready("sums", folder, filter=pipeline)
        assert (task.kind, task.max_new_tokens, task.chance, task.label_columns) == ("open", 5, 0.0, ("correct",))
        predictions = predict(qwen, task, everything(task))
        assert len(predictions) * 2 == len(theirs) == len(reference["sums"])
        for one in predictions:
            sample = theirs[one.example.prompt, pipeline]
            assert one.output.text.split("\n")[0].split(".")[0] == sample["resps"][0][0]
            assert one.output.correct == sample["exact_match"]


@pytest.mark.parametrize(
    "text", ["24", " 24", "it is 24!", "24. Or 25", "25\n24", "the answer: 2 4", "", "IT IS 24! no: 9", "twenty-four"]
)
@pytest.mark.parametrize("pipeline", ["number", "plain"])
def test_a_text_goes_through_stops_filters_and_metric(folder: Path, text: str, pipeline: str) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.utils import postprocess_generated_text
    from lm_eval.tasks import TaskManager

    task = ready("sums", folder, filter=pipeline)
    example = next(one for one in everything(task) if one.prompt == "10 plus 14 equals")
    own = TaskManager(include_path=str(folder), include_defaults=False).load(["sums"])["tasks"]["sums"]
    doc = next(doc for doc in own.eval_docs if (doc["a"], doc["b"]) == (10, 14))
    asked = Instance("generate_until", doc, ("", {}), 0)
    asked.resps = [postprocess_generated_text(text, ["\n", "."], None)]
    own._instances = [asked]
    own.apply_filters()
    expected = own.process_results(doc, [asked.filtered_resps[pipeline]])["exact_match"]
    assert task.grade is not None and task.grade(example, text) == {"correct": expected}


def test_what_a_task_says_of_itself(folder: Path) -> None:
    import lm_eval

    task = ready("larger", folder)
    assert (task.name, task.kind, task.chance, task.form) == ("lm-eval/larger", "choice", 0.5, "multiple_choice")
    assert task.version.startswith("2.0+") and len(task.version) == 12
    assert task.source == f"lm-evaluation-harness {lm_eval.__version__}, task larger; data: json"
    example = next(one for one in everything(task) if "14 is larger than 12" in one.prompt)
    assert replace(example, id="", group="") == sn.Example(
        "",
        "Answer yes or no.\n\n14 is larger than 12. Correct?",
        "  yes",  # the white space at the prompt's end, then the delimiter, as there
        ("  yes", "  certainly not"),
        fields={"choices": ["yes", "certainly not"], "gold": 0},
    )
    target = next(one for one in everything(ready("sums", folder)) if one.prompt == "10 plus 11 equals").target
    assert target == " It is 21!"


def test_splits_are_disjoint_and_come_from_where_they_should(folder: Path) -> None:
    for name in ("larger", "sums"):
        task = ready(name, folder)
        splits = load_splits(task, EVERYTHING, seed=0, options={})
        assert sum(map(len, splits.values())) == (110 if name == "larger" else 66)
    larger = load_splits(ready("larger", folder), EVERYTHING, seed=0, options={})
    first = {split: {int(e.prompt.split("\n")[-1].split()[0]) for e in examples} for split, examples in larger.items()}
    assert first["train"] | first["validation"] == set(range(10, 15))
    assert first["discovery"] | first["heldout"] == set(range(15, 20))


def test_order_and_limit_change_no_example(folder: Path) -> None:
    task = ready("larger", folder)
    whole, few, other = task.load("train"), task.load("train", limit=5), task.load("train", seed=1)
    assert list(whole[:5]) == list(few) and whole != other
    assert sorted(e.id for e in whole) == sorted(e.id for e in other)


def test_documents_that_repeat_share_a_group_and_never_cross(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "mine")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    train = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    write_rows(folder / "train.jsonl", [*train, *rows[:7]])
    write_rows(folder / "test.jsonl", [*rows, rows[0], {**rows[1], "label": 1 - rows[1]["label"]}])
    before = {example.id for example in everything(ready("larger", write_tasks(tmp_path / "plain")))}
    found = load_splits(ready("larger", folder), EVERYTHING, seed=0, options={})
    after = {example.id for examples in found.values() for example in examples}
    assert before < after and len(after - before) == 2  # what is evaluated is not trained on, and ids stay
    assert any(name.endswith("-2") for name in after)
    groups = Counter(example.group for examples in found.values() for example in examples)
    assert sorted(groups.values())[-2:] == [2, 2]


def test_few_shot_documents_are_of_the_training_split_and_never_the_document_itself(folder: Path) -> None:
    for name, mark in (("larger", "Correct?"), ("sums", "equals")):
        task = ready(name, folder, num_fewshot=3)
        own = {split: {e.prompt.split("\n\n")[-1] for e in task.load(split)} for split in SPLITS}
        for split in SPLITS:
            for example in task.load(split):
                *shots, question = [part for part in example.prompt.split("\n\n") if mark in part]
                asked = [shot[: shot.index(mark) + len(mark)] for shot in shots]
                assert len(set(asked)) == 3 and question not in asked
                assert not set(asked) & (own["validation"] | own["discovery"] | own["heldout"])
        assert task.load("heldout", limit=2) == ready(name, folder, num_fewshot=3).load("heldout")[:2]


def test_fixed_few_shot_documents_give_the_context_of_the_harness(tmp_path: Path) -> None:
    shots = "fewshot_config: {{sampler: first_n, samples: [{{a: 1, b: 2, label: 1}}, {{a: 4, b: 3, label: 0}}]}}\nnum_fewshot: 2\n"
    folder = write_tasks(tmp_path / "mine", larger=LARGER + shots)
    assert (
        ready("larger", folder)
        .load("heldout", limit=1)[0]
        .prompt.startswith(
            "Answer yes or no.\n\n1 is larger than 2. Correct?  certainly not\n\n4 is larger than 3. Correct?  yes\n\n1"
        )
    )
    assert "1 is larger than 2" not in ready("larger", folder, num_fewshot=0).load("heldout", limit=1)[0].prompt


def test_the_version_changes_with_what_shapes_prompts_and_grading(tmp_path: Path) -> None:
    changes = {
        "plain": ("", ""),
        "filter": ("[0-9]+", "[0-9][0-9]"),
        "metric": ("ignore_case: true", "ignore_case: false"),
        "until": ('"."]', '"!"]'),
        "prompt": ("equals", "is"),
        "delimiter": ("test_split", "test_split"),
    }
    versions = {}
    for name, (old, new) in changes.items():
        if name != "delimiter":
            versions[name] = ready("sums", write_tasks(tmp_path / name, sums=SUMS.replace(old, new))).version
    assert len(set(versions.values())) == len(versions)
    assert ready("sums", write_tasks(tmp_path / "elsewhere")).version == versions["plain"]  # where it lies is no part


def test_a_function_counts_by_its_file(tmp_path: Path) -> None:
    folder = write_tasks(
        tmp_path / "mine", larger=LARGER.replace("doc_to_target: label", "doc_to_target: !function f.gold")
    )
    versions = []
    for constant in (0, 1):
        (folder / "f.py").write_text(
            f"def helper(doc):\n    return doc['label'] + {constant} - {constant}\n\ndef gold(doc):\n    return helper(doc)\n"
        )
        versions.append(ready("larger", folder, allow_code=True).version)
    assert len(set(versions)) == 2


@pytest.mark.parametrize("name", ["larger", "sums"])
def test_a_run_gives_finished_cells(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    small = ["prompt.steps=2", "prompt.num_virtual_tokens=3", "attribution.permutations=19", "causal.enabled=false"]
    settings = [part for one in [*small, f"tasks.lm-eval/{name}.path={folder}"] for part in ("--set", one)]
    arguments = [
        "run",
        "-m",
        "pocket-small",
        "-t",
        f"lm-eval/{name}",
        "-o",
        str(out),
        "--limit",
        "12",
        "--device",
        "cpu",
    ]
    assert main([*arguments, "-M", "confidence", "-M", "labels", *settings]) == 0
    cells = [
        json.loads(p.read_text()) for p in sorted((out / "cells").glob("*.json")) if not p.name.endswith(".run.json")
    ]
    assert [cell["metric"]["name"] for cell in cells] == (
        ["confidence"] if name == "larger" else ["confidence", "labels"]
    )
    for cell in cells:
        assert (cell["status"], cell["task"]["name"]) == ("ok", f"lm-eval/{name}")
        assert cell["task"]["version"] == ready(name, folder).version
        assert set(cell["n"].values()) <= set(range(5, 13))
    said = capsys.readouterr()
    assert f"lm-eval/{name}" in said.out and "aggregation" not in said.err
    before = {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}
    assert main([*arguments, "-M", "confidence", "-M", "labels", *settings]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (out / "cells").iterdir()}


def test_the_api_takes_a_task_by_name(folder: Path) -> None:
    task = with_options(sn.get_task("lm-eval/sums"), {"path": str(folder)})
    assert task.kind == "open" and task.grade is not None
    raw = sn.get_task("lm-eval/sums")
    assert raw.load("train", limit=2, path=str(folder)) == task.load("train", limit=2)
    with pytest.raises(sn.UserError, match="has no task named 'sums'"):  # its fields are asked for without options too
        with_options(raw, None)


def test_scores_of_a_predictions_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = [e for split in ("discovery", "heldout") for e in ready("sums", folder).load(split)]
    file = tmp_path / "answers.jsonl"
    answers = [e.target if i else "no number" for i, e in enumerate(examples)]
    write_rows(file, ({"id": e.id, "prediction": text} for e, text in zip(examples, answers, strict=True)))
    assert main(["score", "lm-eval/sums", str(file), "--json", "--set", f"tasks.lm-eval/sums.path={folder}"]) == 0
    share = (len(examples) - 1) / len(examples)
    assert json.loads(capsys.readouterr().out) == [
        {"score": "exact_match", "part": part, "value": share, "n": len(examples)} for part in ("number", "plain")
    ]


def test_the_harness_is_left_as_it_was(folder: Path) -> None:
    import datasets
    from lm_eval import utils

    before = (logging.getLogger("lm_eval").level, utils.env, datasets.are_progress_bars_disabled())
    refused("larger", folder, num_fewshot=1000)
    assert before == (logging.getLogger("lm_eval").level, utils.env, datasets.are_progress_bars_disabled())


def test_registering_and_listing_never_import_it() -> None:
    code = (
        "import sys\nfrom skillneurons.cli import main\nmain(['list', 'tasks', '--json'])\n"
        "print(*[m for m in ('lm_eval', 'datasets', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, _, loaded = done.stdout.rpartition("]\n")
    assert loaded.split() == []
    row = next(row for row in json.loads(listed + "]") if row["name"] == "lm-eval")
    assert row["subtasks"] == [] and "allow_code" in row["options"]
    heavy = subprocess.run(
        [sys.executable, "-c", f"import lm_eval\n{code}"], capture_output=True, text=True, check=True
    )
    assert "lm_eval" in heavy.stdout.rpartition("]\n")[2].split()  # the check can fail


def test_without_the_package_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert not sn.load_registry().warnings
    assert main(["run", "-m", "pocket", "-t", "lm-eval/arc_easy", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "skillneurons: error: task 'lm-eval' needs the package lm-eval: pip install 'skillneurons[lm-eval]'\n"
    )


def test_an_old_package_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    (tmp_path / "lm_eval" / "tasks").mkdir(parents=True)
    (tmp_path / "lm_eval" / "__init__.py").write_text("")
    spec = importlib.util.spec_from_file_location("lm_eval", tmp_path / "lm_eval" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(sn.UserError) as error:
        sn.get_task("lm-eval/arc_easy").load("train")
    assert str(error.value) == "task 'lm-eval' needs lm-eval 0.4.12 or newer: pip install -U 'skillneurons[lm-eval]'"


CANNOT = "lm-eval/larger cannot be run: "


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "output_type: multiple_choice",
            "output_type: loglikelihood",
            CANNOT
            + "its output_type is 'loglikelihood'; only multiple_choice and generate_until have answers that are right or wrong",
        ),
        (
            "metadata:",
            "unsafe_code: true\nmetadata:",
            CANNOT + "it runs the code that the model writes (unsafe_code), which is never done here",
        ),
        ("metadata:", "doc_to_image: a\nmetadata:", CANNOT + "it shows images or sounds; only text can be asked"),
        (
            "metadata:",
            "use_prompt: promptsource:x\nmetadata:",
            CANNOT + "it takes its prompts from another package (use_prompt); write them as doc_to_text",
        ),
        (
            "metadata:",
            "repeats: 4\nmetadata:",
            CANNOT + "it takes 4 texts per document (repeats); one greedy text is written here",
        ),
        (
            "metadata:",
            "process_results: f.g\nmetadata:",
            CANNOT
            + "its own process_results judges log-probabilities of choices; only the most probable choice can be right here",
        ),
        (
            "output_type: multiple_choice",
            "output_type: generate_until\ngeneration_kwargs: {{do_sample: true, temperature: 0.7}}",
            CANNOT + "it draws its texts (do_sample); one greedy text is written here",
        ),
        (
            "output_type: multiple_choice",
            "output_type: generate_until",
            "metric_list",
        ),
        (
            "metadata:",
            "class: C\nmetadata:",
            CANNOT + "it is written as a Python class; only tasks of YAML keys can be run",
        ),
    ],
)
def test_what_no_task_here_can_be_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = write_tasks(tmp_path / "mine", larger=LARGER.replace(old, new))
    found = refused("larger", folder)
    if message == "metric_list":
        folder = write_tasks(
            tmp_path / "mine",
            larger=LARGER.replace(old, new)
            .replace("metric: acc_norm", "metric: bleu")
            .replace("metric: acc}", "metric: f1}"),
        )
        found = refused("larger", folder)
        message = CANNOT + (
            "its metrics (f1, bleu) do not say whether a text is right; exact_match is needed, or acc where process_results gives "
            "it, not fetched (hf_evaluate)"
        )
    assert found == message


def test_code_for_reading_data_is_refused_where_it_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    text = LARGER.replace("  cache_dir", "  trust_remote_code: true\n  cache_dir")
    folder = write_tasks(tmp_path / "mine", larger=text)
    assert ready("larger", folder).kind == "choice"
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    assert refused("larger", folder) == (
        CANNOT
        + "its data set is read by code (trust_remote_code), which is never run; datasets 4 and newer do without it"
    )


def test_a_file_with_code_is_refused_unless_it_is_trusted(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    folder = write_tasks(
        tmp_path / "mine", larger=LARGER.replace("doc_to_target: label", "doc_to_target: !function f.gold")
    )
    (folder / "f.py").write_text(
        f"from pathlib import Path\nPath({str(witness)!r}).touch()\n\ndef gold(doc):\n    return doc['label']\n"
    )
    (folder / "base.yaml").write_text("include: larger.yaml\ntask: inherited\n")
    file = (folder / "larger.yaml").resolve()
    line = file.read_text().splitlines().index("doc_to_target: !function f.gold") + 1
    message = (
        f"{file}:{line}: !function runs Python of that folder; set the task's option allow_code: true if you trust it as you "
        "trust a plugin"
    )
    assert refused("larger", folder) == refused("inherited", folder) == message
    assert not witness.exists()
    assert len(everything(ready("larger", folder, allow_code=True))) == 110
    assert witness.exists()


@pytest.mark.parametrize(
    "included",
    [
        "include: inc/code.txt",
        "include: [plain.txt, inc/code.txt]",
        "include: inc/between.txt",
        "<<: {{include: inc/code.txt}}",
        "<<: [{{include: inc/code.txt}}]",
        "metadata: &a {{include: inc/code.txt}}\n<<: *a",
        "include: plain.txt\n? !!str include\n: inc/code.txt",
    ],
)
def test_code_is_seen_however_a_file_is_included(tmp_path: Path, included: str) -> None:
    witness = tmp_path / "witness"
    text = LARGER.replace("metadata: {{version: 2.0}}", included)
    folder = write_tasks(tmp_path / "mine", larger=text)
    (folder / "plain.txt").write_text("metadata: {version: 3.0}\n")
    (folder / "inc").mkdir()
    (folder / "inc" / "between.txt").write_text("<<: {include: code.txt}\n")
    (folder / "inc" / "code.txt").write_text("metadata: {version: 2.0}\nprocess_docs: !function f.same\n")
    (folder / "inc" / "f.py").write_text(
        f"from pathlib import Path\nPath({str(witness)!r}).touch()\n\ndef same(docs):\n    return docs\n"
    )
    assert refused("larger", folder) == (
        f"{(folder / 'inc' / 'code.txt').resolve()}:2: !function runs Python of that folder; set the task's option allow_code: "
        "true if you trust it as you trust a plugin"
    )
    assert not witness.exists()
    assert len(everything(ready("larger", folder, allow_code=True))) == 110
    assert witness.exists()


@pytest.mark.parametrize("include", ["[[a]]", "5", "{{a: b}}", "null"])
def test_an_include_is_the_name_of_a_file(tmp_path: Path, include: str) -> None:
    import yaml

    folder = write_tasks(tmp_path / "mine", larger=LARGER + f"include: {include}\n")
    value = yaml.safe_load(include.format())
    shown = value[0] if isinstance(value, list) else value
    assert refused("larger", folder) == (
        f"{folder}/larger.yaml: no task file of lm-evaluation-harness (include: {shown!r} must be the name of a file, or a list of "
        "such names)"
    )


@pytest.mark.parametrize("tag", ["!!python/name:os.system", "!!python/object/apply:os.system [true]"])
def test_python_in_yaml_is_code(tmp_path: Path, tag: str) -> None:
    folder = write_tasks(tmp_path / "mine", larger=LARGER.replace("doc_to_target: label", f"doc_to_target: {tag}"))
    assert " runs Python of that folder; set the task's option allow_code: true" in refused("larger", folder)


@pytest.mark.parametrize("builder", ["pandas", "webdataset", "mine.py", "code/mine.py"])
def test_data_that_may_hold_code_is_refused(tmp_path: Path, builder: str) -> None:
    folder = write_tasks(tmp_path / "mine", larger=LARGER.replace("dataset_path: json", f"dataset_path: {builder}"))
    assert refused("larger", folder) == (
        f"{folder}/larger.yaml: dataset_path {builder!r} of task 'larger' must be one of json, csv, parquet, arrow, text, a folder, "
        "or a data set of the hub (owner/name): others may run code; set the task's option allow_code: true if you trust it"
    )


def test_templates_are_rendered_in_a_sandbox(tmp_path: Path) -> None:
    escape = "{{{{ ''.__class__.__mro__ }}}}"
    folder = write_tasks(tmp_path / "mine", larger=LARGER.replace("{{{{a}}}} is larger", f"{escape} is larger"))
    assert "SecurityError: access to attribute '__class__' of 'str' object is unsafe." in refused("larger", folder)
    from lm_eval import utils

    assert "class 'object'" in utils.apply_template(
        "{{ ''.__class__.__mro__ }}", {}
    )  # as the harness itself renders it


def test_a_template_changes_no_document(tmp_path: Path) -> None:
    change = "{{% set _ = label_list.append(1) %}}"
    text = LARGER.replace('doc_to_text: "', f'doc_to_text: "{change}').replace("label_list", "[a]")
    folder = write_tasks(tmp_path / "mine", larger=text)
    assert refused("larger", folder) == (
        f"lm-eval/larger: cannot be built from {folder}/larger.yaml (SecurityError: access to attribute 'append' of 'list' "
        "object is unsafe.); check its keys, its data (dataset_path: json) and the network"
    )


A_FILTER = "filter_list:\n  - name: number\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('{{until: ["\\n", "."], max_gen_toks: 5}}', "abc", "generation_kwargs: 'abc' must be a mapping"),
        ('["\\n", "."]', "5", "generation_kwargs.until: 5 must be a text or a list of texts"),
        ('["\\n", "."]', "[5]", "generation_kwargs.until: [5] must be a text or a list of texts"),
        ("toks: 5", "toks: x", "generation_kwargs.max_gen_toks: 'x' must be a whole number of at least 1"),
        ("toks: 5", "toks: -3", "generation_kwargs.max_gen_toks: -3 must be a whole number of at least 1"),
        ("metadata:", "num_fewshot: 1.5\nmetadata:", "num_fewshot: 1.5 must be a whole number of at least 0"),
        ("metadata:", "num_fewshot: -3\nmetadata:", "num_fewshot: -3 must be a whole number of at least 0"),
        ("metadata:", "repeats: x\nmetadata:", "repeats: 'x' must be a whole number of at least 1"),
        ("metadata:", "description: 5\nmetadata:", "description: 5 must be a text"),
        ("metadata:", "target_delimiter: 5\nmetadata:", "target_delimiter: 5 must be a text"),
        (
            "metadata:",
            "process_results: f.g\nmetadata:",
            "process_results: 'f.g' must be a function (!function file.name)",
        ),
        (
            "filter_list:",
            "filter_list: []\nmetadata: {{a: 1}}\nx:",
            "x: unknown key; take it out",
        ),
        (
            "metadata:",
            "filter_list: []\nmetadata:",
            "filter_list: [] must be a list of filters, each with a name and a list of functions",
        ),
        (
            "metadata:",
            "metric_list: acc\nmetadata:",
            "metric_list: 'acc' must be a list of mappings with a metric each",
        ),
        (
            "metadata:",
            "metric_list: [{{a: 1}}]\nmetadata:",
            "metric_list: [{'a': 1}] must be a list of mappings with a metric each",
        ),
        ("metadata:", "output_type: [a]\nmetadata:", "output_type: ['a'] must be a text"),
        ("metadata:", "dataset_kwargs: [1]\nmetadata:", "dataset_kwargs: [1] must be a mapping"),
        ("doc_to_target: answer\n", "", "doc_to_target: missing; a task needs it"),
        ("dataset_path: json\n", "", "dataset_path: missing; name a data set, or json with dataset_kwargs.data_files"),
        ("metadata:", "doc_to_txt: a\nmetadata:", "doc_to_txt: unknown key; did you mean 'doc_to_text'?"),
    ],
)
def test_a_bad_key_of_a_file_is_told_with_the_rule(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SUMS
    folder = write_tasks(tmp_path / "mine", sums=SUMS.replace(old, new))
    assert refused("sums", folder) == f"lm-eval/sums, {folder}/sums.yaml: {message}"


def test_accuracy_of_texts_needs_the_file_s_own_grading(tmp_path: Path) -> None:
    metric = 'metric: exact_match, ignore_case: true, regexes_to_ignore: ["[^0-9]"]'
    folder = write_tasks(tmp_path / "mine", sums=SUMS.replace(metric, "metric: acc"))
    assert refused("sums", folder) == (
        "lm-eval/sums cannot be run: its metrics (acc) do not say whether a text is right; exact_match is needed, or acc where "
        "process_results gives it, not fetched (hf_evaluate)"
    )
    own = "process_results: !function f.graded\nmetadata:"
    folder = write_tasks(tmp_path / "own", sums=SUMS.replace(metric, "metric: acc").replace("metadata:", own))
    (folder / "f.py").write_text("def graded(doc, results):\n    return {'acc': 1.0}\n")
    assert len(everything(ready("sums", folder, allow_code=True))) == 66
    (folder / "f.py").write_text("def graded(doc, results):\n    return {'f1': 1.0}\n\n")
    assert refused("sums", folder, allow_code=True) == (
        f"lm-eval/sums, {folder}/sums.yaml: its process_results gives f1; exact_match or acc is needed"
    )


def test_what_fails_at_a_document_names_the_file_and_its_keys(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "mine", sums=SUMS.replace('pattern: "([0-9]+)"', 'pattern: "(("'))
    assert refused("sums", folder) == (
        f"lm-eval/sums, {folder}/sums.yaml: a text cannot be judged (error: missing ), unterminated subpattern at position 1); check "
        "its filter_list, metric_list and process_results"
    )
    folder = write_tasks(
        tmp_path / "filter", sums=SUMS.replace("regex, regex_pattern", "regex, group_select: 7, regex_pattern")
    )
    assert refused("sums", folder) == (
        f"lm-eval/sums, {folder}/sums.yaml: a text cannot be judged (IndexError: list index out of range); check its filter_list, "
        "metric_list and process_results"
    )
    later = '"{{{{ a if b != 13 else nothing }}}} plus {{{{b}}}} equals"'
    folder = write_tasks(tmp_path / "later", sums=SUMS.replace('"{{{{a}}}} plus {{{{b}}}} equals"', later))
    assert refused("sums", folder) == (
        f"lm-eval/sums, {folder}/sums.yaml: a document cannot be shown (UndefinedError: 'nothing' is undefined); check its "
        "templates, process_docs and num_fewshot"
    )


def test_documents_that_cannot_be_examples(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "mine")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    write_rows(folder / "test.jsonl", [rows[0], {**rows[1], "label": 7}, *rows[2:]])
    said = refused("larger", folder)
    assert said.startswith("lm-eval/larger, document ") and said.endswith(
        '({"a": 15, "b": 11, "label": 7}): its answer 7 is none of the choices [\'yes\', \'certainly not\']; set the task\'s option '
        "leave_out: true to go on without such documents"
    )
    assert len(everything(ready("larger", folder, leave_out=True))) == 109
    strict = SUMS.replace('regexes_to_ignore: ["[^0-9]"]', "ignore_punctuation: false")
    wrong = refused("sums", write_tasks(tmp_path / "strict", sums=strict))
    assert "the task's own grading calls its answer 'It is " in wrong
    assert wrong.endswith(
        "wrong, so that a prompt would be tuned on a mistake; set the task's option leave_out: true to go on without such documents"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("doc_to_target: label", "doc_to_target: [0, 1]"), "it has 2 right choices; exactly one can be right here"),
        (
            ('["yes", "certainly not"]', '["yes", "yes"]'),
            "its choices ['yes', 'yes'] must be two or more different texts",
        ),
        (
            (
                'doc_to_text: "{{{{a}}}} is larger than {{{{b}}}}. Correct? "',
                'doc_to_text: "{{# nothing #}}"',
            ),
            "its prompt is empty; the answer needs something to stand after",
        ),
        (
            ('doc_to_text: "{{{{a}}}} is larger than {{{{b}}}}. Correct? "', "doc_to_text: label"),
            "each of its choices has a prompt of its own; here one prompt has all choices",
        ),
    ],
)
def test_forms_of_documents_that_have_no_place_here(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    text = LARGER.replace('description: "Answer yes or no.\\n\\n"\n', "").replace(*change)
    assert f": {reason}; set the task's option leave_out: true" in refused(
        "larger", write_tasks(tmp_path / "mine", larger=text)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_fewshot": -1}, "tasks.lm-eval/sums.num_fewshot: -1 must be a whole number of at least 0"),
        ({"num_fewshot": True}, "tasks.lm-eval/sums.num_fewshot: True must be a whole number of at least 0"),
        ({"max_new_tokens": 0}, "tasks.lm-eval/sums.max_new_tokens: 0 must be a whole number of at least 1"),
        ({"allow_code": "yes"}, "tasks.lm-eval/sums.allow_code: 'yes' must be true or false"),
        ({"path": ""}, "tasks.lm-eval/sums.path: '' must be a folder or a YAML file"),
        ({"filter": "numbr"}, "tasks.lm-eval/sums.filter: no filter named 'numbr'; the task has: number, plain"),
        (
            {"num_fewshot": 50},
            "lm-eval/sums: 50 few-shot documents cannot be drawn from 34 (Sample larger than population or is negative); set "
            "num_fewshot lower",
        ),
    ],
)
def test_bad_options(folder: Path, options: dict[str, Any], message: str) -> None:
    assert refused("sums", None, **{"path": str(folder)} | options) == message


def test_names_that_are_no_task(folder: Path, tmp_path: Path) -> None:
    assert refused("sum", folder) == f"{str(folder)!r} has no task named 'sum'; did you mean 'sums'?"
    assert refused("hellaswag", folder) == f"{str(folder)!r} has no task named 'hellaswag'; known: larger, sums"
    assert refused("arc_eazy", None) == (
        "the installed lm-evaluation-harness has no task named 'arc_eazy'; did you mean 'arc_easy'?"
    )
    assert refused("qqqq.qqqq", None) == (
        "the installed lm-evaluation-harness has no task named 'qqqq.qqqq'; give your own with the option path"
    )
    assert refused("", None) == (
        "task 'lm-eval' stands for every task of lm-evaluation-harness; name one of them, such as lm-eval/arc_easy"
    )
    assert refused("x", tmp_path / "none") == (
        f"tasks.lm-eval/x.path: '{tmp_path}/none' does not exist; give a folder or a YAML file with the task"
    )
    (tmp_path / "two.yaml").write_text("group: both\ntask: [larger, {task: sums}]\n")
    assert refused("both", tmp_path / "two.yaml") == (
        "lm-eval/both is a group of several tasks; name them one by one: lm-eval/larger, lm-eval/sums"
    )
    assert refused("ai2_arc", None) == (
        "lm-eval/ai2_arc is a tag of several tasks; name them one by one: lm-eval/arc_challenge, lm-eval/arc_easy"
    )
    (tmp_path / "bad.yaml").write_text("task: bad\n  x: [1\n")
    assert refused("bad", tmp_path / "bad.yaml").startswith(
        f"{tmp_path}/bad.yaml: no task file of lm-evaluation-harness ("
    )


def test_data_that_is_not_there(tmp_path: Path) -> None:
    folder = write_tasks(tmp_path / "mine")
    (folder / "test.jsonl").unlink()
    said = refused("larger", folder)
    assert said.startswith(f"lm-eval/larger: cannot be built from {folder}/larger.yaml (FileNotFoundError: ")
    assert said.endswith("; check its keys, its data (dataset_path: json) and the network")


def test_an_installed_task_is_found_by_name_and_is_its_authors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The task of the package with its own Python (``process_docs``), on data of its form."""
    import datasets

    rows = [
        {
            "question": f"What is {a} plus {b}?",
            "answer": f"It is {a} and {b}, that is {a + b}.\n#### {a + b}",
        }
        for a in range(8)
        for b in range(8)
    ]
    data = datasets.DatasetDict(train=datasets.Dataset.from_list(rows[:32]), test=datasets.Dataset.from_list(rows[32:]))
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name, **options: data)
    task = set_up(sn.load_registry(), "lm-eval/gsm8k", {"num_fewshot": 2}).task
    assert task.kind == "open" and task.max_new_tokens == 256
    example = task.load("heldout", limit=1)[0]
    assert example.prompt.count("Question:") == 3 and example.target.startswith(" It is ")
    assert task.grade is not None
    right = example.target.rpartition(" ")[2]
    assert task.grade(example, f" So it is #### {right}") == {"correct": 1.0}
    assert task.grade(example, f" So it is {right}") == {"correct": 0.0}
