"""What a run costs that finds everything finished: the command, with the interpreter's start, over many finished cells.

    python tests/benchmarks/rerun_cost.py [--cells 10000] [--repeats 5]

Ten small tasks, a hundred metrics and as many seeds as the cells take, all of a plugin; the cells are invented, under the keys that the run
plans. The first run compiles the table; the others find it up to date. Medians and the smallest of the repeats, in seconds, beside a bare
interpreter. ``torch`` must not be loaded, which each repeat checks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from skillneurons.config import Config
from synthetic_cells import synthetic_cell

TASKS, METRICS, AGED = 10, 100, 3600
PLUGIN = """
import skillneurons as sn

def examples(split, *, limit=None, seed=0):
    return [sn.Example(f"{split}{i}", f"Is {i} even?", "yes" if i % 2 == 0 else "no", ("yes", "no")) for i in range(8)]

@sn.hookimpl
def register_tasks(register):
    for i in range(TASKS):
        register(sn.Task(f"many{i}", "1", examples, kind="choice", chance=0.5))

@sn.hookimpl
def register_metrics(register):
    for i in range(METRICS):
        register(sn.Metric(f"figure{i:03d}", lambda example, output: 1.0, columns=("value",)))
"""


def make(place: Path, n: int) -> list[str]:
    """Write a plugin, a config and the finished cells that its run plans; return the run's arguments."""
    from skillneurons.config import load_config
    from skillneurons.plan import plan
    from skillneurons.registry import load_registry
    from skillneurons.results import ResultsFolder

    plugin, config = place / "many.py", place / "many.yaml"
    plugin.write_text(PLUGIN.replace("TASKS", str(TASKS)).replace("METRICS", str(METRICS)))
    names = ", ".join(f"figure{i:03d}" for i in range(METRICS))
    tasks = ", ".join(f"many{i}" for i in range(TASKS))
    seeds = list(range(n // (TASKS * METRICS)))
    settings = "attribution: {nuisance: []}\n"
    config.write_text(f"plugins: [{plugin}]\ntasks: [{tasks}]\nmetrics: [{names}]\nseeds: {seeds}\n{settings}")
    out = place / "runs"
    registry = load_registry([str(plugin)])
    loaded = load_config(str(config), output=str(out), registry=registry)
    units = plan(loaded, registry, ResultsFolder(out))
    (out / "cells").mkdir(parents=True)
    index = 0
    for unit in units:
        for cell in unit.cells:
            known = synthetic_cell(index)
            column = known["columns"].popitem()[1]
            (name,) = cell.columns
            tested = known["causal"]["columns"].popitem()[1]
            known |= {"key": cell.key, "pass": cell.key, "seed": unit.seed, "columns": {name: column}}
            known["task"] |= {"name": unit.data.task.name, "data_hash": unit.data.hash}
            known["metric"] |= {"name": cell.metric.name, "columns": [name]}
            known["model"] |= {"name": unit.model, "revision": unit.revision}
            known["causal"]["columns"] = {name: tested}
            path = out / "cells" / f"{cell.key}.json"
            path.write_text(json.dumps(known, sort_keys=True, indent=2) + "\n")
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - AGED))
            index += 1
    for seed in seeds:
        own = [unit for unit in units if unit.seed == seed]
        write_across(out, loaded, seed, [cell.key for unit in own for cell in unit.cells], own[0].model)
    return ["run", str(config), "-o", str(out)]


def write_across(out: Path, config: Config, seed: int, cells: list[str], model: str) -> None:
    """Write what concerns the tasks of a seed, as if it had been measured."""
    from skillneurons.across_file import SCHEMA_VERSION
    from skillneurons.across_state import across_key

    key = across_key(config, seed, cells)
    found = {
        **{"schema_version": SCHEMA_VERSION, "key": key, "model": model, "revision": "r", "seed": seed, "cells": cells},
        **{"tasks": [], "columns": {}, "outcomes": {}, "settings": {}, "specificity": [], "on_demand": {}},
        "interactions": {"within": {}, "between": {"overlaps": [], "joints": {}}},
    }
    (out / "across").mkdir(exist_ok=True)
    (out / "across" / f"{key}.json").write_text(json.dumps(found))


def timed(arguments: list[str]) -> tuple[float, bool]:
    """Return the seconds of one run by the command, and whether torch was loaded."""
    code = f"import sys; from skillneurons.cli import main; code = main({arguments!r}); print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    seconds = time.perf_counter() - before
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, done.stderr.splitlines()[-1] == "True"


def bare_start() -> float:
    before = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skillneurons-") as place:
        arguments = make(Path(place), options.cells)
        first, _ = timed(arguments)
        bare, again = [], []
        for _ in range(options.repeats):
            bare.append(bare_start())
            seconds, heavy = timed(arguments)
            again.append(seconds)
            if heavy:
                raise SystemExit("torch was loaded")
    print(f"Python {platform.python_version()}, {options.cells} finished cells, {options.repeats} repeats, seconds")
    print(f"  bare python        {statistics.median(bare):.3f}")
    print(f"  first run          {first:.2f} (compiles the table)")
    print(f"  run again          {statistics.median(again):.2f} median, {min(again):.2f} best; torch not loaded")


if __name__ == "__main__":
    main()
