"""Read HANS pairs from a file in the authors' columns, from JSON Lines, or from the Hugging Face hub.

A text file is tab-separated with a header line; the seven columns of ``COLUMNS`` are read, and the premise's parse
where it is there. A JSON Lines file (``.jsonl``) has one object with the same keys on each line. In a folder, the
authors' ``heuristics_evaluation_set.txt`` or else its only ``.tsv``, ``.txt`` or ``.jsonl`` file is read; their
training split, ``heuristics_train_set.txt`` or ``.jsonl``, is looked for beside it.
A row that does not have the promised form is a DataError that names file and line.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import skillneurons as sn
from skillneurons.tasks.hans_grammar import HansPair
from skillneurons.tasks.hans_subcases import HEURISTICS, LABELS, SUBCASES

COLUMNS = ("gold_label", "sentence1", "sentence2", "pairID", "heuristic", "subcase", "template")
PARSE = "sentence1_parse"
AUTHORS_FILE = "heuristics_evaluation_set.txt"
TRAINING_FILES = ("heuristics_train_set.txt", "heuristics_train_set.jsonl")
ENDINGS = (".tsv", ".txt", ".jsonl")


def read_pairs(path: str | Path) -> list[HansPair]:
    """Read the pairs of a file, or of the one file in a folder, in their order."""
    return _read(_file_of(Path(path)))


def read_training_pairs(path: str | Path) -> list[HansPair]:
    """Read the authors' training split: the file that lies beside the evaluation file of ``path``."""
    folder = _file_of(Path(path)).parent
    file = next((folder / name for name in TRAINING_FILES if (folder / name).is_file()), None)
    if file is None:
        raise sn.DataError(
            f"hans.train: 'hans' needs {' or '.join(TRAINING_FILES)} in {str(folder)!r}, beside the evaluation file; "
            "put it there, or set hans.train to nli or mnli"
        )
    return _read(file)


def _read(file: Path) -> list[HansPair]:
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise sn.DataError(f"{file}: not UTF-8 text ({error.reason}, byte {error.start})") from error
    rows = _json_rows(file, lines) if file.suffix == ".jsonl" else _table_rows(file, lines)
    pairs: list[HansPair] = []
    places: dict[str, int] = {}
    for number, row in rows:
        pair = _pair_of(f"{file}:{number}", row)
        if places.setdefault(pair.pairID, number) != number:
            raise sn.DataError(
                f"{file}:{number}: pairID {pair.pairID!r} stands in line {places[pair.pairID]} already; ids must be unique"
            )
        pairs.append(pair)
    if not pairs:
        raise sn.DataError(f"{file}: no pairs; a HANS file has one pair on each line after its header")
    return pairs


def _file_of(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise sn.DataError(
            f"hans.path: no file or folder {str(path)!r}; give the authors' {AUTHORS_FILE}, "
            "a .jsonl file with the same keys, or a folder that holds one of them"
        )
    if (path / AUTHORS_FILE).is_file():
        return path / AUTHORS_FILE
    files = sorted(file for file in path.iterdir() if file.suffix in ENDINGS and file.name not in TRAINING_FILES)
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise sn.DataError(
            f"hans.path: the folder {str(path)!r} must hold {AUTHORS_FILE} or exactly one "
            f".tsv, .txt or .jsonl file; found: {found}; name the file itself"
        )
    return files[0]


def _table_rows(file: Path, lines: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header = lines[0].split("\t") if lines else []
    for column in COLUMNS:
        if column not in header:
            raise sn.DataError(
                f"{file}:1: no column {column!r}; a tab-separated header with these columns is needed: {', '.join(COLUMNS)}"
            )
    for number, line in enumerate(lines[1:], 2):
        fields = line.split("\t")
        if not line.strip():
            continue
        if len(fields) != len(header):
            raise sn.DataError(
                f"{file}:{number}: {len(fields)} fields where the header has {len(header)}; "
                "the line is cut off or not tab-separated"
            )
        yield number, dict(zip(header, fields, strict=True))


def _json_rows(file: Path, lines: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise sn.DataError(f"{file}:{number}: not JSON ({error.msg}, column {error.colno})") from error
        if not isinstance(row, dict):
            raise sn.DataError(f"{file}:{number}: {type(row).__name__} where an object with keys is needed")
        yield number, row


def _pair_of(where: str, row: Mapping[str, Any]) -> HansPair:
    for column in COLUMNS:
        if column not in row:
            raise sn.DataError(f"{where}: no key {column!r}; needed are: {', '.join(COLUMNS)}")
        if not isinstance(row[column], str) or not row[column].strip():
            raise sn.DataError(f"{where}: {column} must be a non-empty text, got {row[column]!r}")
    for column, known in (("gold_label", LABELS), ("heuristic", HEURISTICS), ("subcase", tuple(SUBCASES))):
        if row[column] not in known:
            near = difflib.get_close_matches(row[column], known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise sn.DataError(f"{where}: unknown {column} {row[column]!r}; {hint}known: {', '.join(known)}")
    parse = row.get(PARSE) or ""
    if not isinstance(parse, str):
        raise sn.DataError(f"{where}: {PARSE} must be a text, got {parse!r}")
    return HansPair(**{column: row[column] for column in COLUMNS}, parse=parse)


def hub_pairs(name: str, revision: str | None, split: str = "validation") -> list[HansPair]:
    """Load a split of the hub copy; its ``validation`` is the evaluation set, label 0 is entailment, 1 is not.

    The hub copy has no pairID: the row's number in the split stands for it (``row17``).
    """
    import datasets  # type: ignore[import-untyped,unused-ignore]

    try:
        rows = datasets.load_dataset(name, revision=revision, split=split)
    except Exception as error:
        raise sn.DataError(
            f"hans.hub: split {split!r} of {name!r} at revision {revision or 'latest'} cannot be loaded "
            f"({type(error).__name__}: {error}); check name and network, or give hans.path"
        ) from error
    where = f"hans.hub {name!r}, {split} row"
    return [_pair_of(f"{where} {i}", _authors_row(f"{where} {i}", i, row)) for i, row in enumerate(rows)]


def _authors_row(where: str, i: int, row: Mapping[str, Any]) -> dict[str, Any]:
    label = row.get("label")
    if label not in (0, 1):
        raise sn.DataError(f"{where}: label {label!r}; known: 0 (entailment), 1 (non-entailment)")
    names = {"sentence1": "premise", "sentence2": "hypothesis", PARSE: "parse_premise"}
    renamed = {ours: row.get(theirs) for ours, theirs in names.items()}
    return {**row, **renamed, "pairID": f"row{i}", "gold_label": LABELS[label]}
