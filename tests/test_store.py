"""The rules of a store: whole files, creation for one, names that are checked, tries again; on memory, a plain file system and S3."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
import skillneurons.store
from fsspec.implementations.local import LocalFileSystem
from s3_server import Server, door, s3_server, use
from skillneurons.errors import ResultsError, StorageError, UserError
from skillneurons.results import open_folder
from skillneurons.store import Store, is_plain
from skillneurons.store_errors import without_password


class Elsewhere(LocalFileSystem):
    """A file system that is no object store: what is put into it is there bit by bit."""

    protocol = "elsewhere"


fsspec.register_implementation("elsewhere", Elsewhere, clobber=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as started:
        started.bucket("bucket")
        yield started


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://bucket/run"
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def each(kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if kind == "s3":
        use(request.getfixturevalue("server").endpoint, monkeypatch)
        return Store(f"s3://bucket/{tmp_path.name}")
    return Store(request.getfixturevalue("memory") if kind == "memory" else f"elsewhere://{tmp_path}/run")


@pytest.mark.parametrize("kind", ["memory", "elsewhere", "s3"])
def test_files_are_put_listed_read_created_and_removed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = each(kind, request, tmp_path, monkeypatch)
    store.check()
    assert store.listing("cells") == [] and store.read("cells/a.json") is None and store.info("cells/a.json") is None
    store.put("cells/a.json", b"one")
    store.put_many({"cells/b.json": b"two", "passes/k/x": b"three"})
    (a, b) = store.listing("cells")
    assert (a.name, b.name, a.size, b.size) == ("cells/a.json", "cells/b.json", 3, 3) and a.stamp and a.time
    assert [one.name for one in store.listing("passes", deep=True)] == ["passes/k/x"]
    assert store.listing("passes") == [] and store.info("passes/k") is None
    assert dict(store.read_many(["cells/a.json", "cells/none", "cells/b.json"])) == {
        "cells/a.json": b"one",
        "cells/none": None,
        "cells/b.json": b"two",
    }
    store.put("cells/a.json", b"another")
    (after, _) = store.listing("cells")
    assert after.stamp != a.stamp and store.info("cells/a.json") == after and store.read("cells/a.json") == b"another"
    assert store.create("locks/x", b"mine") and not store.create("locks/x", b"theirs")
    assert store.read("locks/x") == b"mine"
    assert store.keeps_promise("locks/probe", b"me") == (kind != "elsewhere") and store.read("locks/probe") == b"me"
    store.remove("locks/x", "locks/x", "cells/none", "locks/probe")
    assert store.listing("locks") == [] and store.read("locks/x") is None


def test_where_a_put_is_not_whole_it_is_made_beside_and_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(f"elsewhere://{tmp_path}/run")
    store.put("cells/a.json", b"old")
    seen: list[list[str]] = []
    real = Elsewhere.mv

    def watched(self: Any, draft: str, place: str, **more: Any) -> None:
        seen.append(sorted(path.name for path in (tmp_path / "run" / "cells").iterdir()))
        assert (tmp_path / "run" / "cells" / "a.json").read_bytes() == b"old"
        real(self, draft, place, **more)

    monkeypatch.setattr(Elsewhere, "mv", watched)
    store.put("cells/a.json", b"new")
    ((draft, name),) = seen
    assert draft.startswith(".a.json.") and draft.endswith(".tmp") and name == "a.json"
    assert [path.name for path in (tmp_path / "run" / "cells").iterdir()] == ["a.json"]
    assert store.read("cells/a.json") == b"new"


@pytest.mark.parametrize("name", ["../x", "a/../b", "/x", "a//b", "a\\b", "C:x", "a/.", "x\0y", ""])
def test_names_that_would_lead_elsewhere_are_not_plain(name: str) -> None:
    assert not is_plain(name)


def test_what_a_listing_returns_never_leads_out_of_the_mirror(memory: str) -> None:
    system = fsspec.filesystem("memory")
    for name in (
        "cells/good.json",
        "cells/../../out.json",
        "cells/..\\out.json",
        "cells/sp ace.json",
        "cells/a/b.json",
    ):
        system.store[f"/bucket/run/{name}"] = system.store.get("", None) or _file(system, b"{}")
    folder = open_folder(memory)
    assert folder.mirror is not None
    folder.mirror.fetch_folder("cells", deep=True)
    here = sorted(path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*") if path.is_file())
    assert here == ["cells/a/b.json", "cells/good.json"] and folder.mirror.refused == ["cells/sp ace.json"]
    assert not (folder.root.parent / "out.json").exists()


@pytest.mark.parametrize("name", ["../../out.json", "/elsewhere/out.json", "k/../../../out.json"])
def test_a_name_that_a_cell_tells_never_leads_out_of_the_mirror(name: str, memory: str) -> None:
    folder = open_folder(memory)
    assert folder.mirror is not None
    outside = folder.root.parent / "out.json"
    system = fsspec.filesystem("memory")
    system.store["/bucket/run/passes/../../out.json"] = _file(system, b"{}")
    for action in (folder.fetched, folder.has, folder.publish, folder.remove):
        with pytest.raises(ResultsError, match=r"^'.*' is no name of a file in memory://bucket/run: a cell that says"):
            action(folder.passes / name)  # type: ignore[operator]
    assert not outside.exists()


def test_times_that_a_listing_tells_finer_than_one_file_change_no_stamp() -> None:
    listed = {"size": 3, "ETag": "x", "LastModified": datetime(2026, 1, 1, 0, 0, 5, 123000, UTC)}
    told = listed | {"LastModified": datetime(2026, 1, 1, 0, 0, 5, 0, UTC)}
    one, other = (skillneurons.store._found("cells/a.json", entry) for entry in (listed, told))
    assert one == other and one.time == 1767225605 * 10**9
    without = [skillneurons.store._found("a", {**entry, "ETag": None}) for entry in (listed, told)]
    assert without[0] != without[1]  # where only times tell, every digit counts


@pytest.mark.parametrize("url", ["memory://", "memory://bucket"])
def test_the_root_of_a_store_is_a_place_like_another(url: str, memory: str) -> None:
    store = Store(url)
    store.put("cells/a.json", b"x")
    assert [one.name for one in store.listing("cells")] == ["cells/a.json"] and store.read("cells/a.json") == b"x"


def _file(system: Any, data: bytes) -> Any:
    from fsspec.implementations.memory import MemoryFile

    return MemoryFile(system, "x", data)


def test_one_of_many_creates_a_file(memory: str) -> None:
    store, won = Store(memory), []
    start = threading.Barrier(8)

    def contend(number: int) -> None:
        start.wait()
        for i in range(20):
            if store.create(f"locks/{i}", f"{number}".encode()):
                won.append((i, number))

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(i for i, _ in won) == list(range(20))
    assert all(store.read(f"locks/{i}") == f"{number}".encode() for i, number in won)


def test_a_creation_whose_answer_was_lost_is_known_again(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(memory)
    monkeypatch.setattr(skillneurons.store, "PAUSE", 0.0)
    real, calls = store._system.pipe_file, []

    def lost(place: str, data: bytes, **more: Any) -> None:
        calls.append(place)
        real(place, data, **more)
        if len(calls) == 1:
            raise ConnectionResetError(errno.ECONNRESET, "gone")

    monkeypatch.setattr(store._system, "pipe_file", lost, raising=False)
    assert store.create("locks/a", b"mine") and len(calls) == 2
    assert not store.create("locks/a", b"theirs")


def test_what_may_pass_is_tried_again_and_then_not_for_long(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store, pauses, fails = Store(memory), [], [3]
    monkeypatch.setattr(skillneurons.store.time, "sleep", pauses.append)
    real, calls = store._system.cat_file, []

    def busy(place: str, **more: Any) -> bytes:
        calls.append(place)
        if fails[0]:
            fails[0] -= 1
            raise OSError(errno.EBUSY, "Please reduce your request rate")
        return bytes(real(place, **more))

    monkeypatch.setattr(store._system, "cat_file", busy, raising=False)
    store.put("a", b"x")
    assert store.read("a") == b"x" and len(calls) == 4 and pauses == pytest.approx([0.2, 0.8, 3.2])
    fails[0] = 99
    for n in (4, 1):  # a store that is gone is asked once
        calls.clear()
        with pytest.raises(StorageError):
            store.read("a")
        assert len(calls) == n
    fails[0] = 0
    assert store.read("a") == b"x"
    fails[0] = 1
    assert store.read("a") == b"x"  # it is back, and so is the patience


def test_a_server_that_is_busy_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def rule(request: Any) -> int | None:
        if request.command == "PUT" and len(refused) < 2:
            refused.append(request.path)
            return 503
        return None

    with door(server, rule) as endpoint:
        use(endpoint, monkeypatch)
        Store("s3://bucket/busy").put("cells/a.json", b"x")
    assert len(refused) == 2 and server.read("bucket", "busy/cells/a.json") == b"x"


def test_a_file_is_read_by_one_request(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def rule(request: Any) -> None:
        asked.append(request.command)

    with door(server, rule) as endpoint:
        use(endpoint, monkeypatch)
        store = Store("s3://bucket/read")
        store.put_many({"a": b"x", "b": b"y"})
        asked.clear()
        assert store.read("a") == b"x" and dict(store.read_many(["a", "b"])) == {"a": b"x", "b": b"y"}
    assert asked == ["GET"] * 3


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sftp://me:secret@host/run", "sftp://me:***@host/run"),
        ("zip://run::https://a:b%40c@host/x.zip?X-Amz-Signature=123", "zip://run::https://a:***@host/x.zip?***"),
        ("s3://bucket/run", "s3://bucket/run"),
        ("continue with: run -o smb://u:p@ss@host/share -m x", "continue with: run -o smb://u:***@host/share -m x"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_a_file_url_is_the_disk(tmp_path: Path) -> None:
    folder = open_folder(f"file://{tmp_path}/run")
    assert folder.mirror is None and folder.root == tmp_path / "run" and folder.place == str(tmp_path / "run")


def test_a_mirror_goes_with_its_process_and_a_folder_without_its_last_file_is_not_there(memory: str) -> None:
    folder, other = open_folder(memory), open_folder(memory)
    assert folder.mirror is not None and other.mirror is not None and folder.root != other.root
    place = folder.passes / "k"
    place.mkdir(parents=True)
    for name in ("examples.parquet", "scores.safetensors", "neurons.safetensors"):
        (place / name).write_bytes(name.encode())
    order: list[str] = []
    real, many = folder.mirror.store.put, folder.mirror.store.put_many
    folder.mirror.store.put = lambda name, data: (order.append(name), real(name, data))[1]  # type: ignore[method-assign]
    folder.mirror.store.put_many = lambda all_: (order.extend(all_), many(all_))[1]  # type: ignore[method-assign]
    folder.publish(place)
    assert order[-1] == "passes/k/examples.parquet" and len(set(order)) == 3
    theirs = other.passes / "k"
    assert other.has(theirs) and sorted(path.name for path in other.fetched(theirs).iterdir()) == sorted(
        ["examples.parquet", "scores.safetensors", "neurons.safetensors"]
    )
    (place / "neurons.safetensors").unlink()
    folder.publish(place)  # one that is replaced keeps nothing of the other
    assert sorted(path.name for path in other.fetched(theirs).iterdir()) == ["examples.parquet", "scores.safetensors"]
    folder.mirror.store.remove("passes/k/examples.parquet")
    assert not other.has(theirs) and not other.fetched(theirs).exists()


def test_what_could_not_be_published_is_not_here_either(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_folder(memory)
    assert folder.mirror is not None
    folder.prepare()
    path = folder.cells / "a.json"
    path.write_text("{}")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(folder.mirror.store._system, "pipe_file", full, raising=False)
    with pytest.raises(StorageError) as caught:
        folder.publish(path)
    assert not path.exists()
    assert str(caught.value) == (
        "cannot write memory://bucket/run/cells/a.json: no space left on device; check the address and your access"
    )


def test_a_bucket_must_be_named() -> None:
    with pytest.raises(UserError) as caught:
        Store("s3://")
    assert str(caught.value) == "cannot open s3://: it names no bucket; write s3://BUCKET/FOLDER"
