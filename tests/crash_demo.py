"""The demo, killed at seeded moments and started again each time, beside the demo left alone: the same bytes in the end.

    python tests/crash_demo.py [--kills 20] [--seed 0] [--folder build/crash] [RUN OPTIONS]

Whatever comes behind is given to ``skillneurons run`` (``--limit 50``). Every kill is SIGKILL to the real command, at a time drawn between its
start and ``--longest`` seconds later. Prints what was finished at each kill, and exits 1 where a finished cell was written again, a file
under a cell's name was no whole cell, or the end differs in a byte.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from crash_trials import contents, finished


def started(folder: Path, options: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "skillneurons", "run", "-o", str(folder), *options]
    with (folder.parent / "out").open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "HF_HUB_OFFLINE": "1"})


def whole_run(folder: Path, options: list[str]) -> float:
    """Run to the end; return the seconds."""
    before = time.monotonic()
    code = started(folder, options).wait()
    if code:
        raise SystemExit(f"the run into {folder} ended with {code}: {(folder.parent / 'out').read_text()[-2000:]}")
    return time.monotonic() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=40.0)
    parser.add_argument("--folder", type=Path, default=Path("build/crash"))
    known, options = parser.parse_known_args()
    shutil.rmtree(known.folder, ignore_errors=True)
    known.folder.mkdir(parents=True)
    whole, killed = known.folder / "whole", known.folder / "killed"
    seconds = whole_run(whole, options)
    print(f"left alone: {len(finished(whole))} cells in {seconds:.0f} s", flush=True)
    rng = random.Random(known.seed)
    before: dict[str, tuple[int, int]] = {}
    for number in range(1, known.kills + 1):
        child = started(killed, options)
        moment = rng.uniform(0, known.longest)
        try:
            code = child.wait(timeout=moment)
            said = f"had ended with {code} before"
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            said = "killed"
        now = finished(killed) if (killed / "cells").exists() else {}
        rewritten = [key for key, stamp in before.items() if now.get(key) != stamp]
        if rewritten:
            raise SystemExit(f"finished cells were lost or written again: {', '.join(rewritten)}")
        before = now
        print(f"{number:2d}: {said} after {moment:.1f} s, {len(now)} cells finished", flush=True)
    seconds = whole_run(killed, options)
    now = finished(killed)
    if any(now.get(key) != stamp for key, stamp in before.items()):
        raise SystemExit("finished cells were lost or written again")
    one, other = contents(whole), contents(killed)
    different = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    if different:
        raise SystemExit(f"{len(different)} files differ: {', '.join(different[:5])}")
    print(f"continued to its end in {seconds:.0f} s: {len(now)} cells, {len(one)} files, the same bytes")


if __name__ == "__main__":
    main()
