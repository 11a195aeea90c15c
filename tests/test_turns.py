"""Turns among runners that share a folder: here several in one process, each with locks of its own."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillneurons import runner
from skillneurons.locks import Locks
from skillneurons.plan import PlannedCell, TaskData, Unit
from skillneurons.results import ResultsFolder
from skillneurons.turns import run_in_turns
from skillneurons.types import Metric, Task
from synthetic_cells import synthetic_cell

TASK = TaskData(Task("task000", "1", list), {}, "")


@dataclass
class Display:
    cells: int = 0

    def advance_cell(self) -> None:
        self.cells += 1


@dataclass
class Context:
    folder: ResultsFolder
    locks: Locks
    planned: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    display: Display = field(default_factory=Display)
    said: list[str] = field(default_factory=list)

    def say_waiting(self, what: str, who: str) -> None:
        self.said.append(what)


def context(root: Path) -> Context:
    folder = ResultsFolder(root)
    folder.prepare()
    return Context(folder, Locks(folder.locks))


def unit(*keys: str) -> Unit:
    metric = Metric("m", lambda example, output: 0.0)
    return Unit("pocket", "r", TASK, 0, "p", tuple(PlannedCell(key, metric, ("m",), "", False) for key in keys))


def save(folder: ResultsFolder, key: str, **changes: Any) -> None:
    cell = {**synthetic_cell(0), "key": key, **changes}
    (folder.cells / f"{key}.json").write_text(json.dumps(cell))


def done(mine: Context, units: list[Unit]) -> list[list[str]]:
    ran: list[list[str]] = []
    run_in_turns(mine, units, lambda one: ran.append([cell.key for cell in one.pending]))  # type: ignore[arg-type]
    return ran


def test_units_run_in_order_and_what_is_finished_meanwhile_is_not_run(tmp_path: Path) -> None:
    mine = context(tmp_path)
    save(mine.folder, "b")
    assert done(mine, [unit("a", "b"), unit("c")]) == [["a"], ["c"]]
    assert mine.display.cells == 1 and not list(tmp_path.glob("locks/*"))


def test_what_another_finished_before_the_stamps_were_taken_is_not_run_again(tmp_path: Path) -> None:
    mine = context(tmp_path)
    save(mine.folder, "a")
    mine.planned["a"] = mine.folder.stamp("a")
    assert done(mine, [unit("a")]) == []


def test_what_another_tried_and_failed_since_the_plan_is_not_tried_again_but_what_failed_before_is(
    tmp_path: Path,
) -> None:
    mine = context(tmp_path)
    error = {"type": "ValueError", "message": "no luck"}
    save(mine.folder, "before", status="failed", error=error, columns={}, causal=None)
    mine.planned["before"] = mine.folder.stamp("before")
    save(mine.folder, "since", status="failed", error=error, columns={}, causal=None)
    save(mine.folder, "causal", causal={"columns": {}, "error": "RuntimeError: no luck"})
    save(mine.folder, "pending", causal={"columns": {}, "pending": True})  # of a runner that was killed
    assert done(mine, [unit("before", "since", "causal", "pending")]) == [["before", "pending"]]


def test_what_another_has_in_hand_comes_last_and_is_waited_for(tmp_path: Path) -> None:
    mine, theirs = context(tmp_path), context(tmp_path)
    assert theirs.locks.take(["a", "d"])
    ran: list[list[str]] = []

    def finish() -> None:
        save(theirs.folder, "a")
        theirs.locks.release(["a", "d"])  # d was given up: it is this runner's now

    def run(one: Unit) -> None:
        ran.append([cell.key for cell in one.pending])
        assert all(mine.locks.holds(key) for key in ran[-1])
        if len(ran) == 2:
            threading.Timer(0.5, finish).start()

    run_in_turns(mine, [unit("a", "b"), unit("c"), unit("d"), unit("e")], run)  # type: ignore[arg-type]
    assert ran == [["c"], ["e"], ["b"], ["d"]] and mine.said == ["3 cells"]


def test_a_unit_that_raises_gives_its_locks_back(tmp_path: Path) -> None:
    mine = context(tmp_path)

    def run(one: Unit) -> None:
        raise OSError("no luck")

    try:
        run_in_turns(mine, [unit("a")], run)  # type: ignore[arg-type]
    except OSError:
        assert not list(tmp_path.glob("locks/*"))
    else:
        raise AssertionError("the error was lost")


def test_a_runner_waits_for_the_doctor_and_lets_it_see_that_it_is_there(tmp_path: Path) -> None:
    mine, theirs = context(tmp_path), context(tmp_path)
    assert theirs.locks.take(["doctor"])
    threading.Timer(0.5, lambda: theirs.locks.release(["doctor"])).start()
    notes: list[str] = []
    said: list[str] = []
    runner._announce(mine.locks, notes, said.append)
    runner._announce(mine.locks, notes, said.append)  # once is enough
    assert notes == [f"waited for {theirs.locks.me.label}, who was mending the folder"]
    assert said == [f"waiting for {theirs.locks.me.label}, who is mending the folder"]
    (lock,) = tmp_path.glob("locks/*.lock")
    assert lock.name.startswith("runner-")
