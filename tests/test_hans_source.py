from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import skillneurons as sn
from skillneurons.tasks import hans, hans_source
from skillneurons.tasks.hans_grammar import generate_hans
from skillneurons.tasks.hans_source import COLUMNS, hub_pairs, read_pairs, read_training_pairs
from skillneurons.tasks.hans_splits import hans_split_of_template
from skillneurons.tasks.hans_subcases import SUBCASES

REPOSITORY = Path(__file__).resolve().parents[1]
ORIGINAL = REPOSITORY.parent / "shared" / "data" / "hans_eval_3000.tsv"
AUTHORS = [
    *("gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse"),
    *("sentence1", "sentence2", "pairID", "heuristic", "subcase", "template"),
]
ROWS = [
    {
        "gold_label": "non-entailment",
        "sentence1": "The judge was seen by the actor .",
        "sentence2": "The judge seen the actor .",
        "pairID": "ex7",
        "heuristic": "lexical_overlap",
        "subcase": "ln_passive",
        "template": "temp20",
    },
    {
        "gold_label": "entailment",
        "sentence1": "Clearly the judge ran .",
        "sentence2": "The judge ran .",
        "pairID": "ex8",
        "heuristic": "constituent",
        "subcase": "ce_adverb",
        "template": "temp68",
    },
    {
        "gold_label": "entailment",
        "sentence1": "The judge and the actor ran .",
        "sentence2": "The actor ran .",
        "pairID": "ex9",
        "heuristic": "subsequence",
        "subcase": "se_conjunction",
        "template": "temp45",
    },
]


def write_table(file: Path, rows: list[dict[str, str]], header: list[str] = AUTHORS) -> Path:
    lines = ["\t".join(header), *("\t".join(row.get(column, "(parse)") for column in header) for row in rows)]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def write_json(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def message_of(file: Path) -> str:
    with pytest.raises(sn.DataError) as error:
        read_pairs(file)
    return str(error.value)


def test_a_table_and_json_lines_give_the_same_pairs(tmp_path: Path) -> None:
    table = read_pairs(write_table(tmp_path / "pairs.tsv", ROWS))
    assert [{column: getattr(pair, column) for column in COLUMNS} for pair in table] == ROWS
    assert read_pairs(write_json(tmp_path / "pairs.jsonl", ROWS)) == table
    assert read_pairs(write_table(tmp_path / "short.txt", ROWS, list(COLUMNS))) == table


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = write_table(tmp_path / "pairs.tsv", ROWS)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert [pair.template for pair in read_pairs(file)] == ["temp20", "temp68", "temp45"]


def test_a_folder_with_one_file_or_with_the_authors_file(tmp_path: Path) -> None:
    write_table(tmp_path / "mine.tsv", ROWS[:1])
    (tmp_path / "HANS_LICENSE.md").write_text("MIT", "utf-8")
    assert [pair.pairID for pair in read_pairs(tmp_path)] == ["ex7"]
    write_table(tmp_path / "heuristics_evaluation_set.txt", ROWS)
    assert len(read_pairs(tmp_path)) == 3


def test_a_folder_that_leaves_a_choice(tmp_path: Path) -> None:
    assert message_of(tmp_path) == (
        f"hans.path: the folder {str(tmp_path)!r} must hold heuristics_evaluation_set.txt or exactly one "
        ".tsv, .txt or .jsonl file; found: none; name the file itself"
    )
    write_table(tmp_path / "b.tsv", ROWS)
    write_json(tmp_path / "a.jsonl", ROWS)
    assert "found: a.jsonl, b.tsv; name the file itself" in message_of(tmp_path)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.tsv"
    assert message_of(path) == (
        f"hans.path: no file or folder {str(path)!r}; give the authors' heuristics_evaluation_set.txt, "
        "a .jsonl file with the same keys, or a folder that holds one of them"
    )


def test_a_missing_column(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.tsv", ROWS, [column for column in AUTHORS if column != "subcase"])
    assert message_of(file) == (
        f"{file}:1: no column 'subcase'; a tab-separated header with these columns is needed: "
        "gold_label, sentence1, sentence2, pairID, heuristic, subcase, template"
    )


def test_a_line_that_is_cut_off(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.tsv", ROWS)
    file.write_text(file.read_text("utf-8") + "entailment\tx\n", "utf-8")
    assert message_of(file) == (f"{file}:5: 2 fields where the header has 11; the line is cut off or not tab-separated")


@pytest.mark.parametrize("ending", ["tsv", "jsonl"])
@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("gold_label", "neutral", "unknown gold_label 'neutral'; known: entailment, non-entailment"),
        (
            "heuristic",
            "subsequnce",
            "unknown heuristic 'subsequnce'; did you mean 'subsequence'? "
            "known: lexical_overlap, subsequence, constituent",
        ),
        (
            "subcase",
            "ln_pasive",
            f"unknown subcase 'ln_pasive'; did you mean 'ln_passive'? known: {', '.join(SUBCASES)}",
        ),
        ("sentence2", " ", "sentence2 must be a non-empty text, got ' '"),
        ("pairID", "ex7", "pairID 'ex7' stands in line {first} already; ids must be unique"),
    ],
)
def test_a_value_that_cannot_be(tmp_path: Path, ending: str, column: str, value: str, fault: str) -> None:
    write = {"tsv": write_table, "jsonl": write_json}[ending]
    file = write(tmp_path / f"a.{ending}", [ROWS[0], ROWS[1] | {column: value}])
    first = 2 if ending == "tsv" else 1
    assert message_of(file) == f"{file}:{first + 1}: {fault.replace('{first}', str(first))}"


def test_json_lines_that_are_not_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(ROWS[0]) + "\n\n{broken\n", "utf-8")
    assert message_of(file) == (f"{file}:3: not JSON (Expecting property name enclosed in double quotes, column 2)")
    assert message_of(write_json(file, [["a"]])) == f"{file}:1: list where an object with keys is needed"
    assert message_of(write_json(file, [{"gold_label": "entailment"}])) == (
        f"{file}:1: no key 'sentence1'; needed are: "
        "gold_label, sentence1, sentence2, pairID, heuristic, subcase, template"
    )


def test_an_empty_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.tsv", [])
    assert message_of(file) == f"{file}: no pairs; a HANS file has one pair on each line after its header"
    file.write_bytes(b"gold\xff")
    assert message_of(file) == f"{file}: not UTF-8 text (invalid start byte, byte 4)"


def test_the_parse_of_the_premise_is_kept_and_counts_for_nothing(tmp_path: Path) -> None:
    tree = "(ROOT (S (NP (NNS judges)) (VP (VBD ran))))"
    table = read_pairs(write_table(tmp_path / "a.tsv", [ROWS[0] | {"sentence1_parse": tree}]))
    json_lines = read_pairs(write_json(tmp_path / "a.jsonl", [ROWS[0] | {"sentence1_parse": tree}]))
    assert [pair.parse for pair in (*table, *json_lines)] == [tree, tree]
    (without,) = read_pairs(write_json(tmp_path / "b.jsonl", ROWS[:1]))
    assert without.parse == "" and [without] == table
    file = write_json(tmp_path / "c.jsonl", [ROWS[0] | {"sentence1_parse": ["S"]}])
    assert message_of(file) == f"{file}:1: sentence1_parse must be a text, got ['S']"


@pytest.mark.parametrize("ending", ["txt", "jsonl"])
def test_the_training_split_lies_beside_the_evaluation_file(ending: str, tmp_path: Path) -> None:
    evaluation = write_table(tmp_path / "mine.tsv", ROWS[:1])
    file = tmp_path / f"heuristics_train_set.{ending}"
    (write_table if ending == "txt" else write_json)(file, ROWS[1:])
    assert [pair.pairID for pair in read_pairs(tmp_path)] == ["ex7"]  # the training split is not the evaluation file
    for path in (tmp_path, evaluation):
        assert [pair.pairID for pair in read_training_pairs(path)] == ["ex8", "ex9"]


def test_no_training_split_beside_the_evaluation_file(tmp_path: Path) -> None:
    write_table(tmp_path / "mine.tsv", ROWS)
    with pytest.raises(sn.DataError) as error:
        read_training_pairs(tmp_path)
    assert str(error.value) == (
        "hans.train: 'hans' needs heuristics_train_set.txt or heuristics_train_set.jsonl in "
        f"{str(tmp_path)!r}, beside the evaluation file; put it there, or set hans.train to nli or mnli"
    )


def test_the_task_reads_a_path(tmp_path: Path) -> None:
    file = str(write_table(tmp_path / "a.tsv", ROWS))
    discovery, heldout = (hans.load(which, path=file) for which in ("discovery", "heldout"))
    assert {example.id for example in discovery} == {"ex7", "ex8"}
    assert [(example.id, example.group, example.target) for example in heldout] == [
        ("ex9", "se_conjunction/temp45", "yes")
    ]
    assert heldout[0].labels == {"lexical_overlap": 0, "subsequence": 1, "constituent": 0, "gold_label": 1}


def hub_rows() -> list[dict[str, Any]]:
    names = {"sentence1": "premise", "sentence2": "hypothesis"}
    rows = [{names.get(key, key): value for key, value in row.items() if key != "pairID"} for row in ROWS]
    return [row | {"label": int(row.pop("gold_label") != "entailment")} for row in rows]


def test_the_hub_copy_has_labels_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str | None, str]] = []

    def load_dataset(name: str, *, revision: str | None, split: str) -> Any:
        asked.append((name, revision, split))
        return datasets.Dataset.from_list(hub_rows())

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    pairs = hub_pairs("jhu-cogsci/hans", "abc")
    assert asked == [("jhu-cogsci/hans", "abc", "validation")]
    assert [(pair.pairID, pair.gold_label, pair.sentence2) for pair in pairs] == [
        ("row0", "non-entailment", "The judge seen the actor ."),
        ("row1", "entailment", "The judge ran ."),
        ("row2", "entailment", "The actor ran ."),
    ]
    assert {example.id for example in hans.load("discovery", hub="jhu-cogsci/hans")} == {"row0", "row1"}


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in the form of the hub copy, which ``load_dataset`` really loads."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hans"
    folder.mkdir()
    rows = [row | {"parse_premise": "(S (NNS judges))"} for row in hub_rows()]
    for name, part in (("validation", rows[:2]), ("train", rows[2:])):
        features = datasets.Features(
            dict.fromkeys(rows[0], datasets.Value("string"))
            | {"label": datasets.ClassLabel(names=["entailment", "non-entailment"])}
        )
        file = folder / f"{name}-00000-of-00001.parquet"
        datasets.Dataset.from_list(part, features=features).to_parquet(file)
    return folder


def test_a_copy_of_the_hub_data_set_is_really_loaded(hub_folder: Path) -> None:
    pairs = hub_pairs(str(hub_folder), None)
    assert [(pair.pairID, pair.gold_label, pair.subcase, pair.parse) for pair in pairs] == [
        ("row0", "non-entailment", "ln_passive", "(S (NNS judges))"),
        ("row1", "entailment", "ce_adverb", "(S (NNS judges))"),
    ]
    assert [pair.sentence2 for pair in hub_pairs(str(hub_folder), None, "train")] == ["The actor ran ."]


def test_a_hub_that_does_not_answer_and_a_strange_label(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*_: object, **__: object) -> Any:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(sn.DataError) as error:
        hub_pairs("a/b", None)
    assert str(error.value) == (
        "hans.hub: split 'validation' of 'a/b' at revision latest cannot be loaded (ConnectionError: no route); "
        "check name and network, or give hans.path"
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [hub_rows()[0] | {"label": -1}])
    with pytest.raises(sn.DataError) as error:
        hub_pairs("a/b", None)
    assert str(error.value) == "hans.hub 'a/b', validation row 0: label -1; known: 0 (entailment), 1 (non-entailment)"


@pytest.mark.skipif(not ORIGINAL.exists(), reason=f"the sample of the original HANS pairs is not at {ORIGINAL}")
def test_the_original_pairs() -> None:
    pairs = hans_source.read_pairs(ORIGINAL)
    assert Counter(pair.subcase for pair in pairs) == dict.fromkeys(SUBCASES, 100)
    assert Counter(pair.gold_label for pair in pairs) == {"entailment": 1500, "non-entailment": 1500}
    for pair in pairs:
        subcase = SUBCASES[pair.subcase]
        assert (pair.heuristic, pair.gold_label) == (subcase.heuristic, subcase.gold_label), pair
        assert pair.group == f"{pair.subcase}/{pair.template}"
    templates = {subcase: {pair.template for pair in pairs if pair.subcase == subcase} for subcase in SUBCASES}
    assert {name: len(found) for name, found in templates.items()} == {
        name: len(subcase.templates) for name, subcase in SUBCASES.items()
    }
    split = Counter((hans_split_of_template(pair.group), pair.heuristic, pair.gold_label) for pair in pairs)
    assert len(split) == 12
    discovery = sum(n for (which, _, _), n in split.items() if which == "discovery")
    assert discovery == 1757
    words = {word for pair in pairs for word in f"{pair.sentence1} {pair.sentence2}".lower().split()}
    ours = {
        word
        for which in ("discovery", "heldout")
        for example in hans.load(which, limit=6000)
        for word in example.prompt.lower().split()
    }
    assert words - ours == set()


@pytest.mark.skipif(not ORIGINAL.exists(), reason=f"the sample of the original HANS pairs is not at {ORIGINAL}")
def test_generated_hans_has_the_subcases_and_labels_of_the_original() -> None:
    original, generated = (
        Counter((pair.heuristic, pair.subcase, pair.gold_label) for pair in pairs)
        for pairs in (read_pairs(ORIGINAL), generate_hans(100, 0))
    )
    assert len(original) == 30 and original == generated
