"""Local tasks of lm-evaluation-harness: YAML files with their data, written into a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LARGER = """\
task: larger
dataset_path: json
dataset_kwargs:
  data_files: {{train: {folder}/train.jsonl, test: {folder}/test.jsonl}}
  cache_dir: {folder}/cache
training_split: train
test_split: test
output_type: multiple_choice
description: "Answer yes or no.\\n\\n"
doc_to_text: "{{{{a}}}} is larger than {{{{b}}}}. Correct? "
doc_to_choice: ["yes", "certainly not"]
doc_to_target: label
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
metadata: {{version: 2.0}}
"""
SUMS = """\
task: sums
dataset_path: json
dataset_kwargs:
  data_files: {{validation: {folder}/sums.jsonl}}
  cache_dir: {folder}/cache
validation_split: validation
output_type: generate_until
doc_to_text: "{{{{a}}}} plus {{{{b}}}} equals"
doc_to_target: answer
generation_kwargs: {{until: ["\\n", "."], max_gen_toks: 5}}
filter_list:
  - name: number
    filter: [{{function: regex, regex_pattern: "([0-9]+)"}}, {{function: take_first}}]
  - name: plain
    filter: [{{function: take_first}}]
metric_list:
  - {{metric: exact_match, ignore_case: true, regexes_to_ignore: ["[^0-9]"]}}
metadata: {{version: 1.0}}
"""


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def pairs(first: int, end: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(first, end) for b in range(10, 22) if a != b]


def write_tasks(folder: Path, *, larger: str = LARGER, sums: str = SUMS) -> Path:
    """Write a multiple-choice task with a training split and an exact-match task without one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (first, end) in {"train": (10, 15), "test": (15, 20)}.items():
        write_rows(folder / f"{name}.jsonl", ({"a": a, "b": b, "label": int(a < b)} for a, b in pairs(first, end)))
    write_rows(folder / "sums.jsonl", ({"a": a, "b": b, "answer": f"It is {a + b}!"} for a, b in pairs(10, 16)))
    (folder / "larger.yaml").write_text(larger.format(folder=folder))
    (folder / "sums.yaml").write_text(sums.format(folder=folder))
    return folder
