"""What the tests of the Ray executor run: a plugin with two small tasks that obeys orders, and where its workers are.

An order is a file beside the plugin. ``often``: a tuning writes its checkpoint after every step. ``kill-TASK-N``: the next process that measures that task dies; ``break-TASK-N``: from then on
it cannot write a pass; ``wait-N``: whoever measures waits until the file is gone, and notes its node in ``inside-PID``.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skillneurons.config import load_config
from skillneurons.errors import SkillNeuronsError
from skillneurons.registry import load_registry
from skillneurons.runner import RunOutcome, run_config

PLUGIN = '''
import os
import signal
import time
from pathlib import Path
import skillneurons as sn

SPLITS = ("train", "validation", "discovery", "heldout")
HERE = Path(__file__).parent
SEEN = set()
if (HERE / "often").exists():
    import skillneurons.checkpoint
    skillneurons.checkpoint.EVERY = 0.0

def example(task, split, i):
    a, b = divmod(SPLITS.index(split) * 1000 + i, 10)
    even = (a + b) % 2 == 0
    return sn.Example(f"{task} {split}{i}", f"{a} plus {b} is even.", "yes" if even else "no", ("yes", "no"), {"even": float(even)})

def loader(task):
    def load(split, *, limit=None, seed=0):
        return [example(task, split, i) for i in range(limit)]
    return load

def mine(pattern):
    """Take one order of several, alone."""
    for order in sorted(HERE.glob(pattern)):
        try:
            order.unlink()
        except FileNotFoundError:
            continue
        return True
    return False

def digits(example, output):
    task = example.id.split()[0]
    if os.getpid() not in SEEN:
        SEEN.add(os.getpid())
        with (HERE / "measured").open("a") as file:
            file.write(f"{os.getpid()}\\n")
    for order in HERE.glob("wait-*"):
        import ray
        (HERE / f"inside-{os.getpid()}").write_text(ray.get_runtime_context().get_node_id())
        while order.exists():
            time.sleep(0.05)
    if mine(f"kill-{task}-*"):
        os.kill(os.getpid(), signal.SIGKILL)
    if mine(f"break-{task}-*"):
        import skillneurons.unit
        skillneurons.unit.write_pass = len
    return float(sum(map(int, filter(str.isdigit, example.prompt))))

@sn.hookimpl
def register_tasks(register):
    for name in ("one", "two"):
        register(sn.Task(name, "1", loader(name), kind="choice", chance=0.5, label_columns=("even",), primary=("labels.even",)))

@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("digits", digits))

@sn.hookimpl
def cell_finished(result):
    with (HERE / "log").open("a") as log:
        log.write(f"{result.key} {result.status} {os.getpid()}\\n")
'''
SETTINGS = (
    "data={train: 16, validation: 8, discovery: 30, heldout: 20}",
    "prompt={num_virtual_tokens: 2, steps: 8, batch_size: 4, eval_every: 4}",
    "attribution={permutations: 20, bootstrap: 20, nuisance: []}",
    "causal={k: [2], examples: 8, steering: [2], cards: 1, random_sets: 2, neutral_text: pocket, across_k: [2]}",
)


MINE = f"SKILL_TRIALS={os.getpid()}"  # in the environment of all processes that these tests start
os.environ.update([MINE.split("=")])


def prepared(place: Path) -> Path:
    """Return a new place with the plugin in it."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "orders.py").write_text(PLUGIN)
    return place


def arguments(place: Path, seeds: Sequence[int] = (0,), more: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "overrides": [*SETTINGS, *more],
        "models": ["pocket-small"],
        "tasks": ["one", "two"],
        "metrics": ["labels", "digits"],
        "seeds": list(seeds),
        "device": "cpu",
        "output": str(place / "runs"),
        "plugins": [str(place / "orders.py")],
        "blank": True,
    }


def run(place: Path, address: str | None = None, seeds: Sequence[int] = (0,), more: Sequence[str] = ()) -> RunOutcome:
    """Run everything in a place, on a cluster where an address is given."""
    ray = {"executor": "ray", "address": address} if address else {}
    config = load_config(**arguments(place, seeds, more), **ray)
    return run_config(config, load_registry(config.plugins), progress=False)


def refusal(place: Path, address: str | None, more: Sequence[str] = ()) -> str:
    """Return the error that a run on a cluster ends with."""
    try:
        run(place, address, more=more)
    except SkillNeuronsError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("the run was not refused")


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file that must be the same wherever it was made."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".run.json")
    }


def observed(place: Path) -> list[list[str]]:
    log = place / "log"
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def commands() -> dict[int, bytes]:
    """Return the command line of every process that these tests have started."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if MINE.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def worker_processes() -> list[int]:
    """Return the processes of Ray's workers among them."""
    return [number for number, command in commands().items() if b"ray::RayWorker" in command]


def until(condition: Callable[[], Any], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
