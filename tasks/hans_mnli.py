"""Read MNLI (Williams et al. 2018, arXiv 1704.05426) to tune a prompt on before HANS: train and matched validation.

From the hub or from a folder that ``datasets.load_dataset`` reads: columns premise, hypothesis, label
(0 entailment, 1 neutral, 2 contradiction, -1 no majority). From a folder with the authors' two ``.jsonl`` files
(or the path of one of them): keys gold_label ("-" is no majority), sentence1, sentence2.

Pairs without a majority label and pairs with an empty sentence are left out; texts stay as they stand.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import skillneurons as sn

HUB = "nyu-mll/glue"
LABELS = ("entailment", "neutral", "contradiction")
NO_MAJORITY = "-"
FILES = {"train": "multinli_1.0_train.jsonl", "validation": "multinli_1.0_dev_matched.jsonl"}
SPLITS = {"train": ("train",), "validation": ("validation_matched", "validation")}  # the first that is there
COLUMNS = ("premise", "hypothesis", "label")
KEYS = ("gold_label", "sentence1", "sentence2")


class MnliPair(NamedTuple):
    """One pair; ``id`` names its line or row, ``label`` is one of ``LABELS``."""

    id: str
    premise: str
    hypothesis: str
    label: str


def mnli_pairs(which: str, source: str | None, revision: str | None) -> list[MnliPair]:
    """Return the pairs of ``train`` or ``validation`` in their order; validation without any premise of train."""
    reader = _reader(HUB if source is None else source, revision)
    if which == "train":
        return list(_usable(reader("train")))
    seen = {pair.premise for pair in reader("train")}
    return [pair for pair in _usable(reader("validation")) if pair.premise not in seen]


def _usable(pairs: Iterator[MnliPair]) -> Iterator[MnliPair]:
    return (pair for pair in pairs if pair.label != NO_MAJORITY and pair.premise.strip() and pair.hypothesis.strip())


def _reader(source: str, revision: str | None) -> Any:
    place = Path(source)
    if place.exists() and revision is not None:
        raise sn.DataError(
            f"hans.mnli_revision: {revision!r} goes with the name of a hub data set, and hans.mnli {source!r} is a path"
        )
    if place.is_file():
        if place.name not in FILES.values():
            raise sn.DataError(
                f"hans.mnli: {source!r} is none of the authors' files {' and '.join(FILES.values())}; "
                "give the folder that holds both"
            )
        place = place.parent
    if any((place / file).is_file() for file in FILES.values()):
        return lambda which: _lines(place / FILES[which], which)
    data = _load(source, place.is_dir(), revision)
    return lambda which: _rows(source, data, which)


def _lines(file: Path, which: str) -> Iterator[MnliPair]:
    if not file.is_file():
        raise sn.DataError(f"hans.mnli: the folder {str(file.parent)!r} has no {file.name}; both files are needed")
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise sn.DataError(f"{file}:{number}: not JSON ({error.msg}, column {error.colno})") from error
            if not isinstance(row, dict):
                raise sn.DataError(f"{file}:{number}: {type(row).__name__} where an object with keys is needed")
            label, premise, hypothesis = (_text(f"{file}:{number}", row, key, KEYS) for key in KEYS)
            if label not in (*LABELS, NO_MAJORITY):
                near = difflib.get_close_matches(label, LABELS, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                known = ", ".join((*LABELS, NO_MAJORITY))
                raise sn.DataError(f"{file}:{number}: unknown gold_label {label!r}; {hint}known: {known}")
            yield MnliPair(f"mnli/{which}/line{number}", premise, hypothesis, label)


def _text(where: str, row: Mapping[str, Any], key: str, keys: tuple[str, ...]) -> str:
    if key not in row:
        raise sn.DataError(f"{where}: no key {key!r}; needed are: {', '.join(keys)}")
    if not isinstance(row[key], str):
        raise sn.DataError(f"{where}: {key} must be a text, got {row[key]!r}")
    return str(row[key])


def _load(source: str, is_folder: bool, revision: str | None) -> Any:
    import datasets  # type: ignore[import-untyped,unused-ignore]

    try:
        if is_folder:
            has_mnli = "mnli" in datasets.get_dataset_config_names(source)
        else:
            has_mnli = source.rpartition("/")[2] == "glue"
        return datasets.load_dataset(source, "mnli" if has_mnli else None, revision=revision)
    except Exception as error:
        place = f"the folder {source!r}" if is_folder else f"{source!r} at revision {revision or 'latest'}"
        raise sn.DataError(
            f"hans.mnli: {place} cannot be loaded ({type(error).__name__}: {error}); check name and network, "
            f"or give a folder with {' and '.join(FILES.values())}"
        ) from error


def _rows(source: str, data: Any, which: str) -> Iterator[MnliPair]:
    split = next((name for name in SPLITS[which] if name in data), None)
    if split is None:
        raise sn.DataError(f"hans.mnli: {source!r} has no split {SPLITS[which][0]!r}; it has: {', '.join(data)}")
    for column in COLUMNS:
        if column not in data[split].column_names:
            raise sn.DataError(
                f"hans.mnli: {source!r}, {split}: no column {column!r}; it has: {', '.join(data[split].column_names)}"
            )
    names = getattr(data[split].features["label"], "names", LABELS)
    columns = data[split].select_columns(list(COLUMNS))[:]
    for i, row in enumerate(zip(*(columns[column] for column in COLUMNS), strict=True)):
        where = f"hans.mnli {source!r}, {split} row {i}"
        texts = dict(zip(COLUMNS[:2], row[:2], strict=True))
        premise, hypothesis = (_text(where, texts, column, COLUMNS) for column in texts)
        label = row[2]
        known = isinstance(label, int) and -1 <= label < len(names)
        name = (NO_MAJORITY if label == -1 else names[label]) if known else ""
        if name not in (*LABELS, NO_MAJORITY):
            raise sn.DataError(
                f"{where}: label {label!r}; known: 0 (entailment), 1 (neutral), 2 (contradiction), -1 (no majority)"
            )
        yield MnliPair(f"mnli/{which}/row{i}", premise, hypothesis, name)
