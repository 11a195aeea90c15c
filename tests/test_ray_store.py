"""Workers of a cluster whose results go to a bucket: each opens the store itself, and the bytes are those of a local run on disk."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
from ray_trials import arguments, contents, prepared, run, until, worker_processes
from s3_server import s3_server, use
from skillneurons.config import load_config
from skillneurons.registry import load_registry
from skillneurons.runner import run_config

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")


def test_a_run_on_a_cluster_into_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    local = prepared(tmp_path / "local")
    assert run(local).failed == 0
    with s3_server() as server:
        use(server.endpoint, monkeypatch)  # before the nodes begin: their workers have their environment
        bucket = server.bucket("results")
        node = {"num_cpus": 1, "object_store_memory": 100 << 20}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        try:
            cluster.add_node(**node)
            place = prepared(tmp_path / "far")
            (place / "kill-two-1").write_text("")  # one worker dies in mid-cell
            asked = {**arguments(place), "output": f"s3://{bucket}/run", "executor": "ray", "address": cluster.address}
            config = load_config(**asked)
            outcome = run_config(config, load_registry(config.plugins), progress=False)
        finally:
            cluster.shutdown()
        assert outcome.failed == 0 and not (place / "kill-two-1").exists()
        until(lambda: not worker_processes())
        found = server.contents(bucket, "run/")
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in found.items() if ".run." not in name}
        assert hashes == contents(local / "runs")
