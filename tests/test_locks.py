from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import skillneurons as sn
from skillneurons.lock_owner import is_alive, this_process
from skillneurons.locks import Locks, read_locks


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def elsewhere(folder: Path, name: str, number: int = 1) -> Path:
    """Write the lock of a process on another machine."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{number}.lock"
    path.write_text(json.dumps(asdict(replace(this_process(), machine="another", host="far", pid=7))))
    return path


HOLDER = """
import sys, time
from pathlib import Path
from skillneurons.locks import Locks
locks = Locks(Path(sys.argv[1]))
locks.__enter__()
assert locks.take(sys.argv[2:])
print("held", flush=True)
time.sleep(60)
"""


def holder(folder: Path, *names: str) -> subprocess.Popen[str]:
    """Start a process that takes locks and keeps them."""
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), *names], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def test_a_lock_is_held_by_one_and_given_back(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    with Locks(folder) as mine, Locks(folder) as theirs:
        assert mine.take(["a", "b"]) and mine.holds("a")
        assert not theirs.take(["b", "c"])  # all of them or none
        assert theirs.take(["c"])
        mine.release(["a"])
        assert theirs.take(["a"]) and not mine.holds("a")
        (lock,) = read_locks(folder, "b")
        assert lock.alive and lock.owner is not None and lock.owner.pid == os.getpid()
        assert theirs.owners(["b"]) == [lock.owner.label]
    assert not folder.exists()


def test_a_killed_owner_is_seen_at_once(tmp_path: Path) -> None:
    child = holder(tmp_path, "a")
    try:
        with Locks(tmp_path) as mine:
            assert not mine.take(["a"])
            child.kill()
            while child.poll() is None:
                time.sleep(0.01)
            assert mine.take(["a"]) and [lock.number for lock in read_locks(tmp_path, "a")] == [1, 2]
        assert not tmp_path.exists()  # the dead owner's file went with it
    finally:
        end(child)


def test_what_a_killed_runner_left_goes_at_the_end(tmp_path: Path) -> None:
    end(holder(tmp_path / "locks", "a", "b"))
    with Locks(tmp_path / "locks"):
        assert len(read_locks(tmp_path / "locks")) == 2
    assert not (tmp_path / "locks").exists()


def test_a_process_that_got_the_number_of_a_dead_one_is_another(tmp_path: Path) -> None:
    me = Locks(tmp_path).me
    assert is_alive(me) and is_alive(replace(me, begun=""))
    if Path("/proc/self/stat").exists():
        assert not is_alive(replace(me, begun="1"))
    assert is_alive(replace(me, machine="another")) is None


def test_on_another_machine_the_heartbeat_tells(tmp_path: Path) -> None:
    path, clock = elsewhere(tmp_path, "a"), Clock()
    locks = Locks(tmp_path, stale_after=120, clock=clock)
    assert not locks.take(["a"])
    clock.now = 119
    assert not locks.take(["a"])
    os.utime(path, ns=(1, 1))  # it moves: 120 seconds more, whatever the clocks of the machines say
    clock.now = 200
    assert not locks.take(["a"])
    clock.now = 319
    assert not locks.take(["a"])
    clock.now = 320
    assert locks.take(["a"]) and locks.owners(["a"]) == ["another runner"]
    locks.release(["a"])
    assert not list(tmp_path.iterdir())


def test_two_that_find_the_same_dead_owner_cannot_both_follow_it(tmp_path: Path) -> None:
    child = holder(tmp_path, "a")
    end(child)
    with Locks(tmp_path) as mine, Locks(tmp_path) as theirs:
        assert [mine.take(["a"]), theirs.take(["a"])] == [True, False]
        assert mine.holds("a")


def test_who_slept_while_another_took_over_does_not_hold_it_any_more(tmp_path: Path) -> None:
    with Locks(tmp_path) as mine:
        assert mine.take(["a"]) and mine.holds("a")
        second = elsewhere(tmp_path, "a", 2)
        assert not mine.holds("a")
        second.unlink()
        assert mine.holds("a")
        (tmp_path / "a.1.lock").unlink()
        assert not mine.holds("a")


def test_a_lock_that_cannot_be_read_counts_as_anothers_until_it_stands_still(tmp_path: Path) -> None:
    (tmp_path / "a.1.lock").write_bytes(b"")
    clock = Clock()
    locks = Locks(tmp_path, stale_after=120, clock=clock)
    assert not locks.take(["a"]) and locks.owners(["a"]) == ["another runner"]
    clock.now = 121
    assert locks.take(["a"])
    locks.release(["a"])


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100000,
        b"{}",
        b"[]",
        json.dumps({**asdict(this_process()), "pid": "3\x00x"}).encode(),
        json.dumps({**asdict(this_process()), "pid": -1}).encode(),
        json.dumps({**asdict(this_process()), "host": 3}).encode(),
    ],
)
def test_a_strange_file_has_no_owner(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.1.lock").write_bytes(content)
    (lock,) = read_locks(tmp_path)
    assert lock.owner is None and lock.alive is None and not Locks(tmp_path).take(["a"])


def test_a_lock_that_may_not_be_read_counts_by_its_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = elsewhere(tmp_path, "a")

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", closed)
    (lock,) = read_locks(tmp_path)
    assert lock.owner is None and lock.heartbeat == (path.stat().st_mtime_ns, path.stat().st_ino)


def test_a_full_disk_does_not_hide_how_a_run_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end(holder(tmp_path, "a"))
    with pytest.raises(KeyboardInterrupt), Locks(tmp_path, heartbeat=0.01) as mine:
        assert mine.take(["b"])

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_bytes", full)
        raise KeyboardInterrupt
    assert not read_locks(tmp_path, "b") and not mine._thread.is_alive()


def test_what_an_interrupted_take_left_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> list[object]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Locks(tmp_path) as mine:
        monkeypatch.setattr(mine, "others", interrupted)  # just after the file was created
        mine.take(["a"])
    assert not tmp_path.exists() or not read_locks(tmp_path, "a")
    lost = Locks(tmp_path)
    assert lost.take(["a"])
    lost.__dict__["_thread"].start()
    lost._held.clear()  # as if it had been lost
    lost.__exit__(None, None, None)
    with Locks(tmp_path) as again:
        assert again.take(["a"])


def test_a_file_that_another_put_in_place_of_the_own_is_not_removed(tmp_path: Path) -> None:
    mine = Locks(tmp_path)
    assert mine.take(["a"])
    (tmp_path / "a.1.lock").unlink()
    theirs = elsewhere(tmp_path, "a", 1)  # number 1 again: all were gone in between
    mine.release(["a"])
    assert theirs.exists()


def test_the_heartbeat_moves(tmp_path: Path) -> None:
    with Locks(tmp_path, heartbeat=0.01) as mine:
        assert mine.take(["a"])
        (before,) = read_locks(tmp_path)
        deadline = time.monotonic() + 20
        while read_locks(tmp_path)[0].heartbeat == before.heartbeat:
            assert time.monotonic() < deadline, "the heartbeat stands still"
            time.sleep(0.01)


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    with Locks(tmp_path) as mine, Locks(tmp_path) as theirs:
        assert mine.take(["a"]) and not theirs.take(["a"])
        (lock,) = read_locks(tmp_path, "a")
        assert lock.owner is not None and lock.owner.token == mine.me.token


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    with pytest.raises(sn.ResultsError) as error:
        Locks(tmp_path / "locks").take(["a"])
    assert str(error.value) == f"cannot write {tmp_path / 'locks'}: file exists; give another folder with -o DIR"


def test_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(sn.ResultsError, match="is not a key"):
        Locks(tmp_path).take(["../a"])


CONTENDER = """
import os, random, sys, time
from pathlib import Path
from skillneurons.locks import Locks
folder, log, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
rng = random.Random(seed)
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Locks(folder) as locks:
    done = 0
    while done < 25:
        if not locks.take(["a"]):
            time.sleep(rng.random() * 0.002)
            continue
        os.write(out, f"in {seed}\\n".encode())
        time.sleep(rng.random() * 0.002)
        os.write(out, f"out {seed}\\n".encode())
        locks.release(["a"])
        done += 1
        if seed == 0 and done == 12:
            while not locks.take(["a"]):
                pass
            os.kill(os.getpid(), 9)
"""


def test_many_that_want_the_same_never_have_it_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", CONTENDER, str(tmp_path / "locks"), str(log)]
    children = [subprocess.Popen([*command, str(seed)]) for seed in range(4)]  # number 0 is killed half way
    codes = [child.wait(timeout=120) for child in children]
    assert codes[1:] == [0, 0, 0] and codes[0] == -9
    lines = log.read_text().split("\n")[:-1]
    assert len(lines) >= 2 * (3 * 25 + 12)
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert entered.startswith("in ") and left == entered.replace("in", "out")
