"""Predictions files: written, read back, scored; and every way in which one can be wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.cli import main
from skillneurons.evaluation import evaluated_examples, score_predictions, scores_json, scores_text, write_graded
from skillneurons.predict import predict
from skillneurons.predictions import Prediction, read_predictions, write_predictions


def score(pairs: Sequence[tuple[sn.Example, sn.Output]]) -> list[sn.Score]:
    values = [output.correct for _, output in pairs]
    return [
        sn.Score("accuracy", sum(values) / len(values), len(values)),
        sn.Score("accuracy", math.nan, 0, "part|x", detail=True),
    ]


FORM = sn.PredictionForm(
    ("pairID", "gold_label"),
    lambda example, output: {"yes": "entailment", "no": "neutral"}[output.text],
    lambda example, text: "yes" if text == "entailment" else "no",
)
EXAMPLES = [sn.Example(f"e{i}", f"p{i}", "yes" if i % 2 else "no", choices=("yes", "no")) for i in range(4)]
TASK = sn.Task("t", "1", lambda split, **options: EXAMPLES, score=score, predictions=FORM)
WRITING = sn.Task(
    "w",
    "1",
    lambda split, **options: [],
    kind="generation",
    score=score,
    grade=lambda e, text: {"correct": float(len(text))},
)


def test_the_authors_form_written_and_read_back(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "p.csv"
    given = [Prediction(one, sn.Output("yes", 0.0, -1.0)) for one in EXAMPLES]
    write_predictions(file, TASK, given)
    assert file.read_text() == "pairID,gold_label\ne0,entailment\ne1,entailment\ne2,entailment\ne3,entailment\n"
    scores, found = score_predictions(TASK, file, EXAMPLES)
    assert scores[0] == sn.Score("accuracy", 0.5, 4)
    assert [(one.example.id, one.output.predicted, one.output.correct) for one in found] == [
        ("e0", "yes", 0.0),
        ("e1", "yes", 1.0),
        ("e2", "yes", 0.0),
        ("e3", "yes", 1.0),
    ]


def test_several_texts_of_an_example_in_json_lines(tmp_path: Path) -> None:
    example = sn.Example("a/b", "p", "t")
    texts = ['one, "two"\nthree', "", "ünï", "a\u2028b\x85c", "line\rand\r\nline"]
    given = [Prediction(example, sn.Output(text, 0.0, -1.0), i) for i, text in enumerate(texts)]
    for name in ("p.jsonl", "p.csv"):
        write_predictions(tmp_path / name, WRITING, given)
        found = read_predictions(tmp_path / name, WRITING, [example])
        assert [(one.output.text, one.generation, one.output.correct) for one in found] == [
            (text, i, float(len(text))) for i, text in enumerate(texts)
        ]
    write_graded(tmp_path / "graded.jsonl", found)
    first = json.loads((tmp_path / "graded.jsonl").read_text().splitlines()[0])
    assert first == {"id": "a/b", "generation": 0, "prediction": texts[0], "correct": float(len(texts[0]))}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "p.csv",
            "pairID,label\ne0,x\n",
            ":2: columns pairID, label; needed are 'pairID' and 'gold_label', or 'id' and 'prediction'",
        ),
        ("p.csv", "pairID,gold_label\ne0\n", ":2: 1 fields where the header has 2; quote an answer that holds a comma"),
        ("p.csv", 'pairID,gold_label\ne0,"x\n', ":2: not a CSV (unexpected end of data)"),
        (
            "p.csv",
            "pairID,gold_label\ne0,x\ne0,y\n",
            ":3: 'e0' stands in line 2 already; several texts of one example need a column 'generation' that numbers them",
        ),
        (
            "p.csv",
            "id,prediction\ne9,x\n",
            ":2: 'e9' is none of the 4 examples (the first: 'e0'); check the data that the task was given (--set)",
        ),
        ("p.csv", "pairID,gold_label\n", ": no predictions; it needs a line per example after its header"),
        ("p.csv", "pairID,gold_label,generation\ne0,x,-1\n", ":2: generation '-1' must be a whole number from 0"),
        ("p.jsonl", '{"id": "e0"\n', ":1: not JSON (Expecting ',' delimiter, column 12)"),
        ("p.jsonl", "[3]\n", ":1: list where an object with keys is needed"),
        ("p.jsonl", '{"id": "e0", "prediction": 3}\n', ":1: id and prediction must be texts, got 'e0' and 3"),
        (
            "p.csv",
            "pairID,gold_label\ne1,x\n",
            ": 3 of 4 examples have no prediction (the first: 'e0'); check the data that the task was given (--set), "
            "or score what is there with --partial",
        ),
    ],
)
def test_a_file_that_cannot_be_scored(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(sn.DataError) as error:
        score_predictions(TASK, file, EXAMPLES)
    assert str(error.value) == f"{file}{message}"


def test_an_answer_that_is_none_of_the_choices(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("id,prediction\ne0,perhaps\n")
    plain = sn.Task("t", "1", lambda split, **options: EXAMPLES, score=score)
    with pytest.raises(sn.DataError) as error:
        score_predictions(plain, file, EXAMPLES)
    assert str(error.value) == f"{file}:2: 'perhaps' is no answer of 'e0'; known: yes, no"
    with pytest.raises(sn.DataError, match="p.none: cannot be read"):
        score_predictions(plain, tmp_path / "p.none", EXAMPLES)
    file.write_bytes(b"id,prediction\n\xff")
    with pytest.raises(sn.DataError, match="p.csv: not UTF-8 text"):
        score_predictions(plain, file, EXAMPLES)


def test_examples_with_more_texts_than_others(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("pairID,gold_label,generation\n" + "".join(f"e{i},x,0\n" for i in range(4)) + "e2,x,1\n")
    with pytest.raises(sn.DataError) as error:
        score_predictions(TASK, file, EXAMPLES)
    assert str(error.value) == (
        f"{file}: 'e2' has 2 texts and 'e0' has 1; the best of more is better, so give each example as many, "
        "or score what is there with --partial"
    )
    assert len(score_predictions(TASK, file, EXAMPLES, partial=True)[1]) == 5


def test_a_prompt_of_another_width_is_refused(qwen: sn.LanguageModel) -> None:
    import torch

    prompt = sn.SoftPrompt(torch.zeros(2, 7), base_model="other")
    with pytest.raises(sn.UserError, match=r"vectors have 7 numbers, but .* needs 32; .*\(this one: on 'other'\)"):
        predict(qwen, TASK, EXAMPLES, prompt)


def test_writing_texts_grades_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The endpoint of the grader is down: texts are written all the same."""
    options = [
        "tasks.skillmix.grader=api",
        "tasks.skillmix.grader_options={model: m, base_url: 'http://127.0.0.1:9/v1'}",
    ]
    sets = [part for option in (*options, "tasks.skillmix.max_new_tokens=4") for part in ("--set", option)]
    file = tmp_path / "t.jsonl"
    command = ["predict", "skillmix", "-m", "pocket", "-o", str(file), "--limit", "2", "--device", "cpu", *sets]
    assert main(command) == 0 and len(file.read_text().splitlines()) == 4
    assert main([*command, "--limit", "0"]) == 2
    assert "--limit 0: at least 1 example is needed" in capsys.readouterr().err


def test_part_of_the_examples_only_where_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("pairID,gold_label\ne1,entailment\n")
    scores, _ = score_predictions(TASK, file, EXAMPLES, partial=True)
    assert scores[0] == sn.Score("accuracy", 1.0, 1)


def test_a_task_without_scores_says_so(tmp_path: Path) -> None:
    with pytest.raises(sn.UserError, match="task 't' has no scores of its own"):
        score_predictions(sn.Task("t", "1", list), tmp_path / "p.csv", [])


def test_the_printed_table_and_json() -> None:
    scores = score([(EXAMPLES[0], sn.Output("x", 1.0, -1.0))])
    assert scores_text(scores, detail=False).splitlines()[-1].split() == ["accuracy", "all", "1.0000", "1"]
    assert scores_text(scores, detail=True).splitlines()[-1].split() == ["accuracy", "part|x", "-", "0"]
    assert json.loads(scores_json(scores))[1] == {"score": "accuracy", "part": "part|x", "value": None, "n": 0}


def test_what_is_evaluated_is_discovery_and_heldout(parity: sn.Task) -> None:
    assert len(evaluated_examples(parity, {})) == 80
    assert {one.id.split("/")[0] for one in evaluated_examples(parity, {}, split="heldout", limit=3)} == {"heldout"}
    with pytest.raises(sn.UserError, match="split 'train'; known: all, discovery, heldout"):
        evaluated_examples(parity, {}, split="train")


def test_predicting_keeps_the_order_and_numbers_generations(qwen: sn.LanguageModel) -> None:
    examples = [sn.Example(str(i), "Say " + "x " * (3 - i), "well") for i in range(3)]
    task = sn.Task("t", "1", list, kind="open", max_new_tokens=4)
    found = predict(qwen, task, examples, generations=2, seed=1)
    assert [(one.example.id, one.generation) for one in found] == [(str(i), g) for g in range(2) for i in range(3)]
    assert found == predict(qwen, task, examples, generations=2, seed=1, batch_size=1)
    for bad in ({"generations": 2, "temperature": 0.0}, {"generations": 0}, {"temperature": -1.0}):
        with pytest.raises(sn.UserError, match=r"at least 1|greedy answer"):
            predict(qwen, task, examples, **bad)  # type: ignore[arg-type]
    with pytest.raises(sn.UserError, match="2 generations of a choice are all the same"):
        predict(qwen, TASK, EXAMPLES, generations=2)


def test_predict_and_score_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "answers.csv"
    options = ["--limit", "30", "--set", "tasks.hans.split=row"]
    assert main(["predict", "hans", "-m", "pocket", "-o", str(file), "--device", "cpu", *options]) == 0
    assert file.read_text().startswith("pairID,gold_label\n") and len(file.read_text().splitlines()) == 61
    assert f"written: {file} (60 answers)" in capsys.readouterr().err
    assert main(["score", "hans", str(file), *options, "--json"]) == 0
    printed = capsys.readouterr()
    rows = {(row["score"], row["part"]): row for row in json.loads(printed.out)}
    assert rows["accuracy", ""]["n"] == 60 and "60 of 60 examples have a prediction" in printed.err
    assert main(["score", "hans", str(file)]) == 2
    assert "examples have no prediction" in capsys.readouterr().err
    assert main(["score", "hans", str(file), "--partial"]) == 0
