"""Runs on a real Ray cluster of two nodes: the same bytes as locally, whatever dies on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_trials import (
    PLUGIN,
    SETTINGS,
    arguments,
    commands,
    contents,
    observed,
    prepared,
    refusal,
    run,
    until,
    worker_processes,
)
from skillneurons import ray_executor
from skillneurons.config import load_config
from skillneurons.registry import load_registry
from skillneurons.runner import run_config

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc, and killed")
QUICK = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Return a cluster of two nodes with one CPU each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20, "_system_config": QUICK}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a local run of everything."""
    import torch

    torch.set_num_threads(1)
    place = prepared(tmp_path_factory.mktemp("local"))
    assert run(place, seeds=SEEDS).failed == 0
    return place / "runs"


def of_seed_0(folder: Path) -> dict[str, str]:
    """Return the hashes of all files but the table's, of one seed."""
    found = {name: content for name, content in contents(folder).items() if "-s0-" in name}
    assert {name.partition("/")[0] for name in found} == {"cells", "prompts", "passes", "cards", "across"}
    assert not {name for name in contents(folder) if name.startswith(("locks", "checkpoints"))}
    return found


def test_the_cells_are_those_of_a_local_run(
    cluster: Any, local: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = prepared(tmp_path)
    outcome = run(place, cluster.address, SEEDS)
    assert outcome.failed == 0 and len(outcome.keys) == 8
    assert contents(place / "runs") == contents(local)  # and no lock, checkpoint or probe is left
    assert outcome.notes == [
        f"written: {', '.join(str(place / 'runs' / f'board.{end}') for end in ('md', 'csv', 'parquet'))}"
    ]
    log = observed(place)
    assert sorted(key for key, _, _ in log) == sorted(outcome.keys)  # observers hear of each cell once,
    assert {pid for _, _, pid in log} == {str(os.getpid())}  # here and not where it was made
    until(lambda: not worker_processes())
    import ray

    assert not ray.is_initialized()
    again = run(place, "127.0.0.1:1", SEEDS)  # nothing is open: no cluster is asked for
    assert len(again.results) == 8 and contents(place / "runs") == contents(local)
    assert capfd.readouterr() == ("", "")


def test_a_node_a_worker_and_a_process_are_lost_and_nothing_with_them(
    cluster: Any, local: Path, tmp_path: Path
) -> None:
    """The node in mid-cell; then a worker's process is killed in mid-cell, and another one fails by no rule of ours."""
    place = prepared(tmp_path)
    for order in ("wait-1", "kill-one-1", "break-two-1"):
        (place / order).touch()
    (second,) = cluster.worker_nodes

    def inside() -> set[int]:
        """Return the processes on the second node that are in mid-cell."""
        found = [file for file in place.glob("inside-*") if file.read_text() == second.node_id]
        return {int(file.name.removeprefix("inside-")) for file in found}

    def lose_it() -> None:
        try:
            until(inside)
            cluster.remove_node(second, allow_graceful=False)
            until(lambda: not inside() & set(worker_processes()))  # they take no order any more
        finally:
            (place / "wait-1").unlink()  # else the run waits for ever

    loser = threading.Thread(target=lose_it)
    loser.start()
    try:
        outcome = run(place, cluster.address)
    finally:
        loser.join()
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    assert outcome.failed == 0 and of_seed_0(place / "runs") == of_seed_0(local)
    assert not list(place.glob("kill-*")) and not list(place.glob("break-*"))
    host = os.uname().nodename
    again = [note for note in outcome.notes if note.endswith("; it is done again")]
    ended = f"its worker on {host} ended unexpectedly (killed, or out of memory)"
    broken = f"it failed on {host}: TypeError: len() takes exactly one argument (4 given)"
    assert len(again) == 3 and sum(broken in note for note in again) == 1 and any(ended in note for note in again)
    assert sorted(key for key, _, _ in observed(place)) == sorted(outcome.keys)


def test_a_unit_that_fails_three_times_is_failed_with_its_reason(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = prepared(tmp_path)
    for n in (1, 2, 3):
        (place / f"kill-one-{n}").touch()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    outcome = run(place, "auto", more=["causal.enabled=false", "executor.workers=1"])
    host = os.uname().nodename
    reason = f"failed 3 times; the last time its worker on {host} ended unexpectedly (killed, or out of memory)"
    failed = {result.key: result.error for result in outcome.results if result.status == "failed"}
    assert outcome.failed == 2 and len(failed) == 2 and len(outcome.results) == 4
    for key, error in failed.items():
        assert key.startswith("one-") and error == {"type": "CellError", "message": reason}
    assert sorted(status for _, status, _ in observed(place)) == ["failed", "failed", "ok", "ok"]
    notes = [note for note in outcome.notes if note.startswith(("failed: one", "pocket-small one"))]
    again = (
        f"pocket-small one seed 0: its worker on {host} ended unexpectedly (killed, or out of memory); it is done again"
    )
    assert notes == [again, again, *(f"failed: {key}: {reason}" for key in outcome.keys if key in failed)]


def test_workers_that_are_not_like_this_process_are_refused(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    ray.init(cluster.address, log_to_driver=False, logging_level="CRITICAL")  # which the runs then use
    try:
        host, here = os.uname().nodename, ray_executor.installed()
        standing = "0 of 4 cells are finished and saved, the same command goes on from there"
        place, one = prepared(tmp_path), ["executor.workers=1"]
        with monkeypatch.context() as patch:
            patch.setattr(ray_executor, "installed", lambda: {**here, "torch": "1.0"})
            assert refusal(place, cluster.address, one) == (
                f"ClusterError: worker on {host} has torch {here['torch']} (here 1.0); install the same versions on every "
                f"node; {standing}"
            )
        with monkeypatch.context() as patch:
            asked = ray_executor.request_of
            patch.setattr(ray_executor, "request_of", lambda *given: {**asked(*given), "driver": "of another folder"})
            assert refusal(place, cluster.address, one) == (
                f"ClusterError: worker on {host} does not see {place / 'runs'}; give a folder that all nodes share, or an "
                f"object store (-o s3://...); {standing}"
            )
        config = load_config(**arguments(place, more=one), executor="ray", address=cluster.address)
        registry = load_registry(config.plugins)
        before = registry.source_hash("metric", "digits")
        (place / "orders.py").write_text(f"{PLUGIN}\n# another day\n")
        after = load_registry(config.plugins).source_hash("metric", "digits")
        with pytest.raises(ray_executor.ClusterError) as refused:
            run_config(config, registry, progress=False)
        assert str(refused.value) == (
            f"worker on {host} has other plugins: "
            + "; ".join(
                f"{name} is of plugin orders, source {after} (here it is of plugin orders, source {before})"
                for name in ("task 'one'", "task 'two'", "metric 'digits'")
            )
            + f"; give every node the same plugins; {standing}"
        )
        broken = tmp_path / "broken" / "skillneurons"
        broken.mkdir(parents=True)
        (broken / "__init__.py").write_text("raise ImportError('not whole')")
        with monkeypatch.context() as patch:
            patch.setattr(ray_executor.Crew, "environment", lambda *_: {"PYTHONPATH": str(broken.parent)})
            assert refusal(place, cluster.address, one) == (
                f"ClusterError: a worker cannot begin: ImportError: not whole; install skillneurons {here['skillneurons']} "
                f"with Ray on every node: pip install 'skillneurons[ray]=={here['skillneurons']}'; {standing}"
            )
        assert list((place / "runs").rglob("*.*")) == []  # neither locks nor cells nor probes
    finally:
        ray.shutdown()


def test_what_no_node_has_is_refused_before_anything_starts(cluster: Any, tmp_path: Path) -> None:
    told = refusal(prepared(tmp_path), cluster.address, ["executor.gpus=1"])
    node = f"{os.uname().nodename} 1 CPUs, 0 GPUs, "
    assert told.startswith(f"ClusterError: no node of the cluster can hold a worker (1 CPUs, 1 GPUs): {node}")
    assert "; lower executor.cpus, executor.gpus or executor.memory_gb; 0 of 4 cells are finished and saved" in told
    assert told.count(node) == 2


def test_a_cluster_without_room_is_given_up(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    ray.init(cluster.address, log_to_driver=False, logging_level="CRITICAL")
    try:
        taken = [ray.remote(threading.Event).options(num_cpus=1).remote() for _ in range(2)]
        ray.get([one.is_set.remote() for one in taken])
        monkeypatch.setattr(ray_executor, "PLACED_WITHIN", 1.0)
        told = refusal(prepared(tmp_path), cluster.address)
    finally:
        ray.shutdown()
    assert told.startswith("ClusterError: no worker could be placed for 1 seconds; the cluster has ")
    assert told.endswith(", or others use it; 0 of 4 cells are finished and saved, the same command goes on from there")


def test_the_shards_of_a_pass_run_on_workers_together(cluster: Any, tmp_path: Path) -> None:
    places = [prepared(tmp_path / name) for name in ("here", "there")]
    (places[1] / "kill-one-1").touch()  # leader or helper, whoever comes first
    shards = ["executor.shards=2", "attribution.batch_size=8", "causal.enabled=false"]
    for place, address in zip(places, (None, cluster.address), strict=True):
        assert run(place, address, more=shards).failed == 0
    here, there = (contents(place / "runs") for place in places)
    assert here == there and any(name.startswith("cells/") for name in here)
    assert not list(places[1].glob("kill-*"))
    assert len((places[1] / "measured").read_text().split()) >= 3  # processes: the killed one, and two together


LONG = ("prompt.steps=600", "prompt.eval_every=100000", "causal.enabled=false")


def start(place: Path, kept: str) -> subprocess.Popen[str]:
    """Start a run in a process and a cluster of its own, whose files are kept in a folder with a short name."""
    settings = [part for one in (*SETTINGS, *LONG, "executor.workers=1") for part in ("--set", one)]
    asked = ["run", str(place / "config.yaml"), "-m", "pocket-small", "-p", str(place / "orders.py"), *settings]
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell may have it ignored
    main = f"{heard}import sys; from skillneurons.cli import main; sys.exit(main())"
    asked += ["-o", str(place / "runs"), "--device", "cpu", "--executor", "ray"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", main, *asked],
        env={**environ, "OMP_NUM_THREADS": "1", "TMPDIR": kept, "HOME": kept},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_run_that_is_stopped_or_killed_leaves_no_cluster_and_goes_on(tmp_path: Path) -> None:
    place, kept = prepared(tmp_path / "stopped"), tempfile.mkdtemp(prefix="s")
    (place / "config.yaml").write_text("tasks: [one, two]\nmetrics: [labels, digits]\n")
    (place / "often").touch()

    def written() -> list[int]:
        return [path.stat().st_mtime_ns for path in place.glob("runs/checkpoints/[!.]*.safetensors")]

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        before = written()
        with start(place, kept) as running:
            try:
                until(lambda before=before: written() != before)  # type: ignore[misc]
                heads = [command for command in commands().values() if b"gcs_server" in command]
                assert any(b"--node-ip-address=127.0.0.1" in command for command in heads)  # nobody else comes in
                # a terminal tells all, Ray's processes too, of Ctrl-C; others end the command alone
                os.killpg(running.pid, number) if number == signal.SIGINT else os.kill(running.pid, number)
                out, err = running.communicate(timeout=240)
            finally:
                running.kill()
        until(lambda: not worker_processes())
        assert running.returncode == code and out == ""
        assert len(written()) == 1 and not (Path(kept) / ".ray").exists()
        if number == signal.SIGKILL:
            break
        first, second = err.splitlines()
        assert first.startswith("skillneurons: interrupted; 0 of 4 cells are finished and saved; the tuning of one-")
        assert first.endswith(" goes on from its checkpoint")
        assert second.startswith("skillneurons: continue with: skillneurons run")
        assert not (place / "runs" / "locks").exists()
        assert list(Path(kept).glob("skill-*")) == []  # nothing of the cluster
    (place / "often").unlink()  # this process is not to write so often
    whole = prepared(tmp_path / "whole")
    assert run(place, more=LONG).failed == run(whole, more=LONG).failed == 0
    assert contents(place / "runs") == contents(whole / "runs")
    shutil.rmtree(kept)  # with what a killed process cannot remove
