"""Locks in a store: held by one, taken over from the dead, kept apart by conditional puts, or one runner at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import skillneurons.store
import skillneurons.store_locks
from s3_server import Server, door, s3_server, use
from skillneurons.errors import StorageError, UserError
from skillneurons.lock_owner import this_process
from skillneurons.locks import Locks
from skillneurons.results import ResultsFolder, open_folder
from skillneurons.store_locks import StoreShelf, shelf_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with s3_server() as started:
        started.bucket("bucket")
        yield started


@pytest.fixture
def folder() -> Iterator[ResultsFolder]:
    yield open_folder("memory://bucket/run")
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def names(folder: ResultsFolder) -> list[str]:
    assert folder.mirror is not None
    return [one.name.removeprefix("locks/") for one in folder.mirror.store.listing("locks")]


def elsewhere(folder: ResultsFolder, name: str, number: int = 1) -> str:
    """Put the lock of a process on another machine, and its sign of life."""
    assert folder.mirror is not None
    owner = replace(this_process(), machine="another", host="far", pid=7, since="2026-01-01T00:00:00Z", token="f" * 32)
    data = json.dumps(asdict(owner)).encode()
    for one in (f"locks/alive-{'f' * 8}.1.lock", *([f"locks/{name}.{number}.lock"] if name else [])):
        folder.mirror.store.put(one, data)
    return f"locks/{name}.{number}.lock"


def test_a_lock_is_held_by_one_and_given_back(folder: ResultsFolder) -> None:
    with Locks(shelf_of(folder)) as mine, Locks(shelf_of(open_folder(folder.place))) as theirs:
        assert mine.take(["a", "b"]) and mine.holds("a")
        assert not theirs.take(["b", "c"])  # all of them or none
        assert theirs.take(["c"]) and theirs.owners(["b"]) == [mine.me.label]
        mine.release(["a"])
        assert theirs.take(["a"]) and not mine.holds("a")
        signs = [f"alive-{one.me.token[:8]}.1.lock" for one in (mine, theirs)]
        assert names(folder) == sorted([*signs, "a.1.lock", "b.1.lock", "c.1.lock"])
    assert names(folder) == []  # nothing stays, no probe either


HOLDER = """
import sys, time
from skillneurons.locks import Locks
from skillneurons.results import open_folder
from skillneurons.store_locks import shelf_of
locks = Locks(shelf_of(open_folder(sys.argv[1])))
locks.__enter__()
assert locks.take(sys.argv[2:])
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_owner_is_seen_at_once_and_what_it_left_goes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use(server.endpoint, monkeypatch)
    folder = open_folder("s3://bucket/killed")
    command = [sys.executable, "-c", HOLDER, folder.place, "a", "b"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        with Locks(shelf_of(folder)) as mine:
            assert not mine.take(["a"])
            child.kill()
            child.wait()
            assert mine.take(["a"]) and "a.2.lock" in names(folder)
        assert names(folder) == []  # the dead owner's locks and its sign of life too
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_on_another_machine_the_sign_of_life_tells(folder: ResultsFolder) -> None:
    elsewhere(folder, "a")
    clock = Clock()
    locks = Locks(shelf_of(folder), stale_after=120, clock=clock)
    assert not locks.take(["a"])
    clock.now = 119
    assert not locks.take(["a"])
    elsewhere(folder, "")  # it is put again: 120 seconds more
    clock.now = 200
    assert not locks.take(["a"])
    clock.now = 320
    assert locks.take(["a"])
    locks.release(["a"])
    assert "a.1.lock" not in names(folder) and "a.2.lock" not in names(folder)


def test_one_object_per_process_is_put_again(folder: ResultsFolder) -> None:
    assert folder.mirror is not None
    with Locks(shelf_of(folder), heartbeat=0.01) as mine:
        assert mine.take(["a", "b"])
        stamps = {one.name: one.stamp for one in folder.mirror.store.listing("locks")}
        sign = f"locks/alive-{mine.me.token[:8]}.1.lock"
        deadline = time.monotonic() + 20
        while (now := {one.name: one.stamp for one in folder.mirror.store.listing("locks")})[sign] == stamps[sign]:
            assert time.monotonic() < deadline, "the heartbeat stands still"
            time.sleep(0.01)
        assert {name for name in now if now[name] != stamps[name]} == {sign}


CONTENDER = """
import os, random, sys, time
from skillneurons.locks import Locks
from skillneurons.results import open_folder
from skillneurons.store_locks import shelf_of
log, seed = sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Locks(shelf_of(open_folder(sys.argv[1]))) as locks:
    done = 0
    while done < 5:
        if not locks.take(["a"]):
            time.sleep(rng.random() * 0.02)
            continue
        os.write(out, f"in {seed}\\n".encode())
        time.sleep(rng.random() * 0.02)
        os.write(out, f"out {seed}\\n".encode())
        locks.release(["a"])
        done += 1
        if seed == 0 and done == 3:
            while not locks.take(["a"]):
                pass
            os.kill(os.getpid(), 9)
"""


def test_many_that_want_the_same_never_have_it_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(server.endpoint, monkeypatch)
    log = tmp_path / "log"
    command = [sys.executable, "-c", CONTENDER, "s3://bucket/contended", str(log)]
    children = [subprocess.Popen([*command, str(seed)]) for seed in range(3)]  # number 0 is killed half way
    codes = [child.wait(timeout=120) for child in children]
    assert codes == [-9, 0, 0]
    lines = log.read_text().split("\n")[:-1]
    assert len(lines) >= 2 * (2 * 5 + 3)
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert entered.startswith("in ") and left == entered.replace("in", "out")


def refusal(place: str, who: str) -> str:
    return (
        f"cannot work in {place} now: {who} does, and this store does not keep two runners apart (it has no conditional "
        "writes), so one works at a time; wait until that has ended, or give another place with -o. What a killed runner on "
        "another machine left in locks/ may be deleted"
    )


@pytest.mark.parametrize("status", [None, 501])
def test_a_server_without_conditional_writes_takes_one_runner_at_a_time(
    status: int | None, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skillneurons.store_locks, "SETTLE", 0.01)

    def rule(request: Any) -> int | None:
        if "If-None-Match" in request.headers:
            if status is not None:
                return status
            del request.headers["If-None-Match"]
        return None

    with door(server, rule) as endpoint:
        use(endpoint, monkeypatch)
        folder = open_folder(f"s3://bucket/single{status}")
        with Locks(shelf_of(folder)) as mine:
            assert mine.take(["a"]) and mine.holds("a")
            with pytest.raises(UserError) as caught, Locks(shelf_of(open_folder(folder.place))):
                pass
            assert str(caught.value) == refusal(folder.place, f"{mine.me.label} (since {mine.me.since})")
            with Locks(shelf_of(folder, single_writer=False)) as worker:  # of the same run
                assert worker.take(["b"]) and not worker.take(["a"])
        with Locks(shelf_of(folder)) as after:
            assert after.take(["a"])
        assert names(folder) == []


def unkept(folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch, between: Callable[[], object]) -> StoreShelf:
    """Return a shelf of a store that promises nothing; ``between`` happens while it waits for others to be seen."""
    monkeypatch.setattr(skillneurons.store_locks.time, "sleep", lambda _: between())
    assert folder.mirror is not None
    monkeypatch.setattr(folder.mirror.store, "promises", False)
    return StoreShelf(folder.mirror.store)


def test_of_two_that_come_at_once_the_later_gives_way(folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with Locks(unkept(folder, monkeypatch, lambda: elsewhere(folder, ""))) as first:
        assert first.take(["a"])  # the other came later, and will see this one
    assert folder.mirror is not None
    folder.mirror.store.remove(f"locks/alive-{'f' * 8}.1.lock")
    real, sign = folder.mirror.store.listing, f"locks/alive-{'f' * 8}.1.lock"

    def as_if_later(folder: str) -> Any:
        return [one._replace(time=one.time + 10**9 * (one.name != sign)) for one in real(folder)]

    monkeypatch.setattr(folder.mirror.store, "listing", as_if_later)
    with pytest.raises(UserError) as caught, Locks(unkept(folder, monkeypatch, lambda: elsewhere(folder, ""))):
        pass
    assert str(caught.value) == refusal(folder.place, "far:7 (since 2026-01-01T00:00:00Z)")
    assert names(folder) == [sign.removeprefix("locks/")]  # its own sign is taken back


def test_what_a_dead_runner_left_keeps_nobody_away(folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder.mirror is not None
    dead = json.dumps(asdict(replace(this_process(), begun="1", token="d" * 32))).encode()
    folder.mirror.store.put(f"locks/alive-{'d' * 8}.1.lock", dead)
    with Locks(unkept(folder, monkeypatch, lambda: None)) as mine:
        assert mine.take(["a"])
    assert names(folder) == []


def test_a_runner_elsewhere_that_is_silent_for_long_keeps_nobody_away(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(folder, "")
    assert folder.mirror is not None
    real, silent = folder.mirror.store.listing, [119]

    def as_if_older(place: str) -> Any:
        return [one._replace(time=one.time - silent[0] * 10**9 * ("f" * 8 in one.name)) for one in real(place)]

    monkeypatch.setattr(folder.mirror.store, "listing", as_if_older)
    with pytest.raises(UserError, match="now: far:7"), Locks(unkept(folder, monkeypatch, lambda: None)):
        pass
    silent[0] = 125
    with Locks(unkept(folder, monkeypatch, lambda: None)) as mine:
        assert mine.take(["a"])


PROBER = """
import os, sys
from skillneurons.locks import Locks
from skillneurons.results import open_folder
from skillneurons.store_locks import shelf_of
folder = open_folder(sys.argv[1])
folder.mirror.store.remove = lambda *_: os._exit(9)  # it dies between finding out and removing
Locks(shelf_of(folder)).__enter__()
"""


def test_what_a_runner_left_that_was_killed_while_it_tried_the_store_out_goes_with_the_next(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(server.endpoint, monkeypatch)
    folder = open_folder("s3://bucket/probed")
    assert subprocess.run([sys.executable, "-c", PROBER, folder.place], check=False).returncode == 9
    assert [name.partition("-")[0] for name in names(folder)] == ["probe"]
    with Locks(shelf_of(folder)) as mine:
        assert mine.take(["a"])
    assert names(folder) == []


def test_a_beat_that_fails_does_not_make_the_run_less_patient(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.mirror is not None
    store = folder.mirror.store
    monkeypatch.setattr(skillneurons.store, "PAUSE", 0.0)
    with Locks(shelf_of(folder)) as mine:
        with monkeypatch.context() as broken:

            def gone(*_: object, **__: object) -> None:
                raise ConnectionResetError("gone")

            broken.setattr(store._system, "pipe_file", gone, raising=False)
            with pytest.raises(StorageError):
                mine.shelf.beat([], lambda _: True)
        assert not store.gone


def test_a_lock_that_could_not_be_given_back_is_still_ones_own(
    folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder.mirror is not None
    store = folder.mirror.store
    monkeypatch.setattr(skillneurons.store, "PAUSE", 0.0)
    with Locks(shelf_of(folder)) as mine:
        assert mine.take(["a"])
        with monkeypatch.context() as broken:

            def gone(*_: object) -> None:
                raise ConnectionResetError("gone")

            broken.setattr(store._system, "rm_file", gone, raising=False)
            mine.release(["a"])
            assert "a.1.lock" in names(folder)
        assert mine.take(["a"]) and mine.holds("a")
        mine.release(["a"])
        assert mine.take(["a"])
    assert names(folder) == []
