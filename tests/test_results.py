"""Keys do not depend on order, files are whole or absent, damage is named and never raised."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skillneurons.atomic import write_atomic
from skillneurons.errors import ResultsError
from skillneurons.results import (
    DamagedCell,
    Result,
    ResultsFolder,
    canonical_json,
    check_key,
    content_key,
    load_cell,
    write_json_atomic,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)
payloads = st.dictionaries(st.text(), values, max_size=6)


def cell(**changes: Any) -> Result:
    content: dict[str, Any] = {
        "key": "pocket-arithmetic-0123456789abcdef",
        "status": "ok",
        "model": {"name": "pocket", "revision": "r1", "dtype": "float32", "architecture": "qwen2"},
        "task": {"name": "arithmetic", "version": "1"},
        "metric": {"name": "confidence", "version": "1", "columns": ["confidence.p_target"]},
        "seed": 0,
        "prompt": "p-1",
        "pass_": None,
        "config": {"attribution": {"position": "last", "site": "product", "statistic": "pearson"}},
        "n": {"discovery": 300, "heldout": 200},
        "n_neurons": 4096,
        "accuracy": {"untuned": 0.5, "tuned": 0.75, "stderr": None},
        "columns": {"confidence.p_target": {"status": "ok", "top1_r": 0.5, "top": [{"layer": 1, "neuron": 2}]}},
    }
    return Result(**{**content, **changes})


def test_canonical_json_of_everything_it_takes() -> None:
    value = {"b": (1, 2.5, True), "a": [None, math.nan, math.inf, -math.inf, "é"], "c": {"n": 0.1}}
    assert canonical_json(value) == ('{"a":[null,null,null,null,"\\u00e9"],"b":[1,2.5,true],"c":{"n":0.1}}')


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


@unhurried
@given(values)
def test_canonical_json_reads_back(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"a": [{1, 2}]},
            "cannot store value.a[0] = {1, 2} of type set: "
            "only text, numbers, None, lists and mappings are stored; write it as text",
        ),
        ({"a": {1: "x"}}, "cannot store the name 1 in value.a: names are text; quote it"),
    ],
)
def test_canonical_json_refuses_what_json_cannot_say(value: Any, message: str) -> None:
    with pytest.raises(ResultsError) as caught:
        canonical_json(value)
    assert str(caught.value) == message


def test_numpy_numbers_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    value = {"n": numpy.int64(3), "r": numpy.float32(0.5), "x": numpy.float64("nan")}
    assert canonical_json(value) == '{"n":3,"r":0.5,"x":null}'


def test_key_is_slugs_and_sixteen_digits_of_the_digest() -> None:
    digest = hashlib.sha256(b'{"a":1}').hexdigest()[:16]
    assert content_key("Qwen/Qwen2.5-0.5B", "hans", payload={"a": 1}) == f"qwen_qwen2_5_0_5b-hans-{digest}"
    assert content_key("x" * 30, "", payload={"a": 1}) == f"{'x' * 24}-_-{digest}"
    assert content_key(payload={"a": 1}) == digest


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@unhurried
@given(payloads, st.lists(st.text(), max_size=3))
def test_key_ignores_the_order_of_mappings_and_is_a_safe_name(payload: dict[str, Any], slugs: list[str]) -> None:
    key = content_key(*slugs, payload=payload)
    assert content_key(*slugs, payload=reordered(payload)) == key
    assert check_key(key) == key
    assert re.fullmatch(r"([a-z0-9_]{1,24}-)*[0-9a-f]{16}", key)


@unhurried
@given(payloads, st.text(), scalars)
def test_key_changes_with_any_value(payload: dict[str, Any], name: str, value: Any) -> None:
    changed = {**payload, name: {"was": payload.get(name), "is": value}}
    assert content_key(payload=changed) != content_key(payload=payload)


@pytest.mark.parametrize("key", ["", "../x", "a/b", "A", "a.b", "a\n", "a b", "a" * 251])
def test_a_key_is_checked_before_it_becomes_a_path(key: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError) as caught:
        ResultsFolder(tmp_path).read_cell(key)
    assert str(caught.value) == (
        f"{key!r} is not a key: keys are made of a-z, 0-9, '_' and '-', at most 250; see the cells folder"
    )
    with pytest.raises(ResultsError):
        ResultsFolder(tmp_path).write_cell(cell(key=key), {})


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [left.name for left in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space or give another folder with -o DIR"),
        (errno.EROFS, "give a folder that you may write to with -o DIR"),
        (errno.EIO, "give another folder with -o DIR"),
    ],
)
def test_write_that_breaks_off_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResultsError) as caught:
        write_atomic(path, b"new")
    assert str(caught.value) == f"cannot write {path}: {os.strerror(number).lower()}; {remedy}"
    assert path.read_bytes() == b"old"
    assert [left.name for left in tmp_path.iterdir()] == ["a.json"]


def test_write_json_is_sorted_indented_and_has_no_nan(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "a.json", {"b": math.nan, "a": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1\n  ],\n  "b": null\n}\n'


def test_prepare_where_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(ResultsError) as caught:
        ResultsFolder(tmp_path / "runs").prepare()
    assert str(caught.value) == (
        f"cannot write {tmp_path / 'runs' / 'cells'}: not a directory; give another folder with -o DIR"
    )


def test_prepare_where_nothing_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ResultsError) as caught:
        ResultsFolder(tmp_path).prepare()
    assert str(caught.value) == (
        f"cannot write {tmp_path}/cells: permission denied; give a folder that you may write to with -o DIR"
    )


def test_a_cell_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "new" / "runs")
    folder.prepare()
    assert folder.read_cell(cell().key) is None
    folder.write_cell(cell(), {"seconds": 1.5})
    assert folder.read_cell(cell().key) == cell()
    assert sorted(path.name for path in folder.cells.iterdir()) == [
        f"{cell().key}.json",
        f"{cell().key}.run.json",
    ]
    written = json.loads((folder.cells / f"{cell().key}.json").read_text())
    assert written["schema_version"] == 1
    assert written["pass"] is None
    assert [path.name for path, _ in folder.iter_cells()] == [f"{cell().key}.json"]


def test_nan_is_stored_as_null() -> None:
    stored = cell(accuracy={"untuned": math.nan, "tuned": 1, "stderr": None}).to_json()
    assert stored["accuracy"] == {"untuned": None, "tuned": 1, "stderr": None}


def test_the_run_record_is_written_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ResultsFolder(tmp_path)
    folder.prepare()
    real, calls = os.fsync, []

    def fail_the_second_time(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_the_second_time)
    with pytest.raises(ResultsError):
        folder.write_cell(cell(), {"host": "here"})
    assert [path.name for path in folder.cells.iterdir()] == [f"{cell().key}.run.json"]
    assert folder.read_cell(cell().key) is None


def test_cells_come_sorted_and_damage_is_named(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    folder.prepare()
    good = json.dumps(cell(key="d").to_json())
    contents = {
        "a": good[: len(good) // 2],
        "b": good.replace('"schema_version": 1', '"schema_version": 2'),
        "c": good,
        "d": good,
        "e": "[]",
        "f": good.replace("0.75", "NaN"),
        "g": "",
    }
    for name in reversed(contents):
        (folder.cells / f"{name}.json").write_text(contents[name])
    (folder.cells / ".x.json.1234.tmp").write_text("{")
    (folder.cells / "h.json").mkdir()
    found = {path.name: loaded for path, loaded in folder.iter_cells()}
    assert list(found) == [f"{name}.json" for name in "abcdefgh"]
    assert found.pop("d.json") == cell(key="d")
    reasons = {name: loaded.reason for name, loaded in found.items() if isinstance(loaded, DamagedCell)}
    assert reasons.pop("a.json").startswith("it is not valid JSON (")
    assert reasons == {
        "b.json": "schema_version 2 is not 1: it was written by another version of skillneurons",
        "c.json": "it holds the cell 'd': files are named after their key",
        "e.json": "it holds no mapping",
        "f.json": "it is not valid JSON (NaN is not JSON)",
        "g.json": "it is not valid JSON (Expecting value: line 1 column 1 (char 0))",
        "h.json": "it cannot be read (Is a directory)",
    }
    assert folder.read_cell("a") is None


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("seed",), "0", "seed is '0', not int"),
        (("seed",), 2**60, f"seed is {2**60}, beyond {2**53}"),
        (("n_neurons",), -1, "n_neurons is -1, not a count"),
        (("prompt",), 3, "prompt is 3, not str or null"),
        (("status",), "fine", "status is 'fine', not one of ok, failed"),
        (("status",), "failed", "error is None, not dict"),
        (("model", "name"), None, "model.name is None, not str"),
        (("metric", "columns"), [1], "metric.columns is [1], not a list of names"),
        (("accuracy", "tuned"), "high", "accuracy.tuned is 'high', not a number"),
        (("accuracy", "tuned"), True, "accuracy.tuned is True, not a number"),
        (
            ("columns", "confidence.p_target", "status"),
            "bad",
            "columns.confidence.p_target.status is 'bad', not one of ok, degenerate, not_applicable",
        ),
        (
            ("columns", "confidence.p_target", "top"),
            [{"layer": 1}],
            "columns.confidence.p_target.top.neuron is missing",
        ),
    ],
)
def test_a_cell_of_another_form_says_what_is_wrong(
    tmp_path: Path, path: tuple[str, ...], value: Any, reason: str
) -> None:
    data = cell(key="k").to_json()
    place = data
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (tmp_path / "k.json").write_text(json.dumps(data))
    assert load_cell(tmp_path / "k.json") == DamagedCell(tmp_path / "k.json", reason)


def test_a_seed_may_be_negative(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    folder.prepare()
    folder.write_cell(cell(seed=-1), {})
    assert folder.read_cell(cell().key) == cell(seed=-1)


def test_more_than_the_form_asks_for_is_no_damage(tmp_path: Path) -> None:
    data = cell(key="k").to_json()
    data["later"] = data["columns"]["confidence.p_target"]["permuted"] = "more"
    (tmp_path / "k.json").write_text(json.dumps(data))
    assert isinstance(load_cell(tmp_path / "k.json"), Result)


@unhurried
@given(st.binary(max_size=60))
def test_no_content_of_a_file_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("cells") / "k.json"
    path.write_bytes(content)
    assert isinstance(load_cell(path), DamagedCell)
