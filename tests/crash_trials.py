"""Runs that are killed at seeded moments and continued, in processes forked from one that has everything loaded.

``python crash_trials.py FOLDER MODEL SCENARIO SEED TRIALS`` prints what was found as JSON. A run lasts about a second: two small
tasks, two metrics, causal tests, what concerns both tasks, and a checkpoint after every step of tuning. Moments are drawn by time
and by file operation (the n-th of fsync, rename, link, unlink: the process dies just before or just after it).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLUGIN = """
import os
import skillneurons as sn

def example(split, i):
    a, b = divmod(SPLITS.index(split) * 1000 + i, 10)
    even = (a + b) % 2 == 0
    return sn.Example(f"{split}{i}", f"{a} plus {b} is even.", "yes" if even else "no", ("yes", "no"), {"even": float(even)})

SPLITS = ("train", "validation", "discovery", "heldout")

def load(split, *, limit=None, seed=0):
    return [example(split, i) for i in range(limit)]

@sn.hookimpl
def register_tasks(register):
    for name in ("one", "two"):
        register(sn.Task(name, "1", load, kind="choice", chance=0.5, label_columns=("even",), primary=("labels.even",)))

@sn.hookimpl
def cell_finished(result):
    log = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"finished {result.key} {os.getpid()}\\n".encode())
    os.close(log)
"""
CONFIG = """
tasks: [one, two]
metrics: [labels, confidence]
data: {train: 16, validation: 8, discovery: 30, heldout: 20}
prompt: {num_virtual_tokens: 2, steps: 12, batch_size: 4, eval_every: 4}
attribution: {permutations: 20, bootstrap: 20, nuisance: []}
causal: {k: [2], examples: 8, steering: [2], cards: 1, random_sets: 2, neutral_text: pocket, across_k: [2]}
"""
LONG = """
tasks: [one]
metrics: [labels]
data: {train: 16, validation: 8, discovery: 30, heldout: 20}
prompt: {num_virtual_tokens: 2, steps: 300000, batch_size: 4, eval_every: 100000}
attribution: {permutations: 20, bootstrap: 20, nuisance: []}
causal: {enabled: false}
"""
FILE_OPERATIONS = ("fsync", "replace", "rename", "link", "unlink")


class Moment:
    """When a process dies: after ``seconds``, or at its ``operation``-th file operation, ``before`` it or after.

    With an ``error`` (ENOSPC, EACCES) it lives on, and every fsync from that operation on fails.
    """

    def __init__(self, seconds: float = 0.0, operation: int = 0, before: bool = True, error: int = 0) -> None:
        self.seconds, self.operation, self.before, self.error = seconds, operation, before, error

    def __str__(self) -> str:
        what = "before" if self.before else "after"
        return f"{what} file operation {self.operation}" if self.operation else f"after {self.seconds:.2f} s"


def preload() -> None:
    """Import all that a run needs, and start no thread."""
    import importlib

    os.environ["HF_HUB_OFFLINE"], os.environ["TOKENIZERS_PARALLELISM"] = "1", "false"
    for name in ("across", "cli", "leaderboard.board", "loading", "runner", "unit", "unit_cells", "turns"):
        importlib.import_module(f"skillneurons.{name}")
    for name in ("transformers.models.qwen2.modeling_qwen2", "pyarrow.parquet", "scipy.stats", "pandas"):
        importlib.import_module(name)


def start(folder: Path, model: str, moment: Moment | None = None, output: str = "") -> int:
    """Fork a process that runs the config in a folder, or at a URL beside which it stands; return its number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.environ["CRASH_LOG"] = str(folder.parent / "log")
        out = os.open(folder.parent / "out", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = _run(folder, model, moment, output)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(folder: Path, model: str, moment: Moment | None, output: str) -> int:
    import skillneurons.checkpoint
    import skillneurons.tuning
    import torch
    from skillneurons.cli import main

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores in what it runs in the background
    skillneurons.checkpoint.EVERY = 0.0
    steps = skillneurons.tuning._Tuning.advance
    log = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def counted(self: Any, gradient: Any) -> float:
        os.write(log, f"step {os.getpid()}\n".encode())
        return steps(self, gradient)

    skillneurons.tuning._Tuning.advance = counted  # type: ignore[method-assign]
    operations = _count_operations(moment)
    if moment is not None and moment.seconds:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, moment.seconds)
    plugin = str(folder.parent / "crash_plugin.py")
    config = str(folder.parent / "crash.yaml")
    code = main(["run", config, "-m", model, "-p", plugin, "-o", output or str(folder), "--device", "cpu"])
    os.write(log, f"operations {operations()}\n".encode())
    return code


def _count_operations(moment: Moment | None) -> Callable[[], int]:
    """Count file operations, and die at the one of the moment."""
    count = 0
    fsync = os.fsync

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if moment is not None and moment.error and original is fsync and count >= moment.operation:
                raise OSError(moment.error, os.strerror(moment.error))
            here = moment is not None and not moment.error and moment.operation == count
            if here and moment is not None and moment.before:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return original(*arguments, **keywords)
            finally:
                if here:
                    os.kill(os.getpid(), signal.SIGKILL)

        return operation

    for name in FILE_OPERATIONS:
        setattr(os, name, wrapped(getattr(os, name)))
    return lambda: count


def wait(child: int) -> int:
    """Return the exit code of a process, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepared(place: Path) -> Path:
    """Return a new runs folder with its plugin and config beside it."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "crash_plugin.py").write_text(PLUGIN)
    (place / "crash.yaml").write_text(CONFIG)
    return place / "runs"


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file that must be the same however often a run was killed, by its place in the folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.endswith((".run.json", ".tmp")) and ".tmp/" not in name:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the stamp of every finished cell; raise where a file under a cell's name is no whole cell."""
    from skillneurons.results import DamagedCell, ResultsFolder

    here = ResultsFolder(folder)
    found = {}
    for path, cell in here.iter_cells():
        assert not isinstance(cell, DamagedCell), f"{path}: {cell.reason}"
        stamp = here.stamp(cell.key)
        if cell.finished and stamp is not None:
            found[cell.key] = stamp
    return found


def log_of(folder: Path) -> list[list[str]]:
    log = folder.parent / "log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def state(folder: Path) -> dict[str, Any]:
    """Return what a folder and its log say after all runs in it have ended."""
    log = log_of(folder)
    keys = [line[1] for line in log if line[0] == "finished"]
    return {
        "contents": contents(folder),
        "finished_twice": sorted({key for key in keys if keys.count(key) > 1}),
        "finished": sorted(set(keys)),
        "steps": sum(line[0] == "step" for line in log),
        "runners": len({line[2] for line in log if line[0] == "finished"}),
        "left": sorted(name for name in contents(folder) if name.startswith(("locks/", "checkpoints/"))),
    }


def trial(place: Path, model: str, moment: Moment) -> dict[str, Any]:
    """Kill one run at a moment, look at what is there, continue it, and say how it ended."""
    folder = prepared(place)
    killed = wait(start(folder, model, moment))
    before = finished(folder) if folder.exists() else {}
    steps = sum(line[0] == "step" for line in log_of(folder))
    resumed = wait(start(folder, model))
    after = finished(folder)
    ended = state(folder)
    return {
        "moment": str(moment),
        "killed": killed,
        "resumed": resumed,
        "finished_before": len(before),
        "rewritten": sorted(key for key, stamp in before.items() if after.get(key) != stamp),
        "steps_before": steps,
        **ended,
        **examined(folder),
    }


def examined(folder: Path) -> dict[str, Any]:
    """Let the doctor look at a folder and mend it; return what it finds before and after."""
    from skillneurons.doctor import examine
    from skillneurons.mending import mend
    from skillneurons.registry import load_registry

    registry = load_registry([str(folder.parent / "crash_plugin.py")])
    complaints = examine(folder, registry, deep=True).complaints
    left = mend(folder, registry, deep=True).left.complaints
    return {
        "complaints": [one.path for one in complaints],
        "mendable": [one.path for one in complaints if one.mendable],
        "after_mending": [f"{one.path}: {one.what}" for one in left],
        "contents_after": contents(folder),
    }


def uninterrupted(place: Path, model: str) -> dict[str, Any]:
    folder = prepared(place)
    began = time.monotonic()
    code = wait(start(folder, model))
    seconds = time.monotonic() - began
    assert code == 0, (folder.parent / "out").read_text()
    operations = next(int(line[1]) for line in log_of(folder) if line[0] == "operations")
    return {"seconds": seconds, "operations": operations, **state(folder)}


def moments(seed: int, n: int, seconds: float, operations: int) -> list[Moment]:
    """Draw moments, half by time and half by file operation, spread over the whole run."""
    rng = random.Random(seed)
    by_time = [Moment(seconds=max(0.01, seconds * (i + rng.random()) / (n // 2))) for i in range(n // 2)]
    rest = n - n // 2
    by_operation = [
        Moment(operation=1 + int(operations * (i + rng.random()) / rest), before=rng.random() < 0.5)
        for i in range(rest)
    ]
    return by_time + by_operation


def kills(place: Path, model: str, seed: int, n: int) -> dict[str, Any]:
    whole = uninterrupted(place / "whole", model)
    drawn = moments(seed, n, whole["seconds"], whole["operations"])
    return {"whole": whole, "trials": [trial(place / "trial", model, moment) for moment in drawn]}


def together(place: Path, model: str, seed: int, n: int) -> dict[str, Any]:
    """Let two runners share a folder, the second a little later; in every second trial the first is killed."""
    whole = uninterrupted(place / "whole", model)
    rng, trials = random.Random(seed), []
    for i in range(n):
        folder = prepared(place / "trial")
        seconds = whole["seconds"]
        moment = Moment(seconds=seconds * (0.2 + 0.8 * rng.random())) if i % 2 else None
        first = start(folder, model, moment)
        time.sleep(seconds * rng.random() / 2)
        second = start(folder, model)
        codes = [wait(first), wait(second)]
        trials.append({"killed": moment is not None, "codes": codes, **state(folder)})
    return {"whole": whole, "trials": trials}


def unwritable(place: Path, model: str, seed: int, n: int) -> dict[str, Any]:
    """Let the disk be full, or closed, from some moment of a run on; then continue the run with room again."""
    whole = uninterrupted(place / "whole", model)
    rng, trials = random.Random(seed), []
    for i in range(n):
        folder = prepared(place / "trial")
        operation = 1 + int(whole["operations"] * (i + rng.random()) / n)
        code = wait(start(folder, model, Moment(operation=operation, error=errno.EACCES if i % 2 else errno.ENOSPC)))
        said = (folder.parent / "out").read_text().splitlines()
        before = finished(folder)
        resumed = wait(start(folder, model))
        after = finished(folder)
        rewritten = sorted(key for key, stamp in before.items() if after.get(key) != stamp)
        about = {"error": "EACCES" if i % 2 else "ENOSPC", "code": code, "said": said, "resumed": resumed}
        trials.append({**about, "finished_before": len(before), "rewritten": rewritten, **state(folder)})
    return {"whole": whole, "trials": trials}


def stopped(place: Path, model: str, signum: int, n: int) -> dict[str, Any]:
    """Ask a run that is inside tuning to stop, and say how it ended."""
    folder = prepared(place / "my runs")
    (folder.parent / "crash.yaml").write_text(LONG)
    child = start(folder, model)
    while not list(folder.glob("checkpoints/*.safetensors")):
        time.sleep(0.05)
    os.kill(child, signum)
    code = wait(child)
    left = sorted(path.name for path in folder.iterdir())
    checkpoints = [path.stem for path in (folder / "checkpoints").glob("*.safetensors")]
    return {"code": code, "said": (folder.parent / "out").read_text(), "left": left, "checkpoints": checkpoints}


if __name__ == "__main__":
    preload()
    found = {"kills": kills, "together": together, "stopped": stopped, "unwritable": unwritable}[sys.argv[3]](
        Path(sys.argv[1]), sys.argv[2], int(sys.argv[4]), int(sys.argv[5])
    )
    print(json.dumps(found))
