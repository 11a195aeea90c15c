"""Folders damaged by hand and at seeded places: each complaint in full, what --mend does, and that a run makes the same bytes again."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import crash_trials
import numpy as np
import pyarrow as pa
import pytest
import skillneurons as sn
from pyarrow import parquet
from safetensors.numpy import save
from skillneurons.cli import main
from skillneurons.complaint import Examination, shown
from skillneurons.doctor import examine
from skillneurons.doctor_text import examination_json, examination_text
from skillneurons.locks import STALE_AFTER, Locks, this_process
from skillneurons.mending import Watch, mend
from skillneurons.pass_examples import read_heldout
from skillneurons.pass_scores import read_scores
from skillneurons.registry import Registry
from skillneurons.results import DamagedCell, ResultsFolder, load_cell
from synthetic_cells import synthetic_cell

POCKET = Path(__file__).parent.parent / "leaderboard" / "pocket"
PLUGIN = """
import skillneurons as sn

@sn.hookimpl
def register_tasks(register):
    register(sn.Task("task000", "1", lambda split, *, limit=None, seed=0: [], chance=0.5))

@sn.hookimpl
def register_metrics(register):
    for name in ("metric00", "metric01", "metric02"):
        register(sn.Metric(name, lambda example, output: 0.0))
"""
A, B, C = 0, 30, 60  # numbers of cells: one task, model and seed, three metrics


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "invented.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def registry(plugin: Path) -> Registry:
    return sn.load_registry([str(plugin)])


@pytest.fixture
def runs(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small whole folder of three invented cells, which share a prompt; the working folder is beside it."""
    monkeypatch.chdir(tmp_path)
    for index in (A, B, C):
        write_whole(Path("runs"), index, registry)
    return Path("runs")


def key(index: int) -> str:
    return str(synthetic_cell(index)["key"])


def write_whole(folder: Path, index: int, registry: Registry) -> None:
    """Write an invented cell with all that stands beside it, 5 + 3 examples."""
    cell = synthetic_cell(index)
    (column,) = cell["columns"]
    cell["n"] |= {"discovery": 5, "heldout": 3}
    cell["task"]["source_hash"] = registry.source_hash("task", cell["task"]["name"])
    cell["metric"]["source_hash"] = registry.source_hash("metric", cell["metric"]["name"])
    place = folder / "passes" / cell["key"]
    prompt = folder / "prompts" / cell["prompt"]
    for path in (folder / "cells", folder / "cards", place, prompt):
        path.mkdir(parents=True, exist_ok=True)
    (folder / "cells" / f"{cell['key']}.json").write_text(json.dumps(cell))
    (folder / "cells" / f"{cell['key']}.run.json").write_text('{"python": "3.11"}')
    card = {"schema_version": 1, "key": cell["key"], "columns": {}}
    (folder / "cards" / f"{cell['key']}.json").write_text(json.dumps(card))
    scores = save({column: np.zeros((4, 640), dtype=np.float32)})
    (place / "scores.safetensors").write_bytes(scores)
    (place / "heldout.safetensors").write_bytes(scores)
    (place / "examples.parquet").write_bytes(examples(column, 8))
    strongest = {
        f"{column}/discovery": np.zeros((5, 10), np.float32),
        f"{column}/heldout": np.zeros((3, 10), np.float32),
        f"{column}/neurons": np.zeros((10, 2), np.int64),
    }
    (place / "neurons.safetensors").write_bytes(save(strongest))
    adapter = {"num_virtual_tokens": 10, "token_dim": 4}
    (prompt / "adapter_config.json").write_text(json.dumps(adapter))
    (prompt / "adapter_model.safetensors").write_bytes(save({"prompt_embeddings": np.zeros((10, 4), np.float32)}))
    (prompt / "placement.json").write_text('{"placement": "append", "init": "RANDOM"}')
    (prompt / "history.json").write_text("[]")


def examples(column: str, rows: int) -> bytes:
    texts = {name: [f"{name}{i}" for i in range(rows)] for name in ("id", "group", "prompt", "target", "text")}
    split = ["discovery"] * (rows - 3) + ["heldout"] * 3
    sink = io.BytesIO()
    parquet.write_table(pa.table({**texts, "split": split, "correct": [1.0] * rows, column: [0.5] * rows}), sink)
    return sink.getvalue()


def change(path: Path, **fields: object) -> None:
    """Change fields of a JSON file; ``a__b`` is ``b`` in ``a``."""
    content = json.loads(path.read_text())
    for name, value in fields.items():
        *outer, last = name.split("__")
        inner = content
        for part in outer:
            inner = inner[part]
        inner[last] = value
    path.write_text(json.dumps(content))


def told(found: Examination, *kinds: str) -> list[str]:
    """Return the complaints (of some kinds) as lines, with a mark where they can be mended."""
    return [
        f"{one.kind}{'*' if one.mendable else ''} {one.path}: {one.what}; {one.remedy}"
        for one in found.found
        if not kinds or one.kind in kinds
    ]


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["doctor", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return the stamp and the bytes of every file."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_healthy_folder(runs: Path, plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(runs)
    assert doctor(capsys, "runs", "-p", str(plugin)) == (
        0,
        "runs: 3 cells, 1 prompt, 3 passes: nothing is wrong\n",
        "",
    )
    code, out, _ = doctor(capsys, "runs", "-p", str(plugin), "--mend")
    assert (code, out) == (0, "runs: 3 cells, 1 prompt, 3 passes: nothing is wrong\n")
    assert everything(runs) == before  # nothing is written, not even a lock


def test_the_committed_board_is_healthy(registry: Registry) -> None:
    found = examine(POCKET, registry, deep=True)
    assert (found.cells, found.prompts, found.passes) == (90, 30, 90)
    assert found.complaints == []
    assert {(one.kind, one.what) for one in found.found} == {
        ("remark", "it has no run record, so times, versions and machine are not known"),
        ("remark", "it has no heldout.safetensors and no neurons.safetensors, so less of it can be shown"),
    }


def test_what_is_no_runs_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(capsys, str(tmp_path)) == (
        2,
        "",
        f"skillneurons: error: {tmp_path} is no runs folder: it has no cells/; `skillneurons run -o {tmp_path}` makes one\n",
    )
    (tmp_path / "file").write_text("")
    for name, why in (("nowhere", "no such file or directory"), ("file", "not a directory")):
        place = tmp_path / name
        error = f"skillneurons: error: cannot examine {place}: {why}; give a runs folder\n"
        assert doctor(capsys, str(place), "--mend") == (2, "", error)


CELL_AGAIN = "--mend sets it aside, and a run measures it again"
BOTH_AGAIN = "--mend sets it aside with its cell, and a run measures both again"
CARDS_ALONE = (
    "--mend sets it aside alone: the cell stays and has no neuron cards; delete the cell to have them made with it anew"
)
PROMPT_ALONE = "--mend sets it aside alone; the next run that needs it tunes it again"
BEFORE = "remark set-aside: what was set aside before; no run and no board reads it; delete it when it is not needed"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("", b"", "it is empty (0 bytes)"),
        (
            "",
            b"{",
            "it is not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
        ),
        ("", b"[]", "it holds no mapping"),
        ("copy", None, f"it holds the cell '{key(A)}': files are named after their key"),
    ],
)
def test_cells_that_cannot_be_read(
    runs: Path, registry: Registry, name: str, content: bytes | None, reason: str
) -> None:
    path = runs / "cells" / f"{name or key(A)}.json"
    path.write_bytes((runs / "cells" / f"{key(A)}.json").read_bytes() if content is None else content)
    found = examine(runs, registry)
    assert told(found) == [f"damaged* cells/{path.name}: {reason}; no board shows it; {CELL_AGAIN}"]


def test_a_cell_of_another_version_is_stale_and_left(runs: Path, registry: Registry) -> None:
    change(runs / "cells" / f"{key(A)}.json", schema_version=7)
    line = (
        f"stale cells/{key(A)}.json: schema_version 7 is not 1: it was written by another version of skillneurons; "
        "no board shows it; run again with this version, or read it with that one"
    )
    assert told(examine(runs, registry)) == [line]
    assert mend(runs, registry).done == []


SHOWN = "examples and the scores of every neuron cannot be shown or paired"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "damage", "fault"),
    [
        ("scores.safetensors", Path.unlink, "it has no scores.safetensors"),
        (
            "scores.safetensors",
            _cut,
            "scores.safetensors: it cannot be read (Error while deserializing header: incomplete metadata, file not fully covered)",
        ),
        (
            "scores.safetensors",
            lambda path: path.write_bytes(save({"metric00.value": np.zeros((4, 64), np.float32)})),
            "scores.safetensors: metric00.value has shape (4, 64), not (n_layers, d_ff) of 2560 neurons",
        ),
        (
            "scores.safetensors",
            lambda path: path.write_bytes(save({"other": np.zeros((4, 640), np.float32)})),
            "scores.safetensors: it has no column metric00.value, which its cell has",
        ),
        ("examples.parquet", lambda path: path.write_bytes(b""), "examples.parquet: it is empty (0 bytes)"),
        (
            "examples.parquet",
            lambda path: path.write_bytes(examples("metric00.value", 9)),
            "examples.parquet: it has 9 rows, its cell 8 examples",
        ),
        (
            "examples.parquet",
            lambda path: path.write_bytes(examples("another", 8)),
            "examples.parquet: it has no column metric00.value, which its cell has",
        ),
        (
            "heldout.safetensors",
            lambda path: path.write_bytes(save({"metric00.value": np.zeros((640, 4), np.float32)})),
            "heldout.safetensors: its columns have another shape than the scores (4, 640)",
        ),
        (
            "neurons.safetensors",
            lambda path: path.write_bytes(save({"metric00.value/discovery": np.zeros((5, 3), np.float32)})),
            "neurons.safetensors: metric00.value/discovery has shape (5, 3), which does not fit",
        ),
    ],
)
def test_passes_that_do_not_fit(
    runs: Path, registry: Registry, file: str, damage: Callable[[Path], object], fault: str
) -> None:
    damage(runs / "passes" / key(A) / file)
    assert told(examine(runs, registry)) == [f"damaged* passes/{key(A)}: {fault}; {SHOWN}; {BOTH_AGAIN}"]
    done = mend(runs, registry)
    assert done.done == [
        f"set aside cells/{key(A)}.json as set-aside/1/cells/{key(A)}.json",
        f"set aside cells/{key(A)}.run.json as set-aside/1/cells/{key(A)}.run.json",
        f"set aside passes/{key(A)} as set-aside/1/passes/{key(A)}",
        f"set aside cards/{key(A)}.json as set-aside/1/cards/{key(A)}.json",
    ]
    assert told(done.left) == [
        "remark set-aside: what was set aside before; no run and no board reads it; delete it when it is not needed"
    ]


def test_optional_files_of_a_pass_and_missing_folders_are_remarks(runs: Path, registry: Registry) -> None:
    (runs / "passes" / key(A) / "heldout.safetensors").unlink()
    (runs / "cells" / f"{key(A)}.run.json").unlink()
    assert told(examine(runs, registry)) == [
        f"remark cells/{key(A)}.json: it has no run record, so times, versions and machine are not known; none is needed for a board",
        f"remark passes/{key(A)}: it has no heldout.safetensors, so less of it can be shown; a run into an empty folder makes it",
    ]
    shutil.rmtree(runs / "passes")
    shutil.rmtree(runs / "prompts")
    found = examine(runs, registry)
    assert found.complaints == []
    assert told(found)[1:3] == [
        f"remark cells/{key(A)}.json: its pass is not kept here (no folder passes/), so examples and the scores of every neuron "
        "cannot be shown; ",
        f"remark cells/{key(A)}.json: its prompt is not kept here (no folder prompts/), so a run with other metrics tunes it again; ",
    ]


def test_passes_and_prompts_that_are_gone(runs: Path, registry: Registry) -> None:
    shutil.rmtree(runs / "passes" / key(A))
    change(runs / "cells" / f"{key(B)}.json", prompt="../../elsewhere", **{"pass": "/etc"})
    change(runs / "cells" / f"{key(C)}.json", prompt="gone-s0")
    assert told(examine(runs, registry)) == [
        f"damaged* cells/{key(A)}.json: its pass {key(A)} is not there, so examples and the scores of every neuron cannot be "
        f"shown; {CELL_AGAIN}",
        f"damaged* cells/{key(B)}.json: it names '../../elsewhere' as its prompt, which is no name of a prompt; {CELL_AGAIN}",
        f"damaged* cells/{key(B)}.json: its pass /etc is not there, so examples and the scores of every neuron cannot be shown; "
        f"{CELL_AGAIN}",
        f"remark cells/{key(C)}.json: its prompt gone-s0 is not there; the cell stands; a run that needs the prompt, for another "
        "metric say, tunes it again",
    ]
    left = mend(runs, registry).left
    assert left.cells == 1 and [one.path for one in left.found if one.kind == "remark"] == [
        f"cells/{key(C)}.json",
        "set-aside",
    ]


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("history.json", None, "it has no history.json"),
        (
            "placement.json",
            b'{"placement": "beside"}',
            "placement.json: placement is 'beside', not one of append, prepend",
        ),
        ("adapter_config.json", b"[]", "adapter_config.json: it holds a list, not a mapping"),
        ("history.json", b"{}", "history.json: it holds no list of losses"),
        (
            "adapter_model.safetensors",
            save({"prompt_embeddings": np.zeros((3, 4), np.float32)}),
            "adapter_model.safetensors: prompt_embeddings has shape (3, 4), adapter_config.json says (10, 4)",
        ),
        ("adapter_model.safetensors", b"", "adapter_model.safetensors: it is empty (0 bytes)"),
        ("placement.json", b'{"placement": "prepend"}', "its placement is prepend, the cell's settings say append"),
    ],
)
def test_prompts_that_cannot_be_used(
    runs: Path, registry: Registry, file: str, content: bytes | None, fault: str
) -> None:
    path = runs / "prompts" / "task000-s0" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for index in (A, B, C):
        change(runs / "cells" / f"{key(index)}.json", config__prompt__placement="append")
    line = f"damaged* prompts/task000-s0: {fault}; 3 cells rest on it and stand; {PROMPT_ALONE}"
    assert told(examine(runs, registry)) == [line]
    before = everything(runs)
    done = mend(runs, registry)
    assert done.done == ["set aside prompts/task000-s0 as set-aside/1/prompts/task000-s0"]
    assert everything(runs) == {
        (f"set-aside/1/{name}" if name.startswith("prompts/") else name): content for name, content in before.items()
    }
    gone = "its prompt task000-s0 is not there; the cell stands; a run that needs the prompt, for another metric say, tunes it again"
    assert told(done.left) == [*(f"remark cells/{key(index)}.json: {gone}" for index in (A, B, C)), BEFORE]


def test_a_cell_that_does_not_fit_the_prompt_of_others(runs: Path, registry: Registry) -> None:
    for index in (A, B, C):
        change(runs / "cells" / f"{key(index)}.json", config__prompt__placement="prepend" if index == A else "append")
    what = "its prompt task000-s0 does not fit it: its placement is append, the cell's settings say prepend"
    assert told(examine(runs, registry)) == [f"damaged* cells/{key(A)}.json: {what}; {CELL_AGAIN}"]
    done = mend(runs, registry)
    assert len(done.done) == 4 and (done.left.cells, done.left.prompts) == (2, 1) and told(done.left) == [BEFORE]


def test_a_cell_and_its_prompt_that_do_not_fit_each_other(runs: Path, registry: Registry) -> None:
    for index in (B, C):
        change(runs / "cells" / f"{key(index)}.json", prompt=None)
    change(runs / "cells" / f"{key(A)}.json", config__prompt__placement="prepend")
    what = "its prompt task000-s0 does not fit it: its placement is append, the cell's settings say prepend"
    assert told(examine(runs, registry)) == [
        f"damaged* cells/{key(A)}.json: {what}; --mend sets both aside, and a run makes both again"
    ]
    done = mend(runs, registry)
    assert len(done.done) == 5 and (done.left.cells, done.left.prompts) == (2, 0) and told(done.left) == [BEFORE]


def test_cards_records_and_strangers(runs: Path, registry: Registry) -> None:
    (runs / "cards" / f"{key(A)}.json").write_text("{")
    change(runs / "cards" / f"{key(B)}.json", columns={"metric01.value": {"L01": {}}})
    change(runs / "cards" / f"{key(C)}.json", schema_version=2)
    (runs / "cells" / f"{key(C)}.run.json").write_text('{"threads": "many"}')
    (runs / "notes.txt").write_text("mine")
    (runs / "passes" / key(A) / "more.txt").write_text("mine")
    (runs / "cells" / "notes\x1b[31m.md").write_text("mine")
    assert told(examine(runs, registry)) == [
        f"damaged* cards/{key(A)}.json: it is not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 "
        f"(char 1)); its neurons have no cards; {CARDS_ALONE}",
        f"damaged* cards/{key(B)}.json: 'L01' is no neuron; its neurons have no cards; {CARDS_ALONE}",
        f"damaged* cells/{key(C)}.run.json: threads is 'many'; times, versions and machine of this run are not known, its cell "
        "stands; --mend sets it aside",
        f"stale cards/{key(C)}.json: it was written by another version of skillneurons; its neurons have no cards; run again with "
        "this version, or read it with that one",
        "unknown cells/notes\x1b[31m.md: nothing here writes this; it is left alone",
        "unknown notes.txt: nothing here writes this; it is left alone",
        f"unknown passes/{key(A)}/more.txt: nothing here writes this; it is left alone",
    ]
    assert "\x1b" not in examination_text(examine(runs, registry)) + examination_json(examine(runs, registry))
    done = mend(runs, registry)
    assert done.done == [
        f"set aside {name} as set-aside/1/{name}"
        for name in (f"cards/{key(A)}.json", f"cards/{key(B)}.json", f"cells/{key(C)}.run.json")
    ]
    assert (done.left.cells, done.left.passes) == (3, 3) and not any(one.mendable for one in done.left.found)
    assert (runs / "notes.txt").exists() and (runs / "cells" / "notes\x1b[31m.md").exists()


def test_what_belongs_to_no_cell(runs: Path, registry: Registry) -> None:
    (runs / "cells" / f"{key(A)}.json").unlink()
    for index in (B, C):
        change(runs / "cells" / f"{key(index)}.json", prompt=None)
    across = json.loads(next((POCKET / "across").iterdir()).read_text())
    (runs / "across").mkdir()
    for name, cells in (
        ("across-s0-1", [key(A)]),
        ("across-s0-2", [key(A), key(B)]),
        ("across-s0-3", [key(B), key(C)]),
    ):
        content = {**across, "key": name, "cells": cells, "errors": {"on x": "y"} if name[-1] == "3" else {}}
        (runs / "across" / f"{name}.json").write_text(json.dumps(content))
    (runs / "across" / "across-s0-4.json").write_text(json.dumps({**across, "schema_version": 1}))
    (runs / "across" / "across-s0-5.json").write_text(json.dumps({**across, "cells": "none"}))
    assert told(examine(runs, registry)) == [
        "damaged* across/across-s0-5.json: cells: Input should be a valid list; no board shows it; --mend sets it aside, and a run "
        "measures it again",
        "orphaned* across/across-s0-1.json: 1 of the 1 cells that it rests on are not there, so no board shows it; --mend sets it aside",
        f"orphaned* cards/{key(A)}.json: neuron cards without a cell: its run was broken off, or its cell is gone; --mend sets it "
        "aside; the run of its cell makes it anew",
        f"orphaned* cells/{key(A)}.run.json: the record of a run whose cell is not there; --mend sets it aside",
        f"orphaned* passes/{key(A)}: a pass without a cell: its run was broken off, or its cell is gone; --mend sets it aside; the "
        "run of its cell makes it anew",
        "orphaned prompts/task000-s0: no finished cell rests on this prompt: its run was broken off, or its cells are gone; the run "
        "that tuned it goes on from it; else delete it yourself",
        "stale across/across-s0-3.json: a part of it could not be measured; the next run measures it again",
        "stale across/across-s0-4.json: it was written by another version of skillneurons; no board shows it; run again with this "
        "version, or read it with that one",
        "remark across/across-s0-2.json: 1 of the 2 cells that it rests on are not there, so no board shows it; it is shown again "
        "when they are back",
    ]
    left = mend(runs, registry).left
    assert [one.path for one in left.complaints] == [
        "prompts/task000-s0",
        "across/across-s0-3.json",
        "across/across-s0-4.json",
    ]


def test_what_is_stale(runs: Path, registry: Registry) -> None:
    change(runs / "cells" / f"{key(A)}.json", task__source_hash="before", metric__version="0")
    change(runs / "cells" / f"{key(B)}.json", model__name="pocket", model__revision="sha256:before", task__name="gone")
    failed = {
        "status": "failed",
        "columns": {},
        "pass": None,
        "error": {"type": "DataError", "message": "no data\nat all"},
    }
    change(runs / "cells" / f"{key(C)}.json", **failed, causal=None)
    for part in (runs / "passes" / key(C), runs / "cards" / f"{key(C)}.json"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    task, pocket = registry.source_hash("task", "task000"), sn.resolve_model("pocket")[1]
    again = "run again: what it measures now is another cell, and this one stays"
    assert told(examine(runs, registry)) == [
        f"stale cells/{key(A)}.json: metric 'metric00' has changed since it was measured (version 0, now 1); {again}",
        f"stale cells/{key(A)}.json: task 'task000' has changed since it was measured (source before, now {task}); {again}",
        f"stale cells/{key(B)}.json: model 'pocket' has changed since it was measured (revision sha256:before, now {pocket}); {again}",
        f"stale cells/{key(C)}.json: it failed: no data at all; mend the cause; the next run tries it again",
        "remark cells: task 'gone' is not loaded here, so whether it has changed cannot be told; give its plugin with -p",
    ]
    before = everything(runs)
    assert mend(runs, registry).done == [] and everything(runs) == before


def test_causal_parts_that_are_unfinished(runs: Path, registry: Registry) -> None:
    change(runs / "cells" / f"{key(A)}.json", causal={"pending": True, "columns": {}})
    change(runs / "cells" / f"{key(B)}.json", causal={"error": "out of memory", "columns": {}})
    assert told(examine(runs, registry), "stale") == [
        f"stale cells/{key(A)}.json: its causal part was broken off; its correlations stand; the next run finishes it",
        f"stale cells/{key(B)}.json: its causal part failed: out of memory; its correlations stand; the next run tries it again",
    ]
    with Locks(runs / "locks") as locks:
        assert locks.take([key(A)])
        assert [line.split(":")[0] for line in told(examine(runs, registry), "stale")] == [f"stale cells/{key(B)}.json"]


def test_checkpoints(runs: Path, registry: Registry) -> None:
    from skillneurons.checkpoint import TuningCheckpoint, TuningState

    torch = pytest.importorskip("torch")
    state = TuningState(7, False, torch.zeros(2, 4), torch.zeros(2, 4), 1.0, 0)
    for name in ("task000-s0", "other-s0", "cut-s0"):
        TuningCheckpoint(runs / "checkpoints" / f"{name}.safetensors", name, every=0).offer(lambda: state)
    _cut(runs / "checkpoints" / "cut-s0.safetensors")
    shutil.copy(runs / "checkpoints" / "other-s0.safetensors", runs / "checkpoints" / "copy.safetensors")
    assert told(examine(runs, registry)) == [
        "damaged* checkpoints/copy.safetensors: it was made for other-s0; the tuning begins anew; --mend sets it aside",
        "damaged* checkpoints/cut-s0.safetensors: it cannot be read (Error while deserializing header: incomplete metadata, file not "
        "fully covered); the tuning begins anew; --mend sets it aside",
        "orphaned* checkpoints/task000-s0.safetensors: the prompt of this tuning is saved, so nothing goes on from here; --mend deletes it",
        "remark checkpoints/other-s0.safetensors: a tuning that was broken off at step 7; a run of the same prompt goes on from it",
    ]
    assert mend(runs, registry).done == [
        "set aside checkpoints/copy.safetensors as set-aside/1/checkpoints/copy.safetensors",
        "set aside checkpoints/cut-s0.safetensors as set-aside/1/checkpoints/cut-s0.safetensors",
        "deleted checkpoints/task000-s0.safetensors",
    ]
    assert [path.name for path in (runs / "checkpoints").iterdir()] == ["other-s0.safetensors"]


def test_boards(runs: Path, plugin: Path, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "runs", "--format", "md", "--format", "csv", "--format", "parquet"]) == 0
    assert told(examine(runs, registry, deep=False)) == []
    csv, rebuild = runs / "board.csv", "rebuild it with: skillneurons leaderboard runs"
    csv.write_text(csv.read_text().replace("0.", "1."))
    (runs / "board.md").write_text("")
    (runs / ".board-index.parquet").write_bytes(b"PAR1")
    (runs / "board.parquet").write_bytes(b"PAR1" * 5)
    lines = told(examine(runs, registry))
    assert [line.split(": it cannot be read")[0] for line in lines] == [
        "damaged* .board-index.parquet",
        f"damaged board.md: it is empty (0 bytes); {rebuild}",
        "damaged board.parquet",
    ]
    assert lines[0].endswith("; the next build of the board takes longer, and is the same; --mend deletes it")
    assert mend(runs, registry).done == ["deleted .board-index.parquet"]
    shutil.copytree(runs / "cells", "kept")
    shutil.rmtree(runs / "cells")
    write_whole(runs, A, registry)
    for index in (B, C):
        shutil.rmtree(runs / "passes" / key(index))
        (runs / "cards" / f"{key(index)}.json").unlink()
    (runs / "board.md").unlink()
    (runs / "board.parquet").unlink()
    what = "it shows 2 cells that are not here: gone, or of another folder that it was built from too"
    assert told(examine(runs, registry)) == [f"remark board.csv: {what}; {rebuild}"]
    write_whole(runs, B, registry)
    write_whole(runs, C, registry)
    csv.write_text("\n".join(line for line in csv.read_text().splitlines() if key(C) not in line))
    assert told(examine(runs, registry)) == [f"stale board.csv: 1 cell of this folder is not on it; {rebuild}"]


def test_a_deep_look_compares_numbers(runs: Path, registry: Registry) -> None:
    assert main(["leaderboard", "runs"]) == 0
    found = examine(runs, registry, deep=True)  # the scores of invented cells are all 0
    cell = json.loads((runs / "cells" / f"{key(A)}.json").read_text())
    row = cell["columns"]["metric00.value"]["top"][0]
    place = f"L{row['layer']:02d}.N{row['neuron']:04d}"
    assert told(found)[0] == (
        f"damaged* passes/{key(A)}: scores.safetensors: metric00.value has r 0 at {place}, its cell {row['r']:.6g}; {SHOWN}; {BOTH_AGAIN}"
    )
    csv = runs / "board.csv"
    csv.write_text(csv.read_text().replace("2560", "2561"))
    rebuild = "rebuild it with: skillneurons leaderboard runs"
    assert told(examine(runs, registry, deep=True), "stale") == [
        f"stale board.csv: its numbers are not those of the cells; {rebuild}"
    ]


def leave_lock(folder: Path, name: str, *, machine: str = "", begun: str = "1") -> Path:
    """Write the lock of a process of this machine that is gone, or of another machine."""
    folder.mkdir(exist_ok=True)
    owner = replace(this_process(), host="far", pid=1, begun=begun, token="t", since="2026-01-01T00:00:00Z")
    path = folder / f"{name}.1.lock"
    path.write_text(json.dumps(asdict(replace(owner, machine=machine or owner.machine))))
    return path


class Elsewhere:
    """A machine that cannot be seen from here, and the time that passes while it is watched."""

    def __init__(self, *beating: Path, after: float = 0.0) -> None:
        self.now, self.beating, self.after = 1000.0, beating, after
        self.said: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now - 1000.0 >= self.after:
            for path in self.beating:
                os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))

    @property
    def watch(self) -> Watch:
        return Watch(self.said.append, lambda: self.now, self.sleep)


FAR = "far:1 (since 2026-01-01T00:00:00Z)"
STOP = "wait until that has ended, or stop it first"


def test_locks_of_this_machine(
    runs: Path, registry: Registry, plugin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_lock(runs / "locks", "dead")
    line = f"orphaned* locks/dead.1.lock: left by {FAR}, which is gone; it keeps nobody from work; --mend removes it, and so does the next run"
    assert told(examine(runs, registry)) == [line]
    whole = "runs: 3 cells, 1 prompt, 3 passes: nothing is wrong\n"
    assert doctor(capsys, "runs", "-p", str(plugin), "--mend") == (0, f"deleted locks/dead.1.lock\n{whole}", "")
    assert not (runs / "locks").exists()


@pytest.mark.parametrize("age", [-7200, 0, 7200])  # clocks of machines differ
def test_a_lock_elsewhere_that_stands_still_is_deleted(runs: Path, registry: Registry, age: int) -> None:
    (runs / "cells" / f"{key(B)}.json").write_text("")
    for name in (key(A), key(B), "doctor"):  # a doctor that was killed is no obstacle
        path = leave_lock(runs / "locks", name, machine="another")
        os.utime(path, (time.time() - age,) * 2)
    (runs / "locks" / "unread.1.lock").write_text("{")
    names = f"doctor, {key(A)}, {key(B)}"
    nobody = "a runner that its lock does not name may be at work on unread"
    assert told(examine(runs, registry)) == [
        f"live locks: {nobody}; its heartbeat is watched when mending",
        f"live locks: {FAR} may be at work on {names}; its heartbeat is watched when mending",
    ]
    elsewhere = Elsewhere()
    done = mend(runs, registry, watch=elsewhere.watch)
    assert elsewhere.said == [
        f"{FAR} may be at work on {names}; {nobody}: watching for a heartbeat, 120 seconds at most"
    ]
    assert elsewhere.now == 1000.0 + STALE_AFTER
    assert done.done[:5] == [
        "deleted locks/doctor.1.lock",
        f"deleted locks/{key(A)}.1.lock",
        f"deleted locks/{key(B)}.1.lock",
        "deleted locks/unread.1.lock",
        f"set aside cells/{key(B)}.json as set-aside/1/cells/{key(B)}.json",
    ]
    assert not (runs / "locks").exists() and done.left.complaints == []


@pytest.mark.parametrize("after", [5.0, 115.0])
@pytest.mark.parametrize("age", [-7200, 0, 7200])
def test_a_lock_elsewhere_that_moves_keeps_the_doctor_away(
    runs: Path, registry: Registry, age: int, after: float
) -> None:
    (runs / "cells" / f"{key(B)}.json").write_text("")
    leave_lock(runs / "locks", "left", machine="another")
    path = leave_lock(runs / "locks", "moving", machine="another")
    os.utime(path, (time.time() - age,) * 2)
    elsewhere, names = Elsewhere(path, after=after), sorted(path.name for path in runs.rglob("*"))
    with pytest.raises(sn.UserError) as error:
        mend(runs, registry, watch=elsewhere.watch)
    assert str(error.value) == f"cannot mend runs now: {FAR} is at work on moving; {STOP}"
    assert elsewhere.now == 1000.0 + after
    assert (
        sorted(path.name for path in runs.rglob("*")) == names
    )  # nothing was touched, the lock that was left included


def test_an_owner_elsewhere_that_ends_while_it_is_watched(runs: Path, registry: Registry) -> None:
    path = leave_lock(runs / "locks", "ending", machine="another")
    elsewhere = Elsewhere()
    watch = replace(elsewhere.watch, sleep=lambda seconds: path.unlink())
    assert mend(runs, registry, watch=watch).done == [] and elsewhere.now == 1000.0


@pytest.mark.parametrize("name", ["watched", "another"])
def test_who_wakes_after_it_was_watched_is_seen_under_the_lock(
    runs: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (runs / "cells" / f"{key(B)}.json").write_text("")
    leave_lock(runs / "locks", "watched", machine="another")
    take = Locks.take

    def taken(self: Locks, names: Iterable[str]) -> bool:
        done = take(self, names)
        if list(names) == ["doctor"]:
            os.utime(leave_lock(runs / "locks", name, machine="another"), ns=(0, 1))
        return done

    monkeypatch.setattr(Locks, "take", taken)
    with pytest.raises(sn.UserError) as error:
        mend(runs, registry, watch=Elsewhere().watch)
    does = "is at work on watched" if name == "watched" else "may be at work on another"
    assert str(error.value) == f"cannot mend runs now: {FAR} {does}; {STOP}"
    assert (runs / "cells" / f"{key(B)}.json").exists() and (runs / "locks" / f"{name}.1.lock").exists()


def test_the_command_says_that_it_watches(
    runs: Path, plugin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import skillneurons.mending

    monkeypatch.setattr(skillneurons.mending, "STALE_AFTER", 0.0)
    leave_lock(runs / "locks", "elsewhere", machine="another")
    assert doctor(capsys, "runs", "-p", str(plugin), "--mend") == (
        0,
        "deleted locks/elsewhere.1.lock\nruns: 3 cells, 1 prompt, 3 passes: nothing is wrong\n",
        f"skillneurons: {FAR} may be at work on elsewhere: watching for a heartbeat, 0 seconds at most\n",
    )
    monkeypatch.setattr(skillneurons.mending, "HEARTBEAT", 0.01)
    monkeypatch.setattr(skillneurons.mending, "STALE_AFTER", 120.0)
    path = leave_lock(runs / "locks", "elsewhere", machine="another")
    say = skillneurons.cli.say

    def beat(lines: list[str]) -> None:
        say(lines)
        os.utime(path, ns=(0, 1))

    monkeypatch.setattr(skillneurons.cli, "say", beat)
    assert doctor(capsys, "runs", "-p", str(plugin), "--mend") == (
        2,
        "",
        f"skillneurons: {FAR} may be at work on elsewhere: watching for a heartbeat, 120 seconds at most\n"
        f"skillneurons: error: cannot mend runs now: {FAR} is at work on elsewhere; {STOP}\n",
    )


def test_a_live_owner_is_told_and_its_work_is_not_complained_about(runs: Path, registry: Registry) -> None:
    (runs / "cells" / f"{key(A)}.json").unlink()
    (runs / "checkpoints").mkdir()
    (runs / "checkpoints" / "task000-s0.safetensors").write_text("")
    (runs / "cells" / ".x.json.0123abcd.tmp").write_text("")
    with Locks(runs / "locks") as locks:
        assert locks.take([key(A)])
        found = examine(runs, registry)
        assert found.complaints == []
        me = f"{locks.me.label} (since {locks.me.since})"
        assert told(found) == [
            "remark cells/.x.json.0123abcd.tmp: a temporary file, perhaps of a command at work; look again when no command works here",
            f"live locks: {me} is at work on {key(A)}; ",
        ]
        with pytest.raises(sn.UserError) as error:
            mend(runs, registry)
        assert (
            str(error.value)
            == f"cannot mend runs now: {me} is at work on {key(A)}; wait until that has ended, or stop it first"
        )
    assert len(examine(runs, registry).complaints) == 5


def test_a_runner_that_comes_meanwhile_is_kept_away(
    runs: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import skillneurons.mending

    (runs / "cells" / f"{key(A)}.json").write_text("")
    seen = []

    def set_aside(*arguments: object) -> str:
        other = Locks(runs / "locks")
        seen.append((other.take([key(A)]), other.take([key(B)])))
        other.release([key(B)])
        return original(*arguments)  # type: ignore[arg-type]

    original = skillneurons.mending._set_aside
    monkeypatch.setattr(skillneurons.mending, "_set_aside", set_aside)
    mend(runs, registry)
    assert set(seen) == {(False, True)} and not (runs / "locks").exists()


def test_temporary_files(runs: Path, registry: Registry) -> None:
    (runs / "cells" / f".{key(A)}.json.0123abcd.tmp").write_text("half")
    (runs / ".board.md.0123abcd.tmp").write_text("half")
    (runs / ".site-0123abcd.tmp" / "site").mkdir(parents=True)
    (runs / "passes" / f".{key(A)}.0123abcd.tmp").mkdir()
    (runs / "passes" / key(B)).rename(runs / "passes" / f".{key(B)}.0123abcd.old.tmp")
    shutil.copytree(runs / "passes" / key(C), runs / "passes" / f".{key(C)}.0123abcd.old.tmp")
    before = everything(runs / "passes" / f".{key(B)}.0123abcd.old.tmp")
    killed = "left by a process that was killed; nothing reads it; --mend deletes it"
    perhaps = "a temporary file, perhaps of a command at work; look again when no command works here"
    lines = [
        f"orphaned* cells/.{key(A)}.json.0123abcd.tmp: {killed}",
        f"orphaned* passes/.{key(A)}.0123abcd.tmp: {killed}",
        f"orphaned* passes/.{key(B)}.0123abcd.old.tmp: what passes/{key(B)} was before a killed process replaced it, and nothing "
        "took its place; --mend puts it back",
        f"orphaned* passes/.{key(C)}.0123abcd.old.tmp: {killed}",
    ]
    assert told(examine(runs, registry), "orphaned", "remark") == [
        *lines,
        f"remark .board.md.0123abcd.tmp: {perhaps}",
        f"remark .site-0123abcd.tmp: {perhaps}",
    ]
    later = examine(runs, registry, clock=lambda: time.time() + 700)
    assert told(later, "orphaned") == [
        f"orphaned* .board.md.0123abcd.tmp: {killed}",
        f"orphaned* .site-0123abcd.tmp: {killed}",
        *lines,
    ]
    assert f"put back passes/{key(B)} from passes/.{key(B)}.0123abcd.old.tmp" in mend(runs, registry).done
    assert everything(runs / "passes" / key(B)) == before
    assert [line for line in told(examine(runs, registry)) if "board.md" not in line and ".site" not in line] == []


def test_links_are_not_followed(runs: Path, registry: Registry, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.move(runs / "cards", outside)
    (runs / "cards").symlink_to(outside)
    (outside / f"{key(A)}.json").write_text("{")
    linked = runs / "cells" / f"{key(B)}.json"
    shutil.move(linked, outside / "cell")
    linked.symlink_to(outside / "cell")
    (outside / "cell").write_text("{")
    os.mkfifo(runs / "cells" / "pipe.json")
    (runs / "across").symlink_to("nowhere")
    link = "a symbolic link, which is not followed here; it is left alone"
    found = examine(runs, registry)
    assert told(found) == [
        f"unknown across: {link}",
        f"unknown cards: {link}",
        "unknown cells/pipe.json: nothing here writes this; it is left alone",
        f"unknown cells/{key(B)}.json: {link}",
    ]
    (runs / "cells" / f"{key(A)}.json").write_text("{")
    (runs / "set-aside").symlink_to(outside)
    with pytest.raises(sn.ResultsError) as error:
        mend(runs, registry)
    assert (
        str(error.value)
        == "cannot mend runs: set-aside is a symbolic link, which is not followed; put a folder in its place"
    )
    (runs / "set-aside").unlink()
    mend(runs, registry)
    assert sorted(path.name for path in outside.iterdir()) == sorted(
        ["cell", *(f"{key(index)}.json" for index in (A, B, C))]
    )


def test_a_folder_in_the_place_of_a_file_and_a_file_in_the_place_of_a_folder(runs: Path, registry: Registry) -> None:
    cell = runs / "cells" / f"{key(A)}.json"
    cell.unlink()
    cell.mkdir()
    shutil.rmtree(runs / "passes" / key(B))
    (runs / "passes" / key(B)).write_text("")
    shutil.rmtree(runs / "cards")
    (runs / "cards").write_text("")
    assert told(examine(runs, registry)) == [
        "damaged cards: it is no folder, so no run can write here; move it away",
        f"damaged* cells/{key(A)}.json: it is a folder, not a file; no board shows it; {CELL_AGAIN}",
        f"damaged* passes/{key(B)}: it is a file, not a folder; {SHOWN}; {BOTH_AGAIN}",
    ]
    assert told(mend(runs, registry).left, "damaged") == [
        "damaged cards: it is no folder, so no run can write here; move it away"
    ]


def test_the_whole_text(runs: Path, plugin: Path, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(25):
        (runs / f"note{i:02d}").write_text("mine")
    (runs / "cells" / f"{key(A)}.json").write_text("")
    change(runs / "cells" / f"{key(B)}.json", metric__source_hash="before")
    code, out, err = doctor(capsys, "runs", "-p", str(plugin))
    assert code == 1 and err == ""
    now = registry.source_hash("metric", "metric01")
    assert out == (
        "runs: 3 cells, 1 prompt, 3 passes: 2 things wrong\n"
        "\n"
        "damaged: cannot be read, or does not fit (1)\n"
        f"  cells/{key(A)}.json: it is empty (0 bytes); no board shows it; --mend sets it aside, and a run measures it again\n"
        "\n"
        "stale: not what a run would measure now; never mended, only told (1)\n"
        f"  cells/{key(B)}.json: metric 'metric01' has changed since it was measured (source before, now {now}); run again: what it "
        "measures now is another cell, and this one stays\n"
        "\n"
        "unknown, and left alone (25)\n"
        "  25 at the top (note00, note01 ...): nothing here writes this; it is left alone\n"
        "\n"
        "1 of these can be mended: skillneurons doctor runs --mend\n"
    )
    code, out, _ = doctor(capsys, "runs", "-p", str(plugin), "--json")
    content = json.loads(out)
    assert code == 1 and content["complaints"] == 2 and len(content["found"]) == 27 and content["mended"] == []
    assert content["found"][0] == {
        "kind": "damaged",
        "path": f"cells/{key(A)}.json",
        "what": "it is empty (0 bytes); no board shows it",
        "remedy": "--mend sets it aside, and a run measures it again",
        "mendable": True,
    }


def test_many_lines_are_counted(runs: Path, registry: Registry) -> None:
    for i in range(30):
        change(runs / "cells" / f"{key(A)}.json", key=f"copy{i:02d}")
        shutil.copy(runs / "cells" / f"{key(A)}.json", runs / "cells" / f"other{i:02d}.json")
    text = examination_text(examine(runs, registry))
    (start,) = [i for i, line in enumerate(text.splitlines()) if line.startswith("damaged")]
    lines = text.splitlines()[start + 1 :]
    assert lines[20] == "  and 11 more (--json lists all)" and lines[21] == ""


def test_each_mending_has_its_own_number(runs: Path, registry: Registry) -> None:
    for number in (1, 2):
        write_whole(runs, A, registry)
        (runs / "cells" / f"{key(A)}.json").write_text(f"damaged {number}")
        done = mend(runs, registry)
        assert done.done[0] == f"set aside cells/{key(A)}.json as set-aside/{number}/cells/{key(A)}.json"
        assert (runs / "set-aside" / str(number) / "cells" / f"{key(A)}.json").read_text() == f"damaged {number}"
        assert not done.left.complaints and mend(runs, registry).done == []


def test_where_nothing_can_be_written(runs: Path, plugin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "cells" / f"{key(A)}.json").write_text("")
    (runs / "locks").write_text("")
    error = "cannot write runs/locks: file exists; mending writes into the folder: become somebody who may"
    assert doctor(capsys, "runs", "-p", str(plugin), "--mend") == (2, "", f"skillneurons: error: {error}\n")
    assert (runs / "cells" / f"{key(A)}.json").exists()


def test_locks_of_other_names_are_unknown(runs: Path, registry: Registry) -> None:
    leave_lock(runs / "locks", "no key")
    (runs / "cells" / f"{key(A)}.json").write_text("")
    done = mend(runs, registry)
    assert told(done.left, "unknown") == ["unknown locks/no key.1.lock: nothing here writes this; it is left alone"]
    assert len(done.done) == 4 and not done.left.complaints


def test_what_cannot_be_moved_is_said(
    runs: Path, plugin: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs / "cells" / f"{key(A)}.json").write_text("")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if "cells" in self.parts:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    code, out, err = doctor(capsys, "runs", "-p", str(plugin), "--mend")
    assert code == 1 and "1 of these can be mended" in out
    assert err == f"skillneurons: cells/{key(A)}.json cannot be mended: permission denied\n"


def test_nothing_heavy_is_loaded() -> None:
    code = f"from skillneurons.cli import main\nmain(['doctor', {str(POCKET)!r}, '--deep'])"
    script = f"import sys\n{code}\nprint(*[m for m in ('torch', 'transformers', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


def test_what_is_written_elsewhere_is_known_here() -> None:
    from skillneurons import cards, kept_faults, pass_examples, pass_faults, prompt

    assert kept_faults.CARDS_VERSION == cards.SCHEMA_VERSION
    assert kept_faults.PLACEMENTS == prompt.PLACEMENTS
    assert pass_faults.ABOUT == pass_examples.ABOUT


def test_text_is_one_line_that_no_terminal_obeys() -> None:
    assert shown("a\nb\x1b[2Jc\udcff é") == "a\\nb\\x1b[2Jc\\udcff é"
    assert shown("x" * 20, 10) == "xxxxxxx..."


class Real:
    """A finished run of a tiny model: two tasks, two metrics, causes and what concerns both tasks."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.plugin, self.config = folder.parent / "crash_plugin.py", folder.parent / "crash.yaml"
        self.registry = sn.load_registry([str(self.plugin)])

    def run(self, folder: Path) -> int:
        arguments = ["run", str(self.config), "-m", str(self.model), "-p", str(self.plugin), "--device", "cpu"]
        return main([*arguments, "-o", str(folder)])

    def copy(self, place: Path) -> Path:
        return Path(shutil.copytree(self.folder, place))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, model_folder: Callable[[str], Path]) -> Iterator[Real]:
    place = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRASH_LOG", str(place / "log"))
        sys.modules["torch"].set_num_threads(1)
        made = Real(crash_trials.prepared(place / "whole"), model_folder("qwen2"))
        assert made.run(made.folder) == 0
        yield made


def kept(folder: Path) -> dict[str, str]:
    return {name: one for name, one in crash_trials.contents(folder).items() if not name.startswith("set-aside/")}


def test_a_finished_run_is_healthy(real: Real) -> None:
    before = everything(real.folder)
    assert examine(real.folder, real.registry, deep=True).found == []
    assert everything(real.folder) == before


def one_of(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[0]


def stamps_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("cells/*[0-9a-f].json")}


def test_a_run_makes_what_was_set_aside_to_the_same_bytes(real: Real, tmp_path: Path) -> None:
    folder = real.copy(tmp_path / "runs")
    whole, stamps = kept(folder), stamps_of(folder)
    one_of(folder, "cells/one-confidence*[0-9a-f].json").write_text("{")
    _cut(one_of(folder, "passes/one-labels*/scores.safetensors"))
    shutil.rmtree(one_of(folder, "passes/two-labels*"))
    assert len(examine(folder, real.registry).complaints) == 3
    done = mend(folder, real.registry)
    assert done.failed == [] and not any(one.mendable for one in done.left.found)
    aside = stamps.keys() - stamps_of(folder).keys()
    assert len(aside) == 3 < len(stamps)
    assert real.run(folder) == 0
    assert kept(folder) == whole
    assert {path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp} == aside  # these, and no other
    assert examine(folder, real.registry, deep=True).complaints == []


def test_a_damaged_prompt_or_card_costs_no_cell(real: Real, tmp_path: Path) -> None:
    folder = real.copy(tmp_path / "runs")
    whole, stamps = kept(folder), stamps_of(folder)
    prompt, card = one_of(folder, "prompts/one-*"), one_of(folder, "cards/two-labels*")
    (prompt / "placement.json").unlink()
    for path in (card, one_of(folder, "across/*")):
        path.write_text(path.read_text()[:-9])
    (folder / "cells" / ".x.json.0123abcd.tmp").write_text("")
    leave_lock(folder / "locks", "dead")
    assert len(examine(folder, real.registry).complaints) == 5
    done = mend(folder, real.registry)
    assert done.failed == [] and done.left.complaints == [] and stamps_of(folder) == stamps
    assert real.run(folder) == 0  # what concerns both tasks needs the prompt
    assert kept(folder) == {name: one for name, one in whole.items() if name != f"cards/{card.name}"}
    assert stamps_of(folder) == stamps
    without = "it has no neuron cards; delete the cell to have them made with it anew"
    assert told(examine(folder, real.registry, deep=True)) == [f"remark cells/{card.name}: {without}", BEFORE]
    again = folder / "cells" / card.name
    again.unlink()
    assert real.run(folder) == 0
    assert kept(folder) == whole
    assert [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp] == [again]
    assert told(examine(folder, real.registry, deep=True)) == [BEFORE]


def is_unreadable(folder: Path) -> bool:
    """Whether the readers of the package refuse a cell, a pass or a prompt of the folder."""
    here = ResultsFolder(folder)
    cells = [load_cell(path) for path in sorted(here.cells.glob("*.json")) if not path.name.endswith(".run.json")]
    try:
        for one in here.passes.iterdir():
            read_scores(here, one.name)
            read_heldout(one / "examples.parquet")
        for one in here.prompts.iterdir():
            sn.SoftPrompt.from_pretrained(one)
    except sn.ResultsError:
        return True
    return any(isinstance(cell, DamagedCell) for cell in cells)


def damaged(data: bytes, how: str, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    if how == "cut":
        return data[: at // 2]  # without its last line end, text is whole
    if how == "flip":
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    return data[:at] + rng.randbytes(rng.randrange(1, 64)) + data[at + 64 :]


def test_wherever_a_file_is_damaged(real: Real, tmp_path: Path) -> None:
    rng, refused = random.Random(0), 0
    names = sorted(path.relative_to(real.folder) for path in real.folder.rglob("*") if path.is_file())
    for i in range(60):
        folder = real.copy(tmp_path / "runs")
        name, how = rng.choice(names), ("cut", "over", "flip")[i % 3]
        (folder / name).write_bytes(damaged((folder / name).read_bytes(), how, rng))
        found, deep = examine(folder, real.registry), examine(folder, real.registry, deep=True)
        about = f"{how} {name}"
        if how == "cut" and name.suffix != ".md":
            assert found.complaints, about
        if is_unreadable(folder):
            refused += 1
            assert deep.complaints, about
        done = mend(folder, real.registry, deep=True)
        assert done.failed == [] and not any(one.mendable for one in done.left.found), about
        before = everything(folder)
        assert mend(folder, real.registry, deep=True).done == [] and everything(folder) == before, about
        shutil.rmtree(folder)
    assert refused >= 15
