"""Folders that are made to harm whoever verifies them: nothing is followed, unfolded, unpickled or evaluated."""

from __future__ import annotations

import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from skillneurons import guarded_files
from skillneurons.cli import main
from skillneurons.leaderboard.board import build_board
from skillneurons.registry import Registry, load_registry
from skillneurons.signed_report import read_trusted
from skillneurons.verify import ALL, Terms, Verification, open_submission, verify
from submission_files import Hands, edit_json, make_honest


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_honest(tmp_path_factory.mktemp("hostile") / "honest")


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


@pytest.fixture
def hands(honest: Path, tmp_path: Path) -> Hands:
    shutil.copytree(honest, tmp_path / "sent")
    return Hands(tmp_path / "sent")


def look(hands: Hands, registry: Registry, sample: int = 0, **terms: Any) -> Verification:
    return verify(open_submission(str(hands.root)), registry, Terms(sample=sample, device="cpu", **terms))


def found_in(found: Verification) -> list[tuple[str, str, str]]:
    return [(one.path, one.what, one.meaning) for one in found.ledger.findings]


def test_a_link_that_leads_out_is_not_followed(hands: Hands, registry: Registry, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("not JSON, and nobody reads it")
    (hands.root / "cells" / "other.json").symlink_to(secret)
    found = look(hands, registry)
    what = f"it is a symbolic link to '{secret}'"
    assert found_in(found) == [("cells/other.json", what, "nothing else of this folder was read")]
    assert found.verdicts == {}


def test_a_folder_that_is_a_link_is_not_entered(hands: Hands, registry: Registry, tmp_path: Path) -> None:
    shutil.move(hands.root / "passes", tmp_path / "passes")
    (hands.root / "passes").symlink_to(tmp_path / "passes")
    assert [path for path, _, _ in found_in(look(hands, registry))] == ["passes"]


@pytest.mark.parametrize("name", ["adapter_model.bin", "examples.pkl", "scores.PT"])
def test_a_pickle_is_refused_by_its_name(name: str, hands: Hands, registry: Registry) -> None:
    (hands.prompt() / name).write_bytes(b"cos\nsystem\n")
    ((_, what, _),) = found_in(look(hands, registry))
    assert what == f"a file of kind {Path(name).suffix.lower()} can run code when it is loaded"


def test_a_table_that_unfolds_is_refused_before_it_is_read(hands: Hands, registry: Registry) -> None:
    """A dictionary of one long text that every row repeats takes a few kilobytes on disk."""
    rows = 200_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 10_000]))
    sink = io.BytesIO()
    schema = pa.schema([("text", pa.string())])
    table = pa.table({"text": text})
    parquet.write_table(table, sink, compression="zstd", use_dictionary=True, store_schema=False)
    path = hands.place() / "examples.parquet"
    path.write_bytes(sink.getvalue())
    assert len(schema) == 1 and path.stat().st_size < 1_000_000
    ((_, what, _),) = found_in(look(hands, registry))
    assert what == f"it unfolds to more than {guarded_files.UNFOLDED} bytes"


def test_a_table_of_nested_columns_or_of_too_many_rows_is_refused(
    hands: Hands, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pa.table({"id": [[1, 2]]}), hands.place() / "examples.parquet")
    ((_, what, _),) = found_in(look(hands, registry))
    assert what.startswith("its column 'id' is of type list<") and what.endswith(": a pass holds text and numbers")
    shutil.copy(hands.place(seed=1) / "examples.parquet", hands.place() / "examples.parquet")
    monkeypatch.setattr(guarded_files, "ROWS", 50)
    assert {what for _, what, _ in found_in(look(hands, registry))} == {"it declares 100 rows, more than 50"}


def test_tensors_of_absurd_shape_are_refused(hands: Hands, registry: Registry) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 4]}}).encode()
    path = hands.place() / "scores.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    ((where, what, _),) = found_in(look(hands, registry))
    assert where.endswith("scores.safetensors") and what.startswith("it cannot be read (")


def test_a_file_that_is_too_large_and_a_folder_that_is_too_deep(
    hands: Hands, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(guarded_files.LARGEST, ".safetensors", 1000)
    assert all("bytes, more than 1000" in what for _, what, _ in found_in(look(hands, registry)))
    monkeypatch.undo()
    (hands.root / "passes" / "a" / "b" / "c" / "d" / "e").mkdir(parents=True)
    ((path, what, _),) = found_in(look(hands, registry))
    assert (path, what) == ("passes/a/b/c/d", "it is a folder 5 deep: a run makes none")


def edited(hands: Hands, change: Callable[[dict[str, Any]], object]) -> None:
    hands.edit(change)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a/b", ".."])
def test_keys_that_are_paths_lead_nowhere(name: str, hands: Hands, registry: Registry) -> None:
    edited(hands, lambda cell: cell.update({"pass": name, "prompt": name}))
    found = [what for _, what, _ in found_in(look(hands, registry, ALL))]
    assert any(what.startswith(f"it names '{name}' as its prompt") for what in found)
    assert any(what.startswith(f"its pass is {name}, not its own") for what in found)


def test_numbers_that_are_none(hands: Hands, registry: Registry) -> None:
    text = hands.cell().read_text().replace('"top10_r": 0.', '"top10_r": 1e999, "x": 0.', 1)
    hands.cell().write_text(text)
    hands.tensors(hands.prompt() / "adapter_model.safetensors", lambda a: a["prompt_embeddings"].fill(float("nan")))
    found = found_in(look(hands, registry))
    assert any("prompt_embeddings holds what is no finite number" in what for _, what, _ in found)
    assert any(path == f"cells/{hands.key('confidence', 0)}.json" for path, _, _ in found)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda cell: cell["task"]["options"].update(path="/etc/passwd"),
            'its option tasks.arithmetic.path is "/etc/passwd": what a cell names is not followed; where you trust it, give '
            "--set tasks.arithmetic.path=VALUE",
        ),
        (
            lambda cell: cell["config"]["causal"].update(neutral_text="/etc/passwd"),
            "causal.neutral_text is '/etc/passwd', a file that is not here",
        ),
        (
            lambda cell: cell["config"]["model"].update(trust_remote_code=True),
            "model.trust_remote_code is true: a stranger's code is never run",
        ),
        (
            lambda cell: cell["config"]["attribution"].update(permutations=10**9),
            "its settings ask for attribution.permutations 1000000000, more than is computed for a stranger",
        ),
    ],
)
def test_what_a_cell_asks_for_is_not_done(
    change: Callable[[dict[str, Any]], object], why: str, hands: Hands, registry: Registry
) -> None:
    edited(hands, change)
    found = look(hands, registry, ALL)
    key = hands.key("confidence", 0)
    assert (f"cells/{key}.json", f"its key and its examples cannot be checked here: {why}") in [
        (one.path, one.what) for one in found.ledger.remarks
    ]
    assert key not in found.drawn and found.verdicts[key] != "recomputed"


def test_a_model_folder_that_is_sent_along_is_not_loaded(hands: Hands, registry: Registry) -> None:
    for metric in ("confidence", "labels"):
        for seed in (0, 1):
            hands.edit(lambda cell: cell["model"].update(name=str(hands.root / "model")), metric, seed)
    found = look(hands, registry, ALL)
    assert found.drawn == [] and set(found.verdicts.values()) == {"found"}


def test_locks_keep_nothing_from_being_looked_at(hands: Hands, registry: Registry) -> None:
    (hands.root / "locks").mkdir()
    (hands.root / "locks" / f"{hands.key('confidence', 0)}.0.lock").write_text("{}")
    hands.edit(lambda cell: cell["accuracy"].update(tuned=1.0))
    found = found_in(look(hands, registry))
    assert ("it is of a run that goes on", "results are sent in when they are whole") in [one[1:] for one in found]
    assert any("accuracy.tuned is 1.0" in what for _, what, _ in found)


def test_what_no_run_writes_is_named(hands: Hands, registry: Registry) -> None:
    (hands.root / "cells" / "run.sh").write_text("rm -rf ~")
    (hands.root / "plugin.py").write_text("raise SystemExit")
    assert found_in(look(hands, registry)) == [
        (name, "nothing here writes this", "what no run writes has no place in results")
        for name in ("cells/run.sh", "plugin.py")
    ]


def put(hands: Hands, name: str) -> str:
    """Put the folder into a store in memory; return its URL."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.put(str(hands.root), f"/{name}", recursive=True)
    return f"memory://{name}"


def test_a_folder_in_a_store_is_verified_and_the_report_put_beside_it(
    hands: Hands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hands.edit(lambda cell: cell["columns"]["confidence.p_target"].update(top10_r=0.9))
    url = put(hands, f"sent-{tmp_path.name}")
    assert main(["verify", "--new-key", str(tmp_path / "key")]) == 0
    capsys.readouterr()
    assert main(["verify", url, "--sample", "0", "--sign", str(tmp_path / "key")]) == 1
    told = capsys.readouterr()
    assert told.out.startswith(f"{url}: 1 thing found\n4 cells: 1 with findings, 3 consistent")
    assert f"written: {url}/verification/report-" in told.err
    board = build_board([url], trusted=read_trusted(tmp_path / "key.pub"))
    assert {row["verified"] for row in board.rows} == {"yes", "no"} and board.remarks == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("passes/x/big.safetensors", "it has 9 bytes, more than 8; nothing was fetched"),
        ("prompts/x/y.pkl", "a file of kind .pkl can run code when it is loaded; nothing was fetched"),
    ],
)
def test_what_a_store_lists_is_looked_at_before_anything_is_fetched(
    name: str,
    fault: str,
    hands: Hands,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in hands.root.rglob("*.safetensors"):
        path.unlink()
    (hands.root / name).parent.mkdir(exist_ok=True)
    (hands.root / name).write_bytes(b"nine byte")
    monkeypatch.setitem(guarded_files.LARGEST, ".safetensors", 8)
    monkeypatch.setattr("skillneurons.mirror.Mirror.fetch_all", lambda mirror: pytest.fail("it was fetched"))
    url = put(hands, f"bad-{tmp_path.name}")
    assert main(["verify", url]) == 2
    assert capsys.readouterr().err == f"skillneurons: error: cannot verify {url}: {name}: {fault}\n"


def test_a_store_without_cells_has_nothing_to_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "memory://nothing-there"]) == 2
    told = "cannot verify memory://nothing-there: it has no cells; give a folder that `skillneurons run` wrote\n"
    assert capsys.readouterr().err == f"skillneurons: error: {told}"


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("cell", lambda cell: cell["accuracy"].update(tuned=10**400)),
        ("cell", lambda cell: cell["causal"].update(accuracy=[])),
        ("cell", lambda cell: cell["config"]["prompt"].update(steps=[])),
        ("history", lambda rows: rows.append(5)),
    ],
)
def test_what_is_no_number_is_named(
    place: str, change: Callable[[Any], object], hands: Hands, registry: Registry
) -> None:
    edit_json({"cell": hands.cell(), "history": hands.prompt() / "history.json"}[place], change)
    assert found_in(look(hands, registry))


def test_an_option_that_asks_for_too_much_is_not_followed(hands: Hands, registry: Registry) -> None:
    edited(hands, lambda cell: cell["task"]["options"].update(digits=[10**9]))
    found = look(hands, registry)
    assert [one for one in found.ledger.remarks if "[1000000000], more than is computed for a stranger" in one.what]
