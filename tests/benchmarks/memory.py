"""Peak memory of a piece of work in a process of its own, so that nothing that ran before counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch


def resident_peak() -> float:
    """Return this process's own peak resident memory in MB (``ru_maxrss`` would begin at the parent's)."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1e3


def peak_while(run: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Run something and return the peak in MB, and what it added to the peak before (GPU: the device's memory)."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated() / 1e6
        torch.cuda.reset_peak_memory_stats()
        run()
        peak = torch.cuda.max_memory_allocated() / 1e6
        return {"peak": peak, "added": peak - before}
    before = resident_peak()
    run()
    return {"peak": resident_peak(), "added": resident_peak() - before}


def peak_of_script(script: str, arguments: Sequence[str]) -> dict[str, float]:
    """Start a benchmark with ``arguments`` that make it print ``peak_while`` as JSON; return that."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} {' '.join(arguments)}: {done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return measured
