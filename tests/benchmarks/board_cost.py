"""The board of many cells: cold, again, and after a few changes; as the command, with the interpreter's start.

    python tests/benchmarks/board_cost.py [--cells 10000] [--changed 10] [--repeats 5]

Invented cells of one column (with 1,000 resamples and the causal part): ten models, three seeds. Medians and the smallest of the
repeats, in seconds. Memory is that of the command and the processes it starts together (proportional set size, sampled in a
cold build of its own). The rebuilt bytes are compared with those of shuffled copies.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_cells import write_synthetic

AGED = 3600


def started(runs: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "skillneurons", "leaderboard", str(runs), "-o", str(out)]
    # as installed: its modules are compiled once, whatever this shell says
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)


def bare_start() -> float:
    """Return the seconds that an interpreter takes which does nothing."""
    before = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - before


def build(runs: Path, out: Path) -> float:
    """Return the seconds of one build by the command."""
    before = time.perf_counter()
    if started(runs, out).wait():
        raise SystemExit(f"the build of {runs} failed")
    return time.perf_counter() - before


def peak_memory(runs: Path, out: Path) -> float:
    """Return the largest memory (MB) that one build and the processes it starts take together."""
    process, peak = started(runs, out), 0
    while process.poll() is None:
        family = [process.pid]
        for pid in family:  # grows while it is walked through
            with contextlib.suppress(OSError):
                family += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        peak = max(peak, sum(map(proportional, family)))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the build of {runs} failed")
    return peak / 1024


def proportional(pid: int) -> int:
    """Return the kB of a process, what it shares divided among those who share it; 0 where it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def age(runs: Path) -> None:
    """Make the files old enough that their time stamps are trusted."""
    for path in (runs / "cells").iterdir():
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - AGED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        runs = write_synthetic(root / "runs", range(arguments.cells))
        age(runs)
        cold, again, changed = [], [], []
        step = max(1, arguments.cells // arguments.changed)
        for repeat in range(arguments.repeats):
            out = root / f"out{repeat}"
            cold.append(build(runs, out))
            again.append(build(runs, out))
            write_synthetic(
                runs, list(range(0, arguments.cells, step))[: arguments.changed], shift=0.001 * (repeat + 1)
            )
            changed.append(build(runs, out))
        size = sum(path.stat().st_size for path in (runs / "cells").iterdir()) / 2**20
        bare = statistics.median(bare_start() for _ in range(9))
        print(f"bare python: {1000 * bare:.0f} ms")
        print(f"{platform.machine()}, Python {platform.python_version()}; {arguments.cells} cells, {size:.0f} MB\n")
        print("| build | median s | smallest s |\n|---|---|---|")
        for name, seconds in (("cold", cold), ("nothing changed", again), (f"{arguments.changed} changed", changed)):
            print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} |")
        print(f"\npeak of a cold build, all its processes together: {peak_memory(runs, root / 'weighed'):.0f} MB")
        copies = root / "copies" / "cells"
        copies.mkdir(parents=True)
        paths = sorted((runs / "cells").iterdir())
        random.Random(0).shuffle(paths)
        for path in paths:
            shutil.copyfile(path, copies / path.name)
        build(copies.parent, root / "shuffled")
        same = [
            (root / "shuffled" / f"board.{name}").read_bytes()
            == (root / f"out{arguments.repeats - 1}" / f"board.{name}").read_bytes()
            for name in ("md", "csv", "parquet")
        ]
        print(f"\nsame bytes from shuffled copies, cold: {all(same)}")


if __name__ == "__main__":
    main()
