"""The board of many cells: cold, again, and after a few changes; as the command, with the interpreter's start.

    python tests/benchmarks/board_cost.py [--cells 10000] [--changed 10] [--repeats 5]

Invented cells of one column (with 1,000 resamples and the causal part): ten models, three seeds. Medians and the smallest of the
repeats, in seconds, and the peak memory of the process. The rebuilt bytes are compared with those of shuffled copies.
"""

from __future__ import annotations

import argparse
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


def build(runs: Path, out: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory (MB) of one build by the command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "skillneurons", "leaderboard", str(runs), "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, used.ru_maxrss / 1024


def age(runs: Path) -> None:
    """Make the files old enough that their time stamps are trusted."""
    for path in (runs / "cells").iterdir():
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - AGED))


def shown(name: str, measured: list[tuple[float, float]]) -> None:
    seconds, peaks = zip(*measured, strict=True)
    print(f"| {name} | {statistics.median(seconds):.2f} | {min(seconds):.2f} | {max(peaks):.0f} |")


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
        print(f"{platform.machine()}, Python {platform.python_version()}; {arguments.cells} cells, {size:.0f} MB\n")
        print("| build | median s | smallest s | peak MB |\n|---|---|---|---|")
        for name, measured in (("cold", cold), ("nothing changed", again), (f"{arguments.changed} changed", changed)):
            shown(name, measured)
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
