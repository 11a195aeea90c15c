from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from skillneurons.tasks.hans_mnli import FILES, MnliPair, mnli_pairs

NAMES = ("entailment", "neutral", "contradiction")
ROWS = [("P one", "H one", 0), ("P two", "H two", 1), ("P three", "H three", 2), ("P four", "H four", -1)]
VALIDATION = [("P five", "H five", 2), ("P one", "H six", 0), ("P six", " ", 1)]
README = """---
configs:
- config_name: {name}
  data_files:
  - split: train
    path: {name}/train-*
  - split: validation_matched
    path: {name}/validation_matched-*
---
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows_of(pairs: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    return [{"premise": p, "hypothesis": h, "label": label, "idx": i} for i, (p, h, label) in enumerate(pairs)]


def authors_folder(folder: Path, train: list[Any], validation: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for which, pairs in (("train", train), ("validation", validation)):
        rows = [
            {"gold_label": "-" if label == -1 else NAMES[label], "sentence1": p, "sentence2": h, "pairID": "1n"}
            for p, h, label in pairs
        ]
        (folder / FILES[which]).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def parquet(file: Path, pairs: list[tuple[str, str, int]], names: tuple[str, ...] = NAMES) -> None:
    import datasets

    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=list(names)),
            "idx": datasets.Value("int32"),
        }
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows_of(pairs), features=features).to_parquet(file)


def hub_copy(folder: Path, name: str) -> Path:
    """Write a folder in the hub's form: a subset of a larger data set, named in the card."""
    parquet(folder / name / "train-00000-of-00001.parquet", ROWS)
    parquet(folder / name / "validation_matched-00000-of-00001.parquet", VALIDATION)
    (folder / "README.md").write_text(README.format(name=name), "utf-8")
    return folder


def plain_folder(folder: Path) -> Path:
    """Write a folder with a file for each split and no card."""
    folder.mkdir()
    for name, pairs in (("train", ROWS), ("validation", VALIDATION)):
        text = "".join(json.dumps(row) + "\n" for row in rows_of(pairs))
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
    return folder


def message_of(source: str, revision: str | None = None, which: str = "train") -> str:
    with pytest.raises(sn.DataError) as error:
        mnli_pairs(which, source, revision)
    return str(error.value)


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda folder: authors_folder(folder, ROWS, VALIDATION), "line"),
        (lambda folder: authors_folder(folder, ROWS, VALIDATION) / FILES["validation"], "line"),
        (lambda folder: hub_copy(folder, "mnli"), "row"),
        (lambda folder: hub_copy(folder, "default"), "row"),
        (plain_folder, "row"),
    ],
    ids=["the authors' folder", "one of the authors' files", "a copy of glue", "another copy", "a folder of files"],
)
def test_every_form_gives_the_same_pairs(make: Callable[[Path], Path], place: str, tmp_path: Path) -> None:
    source, first = str(make(tmp_path / "data")), int(place == "line")
    assert mnli_pairs("train", source, None) == [
        MnliPair(f"mnli/train/{place}{i + first}", p, h, NAMES[label])
        for i, (p, h, label) in enumerate(ROWS[:3])  # the fourth has no majority label
    ]
    # the second has a premise of train, the third an empty hypothesis
    assert mnli_pairs("validation", source, None) == [
        MnliPair(f"mnli/validation/{place}{first}", "P five", "H five", "contradiction")
    ]


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        (None, ("nyu-mll/glue", "mnli")),
        ("me/glue", ("me/glue", "mnli")),
        ("nyu-mll/multi_nli", ("nyu-mll/multi_nli", None)),
    ],
)
def test_the_hub_is_asked_for_name_and_revision(
    source: str | None, asked: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    calls: list[tuple[str, str | None, str | None]] = []

    def load_dataset(name: str, subset: str | None, *, revision: str | None) -> Any:
        calls.append((name, subset, revision))
        return {"train": datasets.Dataset.from_list(rows_of(ROWS))}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [pair.label for pair in mnli_pairs("train", source, "abc")] == list(NAMES)
    assert calls == [(*asked, "abc")]


def test_the_names_of_the_labels_count_where_the_data_has_them(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", ROWS, ("contradiction", "neutral", "entailment"))
    assert [pair.label for pair in mnli_pairs("train", str(tmp_path), None)] == list(NAMES[::-1])
    other = tmp_path / "other"
    parquet(other / "train.parquet", ROWS, ("entailment", "not_entailment", "contradiction"))
    assert message_of(str(other)) == (
        f"hans.mnli {str(other)!r}, train row 1: label 1; "
        "known: 0 (entailment), 1 (neutral), 2 (contradiction), -1 (no majority)"
    )


def test_a_place_that_is_none(tmp_path: Path) -> None:
    message = message_of(str(tmp_path / "none"))
    assert message.startswith(f"hans.mnli: {str(tmp_path / 'none')!r} at revision latest cannot be loaded (")
    assert message.endswith(
        "; check name and network, or give a folder with multinli_1.0_train.jsonl and multinli_1.0_dev_matched.jsonl"
    )
    assert message_of(str(tmp_path)).startswith(f"hans.mnli: the folder {str(tmp_path)!r} cannot be loaded (")
    file = tmp_path / "mnli.tsv"
    file.write_text("", "utf-8")
    assert message_of(str(file)) == (
        f"hans.mnli: {str(file)!r} is none of the authors' files multinli_1.0_train.jsonl and "
        "multinli_1.0_dev_matched.jsonl; give the folder that holds both"
    )
    assert message_of(str(tmp_path), "abc") == (
        f"hans.mnli_revision: 'abc' goes with the name of a hub data set, and hans.mnli {str(tmp_path)!r} is a path"
    )


def test_a_split_or_a_column_that_is_missing(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path / "data")
    (folder / "validation.jsonl").unlink()
    assert message_of(str(folder), which="validation") == (
        f"hans.mnli: {str(folder)!r} has no split 'validation_matched'; it has: train"
    )
    (folder / "train.jsonl").write_text(json.dumps({"premise": "P", "label": 0}) + "\n", "utf-8")
    assert message_of(str(folder)) == (
        f"hans.mnli: {str(folder)!r}, train: no column 'hypothesis'; it has: premise, label"
    )
    (folder / "train.jsonl").write_text(json.dumps({"premise": "P", "hypothesis": None, "label": 0}) + "\n", "utf-8")
    assert message_of(str(folder)) == f"hans.mnli {str(folder)!r}, train row 0: hypothesis must be a text, got None"
    authors = authors_folder(tmp_path / "authors", ROWS, VALIDATION)
    (authors / FILES["validation"]).unlink()
    assert message_of(str(authors), which="validation") == (
        f"hans.mnli: the folder {str(authors)!r} has no multinli_1.0_dev_matched.jsonl; both files are needed"
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{broken", "not JSON (Expecting property name enclosed in double quotes, column 2)"),
        ("[1]", "list where an object with keys is needed"),
        ('{"gold_label": "neutral"}', "no key 'sentence1'; needed are: gold_label, sentence1, sentence2"),
        (
            '{"gold_label": "neutral", "sentence1": 1, "sentence2": "H"}',
            "sentence1 must be a text, got 1",
        ),
        (
            '{"gold_label": "entailmnt", "sentence1": "P", "sentence2": "H"}',
            "unknown gold_label 'entailmnt'; did you mean 'entailment'? known: entailment, neutral, contradiction, -",
        ),
    ],
)
def test_a_bad_line_is_named(line: str, fault: str, tmp_path: Path) -> None:
    folder = authors_folder(tmp_path / "mnli", ROWS, VALIDATION)
    file = folder / FILES["train"]
    file.write_text(file.read_text("utf-8") + "\n" + line + "\n", "utf-8")
    assert message_of(str(folder)) == f"{file}:6: {fault}"
