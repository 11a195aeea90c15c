"""The demo on a Ray cluster of two nodes, a worker killed in mid-cell and a node lost on the way, beside the demo left alone: the same bytes.

    python tests/cluster_demo.py [--folder build/cluster] [--local FOLDER] [RUN OPTIONS]

Whatever comes behind is given to ``skillneurons run`` (``--limit 50``). The local run computes with one thread, as the workers do; one that is
there already may be given with ``--local``. After ``--worker`` finished cells the worker that has most processor time is killed with SIGKILL, after
``--node`` cells the second node is taken away and a third joins. Exits 1 where a file differs in a byte.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from crash_trials import contents, finished
from ray_trials import worker_processes

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 << 20}


def started(folder: Path, options: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "skillneurons", "run", "-o", str(folder), "--device", "cpu", *options]
    with (folder.parent / "out").open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out)


def ended(child: subprocess.Popen[bytes], folder: Path) -> None:
    code = child.wait()
    if code:
        raise SystemExit(f"the run into {folder} ended with {code}: {(folder.parent / 'out').read_text()[-2000:]}")


def busiest() -> int:
    """Return the worker process that has taken most processor time."""

    def ticks(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    return max(worker_processes(), key=ticks)


def reached(n: int, folder: Path, child: subprocess.Popen[bytes]) -> bool:
    """Wait until so many cells are finished; False where the run ended before."""
    while len(finished(folder)) < n:
        if child.poll() is not None:
            return False
        time.sleep(0.2)
    return True


def on_cluster(folder: Path, options: list[str], worker: int, node: int) -> None:
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    cluster = Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": quick}
    )
    try:
        second = cluster.add_node(**NODE)
        child = started(folder, ["--executor", "ray", "--address", cluster.address, *options])
        if reached(worker, folder, child):
            time.sleep(2)  # into what comes next
            pid = busiest()
            os.kill(pid, signal.SIGKILL)
            print(f"worker {pid} killed after {len(finished(folder))} finished cells", flush=True)
        if reached(node, folder, child):
            time.sleep(2)
            cluster.remove_node(second)
            print(f"a node taken away after {len(finished(folder))} finished cells", flush=True)
            cluster.add_node(**NODE)
        ended(child, folder)
    finally:
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/cluster"))
    parser.add_argument("--local", type=Path)
    parser.add_argument("--worker", type=int, default=2)
    parser.add_argument("--node", type=int, default=7)
    known, options = parser.parse_known_args()
    shutil.rmtree(known.folder, ignore_errors=True)
    known.folder.mkdir(parents=True)
    local, far = known.local or known.folder / "local", known.folder / "cluster"
    if known.local is None:
        began = time.monotonic()
        ended(started(local, options), local)
        print(f"left alone, one thread: {len(finished(local))} cells in {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    on_cluster(far, options, known.worker, known.node)
    print(f"on a cluster: {len(finished(far))} cells in {time.monotonic() - began:.0f} s", flush=True)
    one, other = contents(local), contents(far)
    differing = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    for name in differing:
        print(f"differs: {name}")
    print(f"{len(one)} files, {len(differing)} differ")
    raise SystemExit(1 if differing else 0)


if __name__ == "__main__":
    main()
