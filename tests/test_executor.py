"""What surrounds a cluster and can be tested without one: settings, addresses, room, who does what next, what is installed."""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray_trials import SETTINGS, arguments, contents, prepared, run
from skillneurons import fingerprint, ray_address, ray_executor
from skillneurons.cli import main
from skillneurons.config import load_config
from skillneurons.errors import ClusterError, ConfigError
from skillneurons.interruption import Interrupted, Interruption
from skillneurons.locks import Locks
from skillneurons.ray_address import cluster_address
from skillneurons.ray_cluster import Node, n_workers, unused_gpus
from skillneurons.ray_crew import Crew, Event, cannot_import, cause_of
from skillneurons.ray_request import check_prepared
from skillneurons.ray_worker import RayWorker
from skillneurons.registry import load_registry
from skillneurons.results import open_folder
from skillneurons.schedule import Job, Schedule, cost_of
from skillneurons.settings import ExecutorSettings
from skillneurons.store_locks import shelf_of
from skillneurons.worker_display import WorkerDisplay


def faults(*overrides: str, **given: Any) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(tasks=["hans"], blank=True, overrides=overrides, **given)
    return str(error.value)


def test_who_does_the_work_is_no_part_of_a_result(tmp_path: Path) -> None:
    from skillneurons.plan import settings_of

    ray = load_config(tasks=["hans"], blank=True, executor="ray", address="head:6379", overrides=["executor.gpus=0.5"])
    assert (ray.executor.kind, ray.executor.address, ray.executor.workers) == ("ray", "head:6379", "auto")
    assert settings_of(ray) == settings_of(load_config(tasks=["hans"], blank=True))


def test_settings_that_do_not_go_together_are_refused() -> None:
    assert faults(address="head:6379") == (
        "command line: executor.address: 'head:6379' is of a Ray cluster, but executor.kind is 'local'; write ray there"
    )
    assert faults(executor="ray", address="ray://head:10001") == (
        "command line: executor.address: 'ray://head:10001' is of a Ray client, which does not see the run folder that the "
        "workers see; run on a node of the cluster with auto, or with HOST:PORT of its head (port 6379 unless it was started "
        "with another)"
    )
    assert faults("executor.gpus=1.5", executor="ray") == (
        "--set executor.gpus=1.5: executor.gpus: 1.5 is no number of GPUs: it is a part of one, or whole"
    )
    assert faults(executor="ray", device="cuda") == (
        "command line: executor.gpus: 0 gives a worker no GPU, but device is 'cuda'; give it one, or leave device at auto"
    )


def test_validate_and_dry_run_need_no_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    place = prepared(tmp_path)
    (place / "config.yaml").write_text("tasks: [one]\nmetrics: [labels]\nexecutor: {kind: ray, shards: 2}\n")
    given = [str(place / "config.yaml"), "-m", "pocket-small", "-p", str(place / "orders.py"), "--set", SETTINGS[2]]
    assert main(["validate", *given, "--address", "auto"]) == 0
    assert main(["run", "--dry-run", *given, "-o", str(tmp_path / "runs")]) == 0
    assert "1 of 1 cells to run" in capsys.readouterr().out


def test_without_ray_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    place = prepared(tmp_path)
    (place / "config.yaml").write_text("tasks: [one]\nmetrics: [labels]\nattribution: {nuisance: []}\n")
    given = [
        str(place / "config.yaml"),
        "-m",
        "pocket-small",
        "-p",
        str(place / "orders.py"),
        "-o",
        str(tmp_path / "runs"),
    ]
    assert main(["run", *given, "--executor", "ray"]) == 2
    told = (
        "skillneurons: error: executor.kind 'ray' needs Ray, which is not installed: pip install 'skillneurons[ray]'\n"
    )
    assert capsys.readouterr().err == told
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("head", "executor.address 'head' is no address of a Ray cluster; write HOST:PORT, or auto"),
        ("head:port", "executor.address 'head:port' is no address of a Ray cluster; write HOST:PORT, or auto"),
        (
            "a:" + "9" * 5000,
            f"executor.address 'a:{'9' * 5000}' is no address of a Ray cluster; write HOST:PORT, or auto",
        ),
        ("head..b:6379", f"no Ray cluster answers at head..b:6379: no host can have that name; {ray_address.REMEDY}"),
        ("auto", f"executor.address 'auto': no Ray cluster runs on this machine; {ray_address.REMEDY}"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError) as refused:
        cluster_address(address, {"RAY_TMPDIR": str(tmp_path)})
    assert str(refused.value) == told


@pytest.fixture
def listening() -> Any:
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        there.listen()
        yield there


def test_an_address_that_does_not_answer_is_told_at_once(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = listening.getsockname()[1]
    monkeypatch.setattr(ray_address, "ANSWERS_WITHIN", 0.2)
    with pytest.raises(ClusterError) as silent:
        cluster_address(f"127.0.0.1:{port}")
    assert str(silent.value).startswith(
        f"no Ray cluster answers at 127.0.0.1:{port}: nothing within 0 seconds; start one"
    )
    listening.close()
    with pytest.raises(ClusterError) as refused:
        cluster_address("auto", {"RAY_ADDRESS": f"127.0.0.1:{port}"})
    assert str(refused.value).startswith(
        f"no Ray cluster answers at 127.0.0.1:{port} (auto): connection refused; start one"
    )


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n", b"\0\0\0\4\0\0\0\0\0"])
def test_who_answers_otherwise_is_no_cluster(listening: socket.socket, answer: bytes, tmp_path: Path) -> None:
    def serve() -> None:
        there, _ = listening.accept()
        with there:
            there.recv(100)
            there.sendall(answer)

    server = threading.Thread(target=serve)
    server.start()
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"{address}\n")
    try:
        if answer.startswith(b"HTTP"):
            with pytest.raises(
                ClusterError, match=f"no Ray cluster answers at {address} \\(auto\\): something else listens there"
            ):
                cluster_address("auto", {"RAY_TMPDIR": str(tmp_path)})
        else:
            assert cluster_address("auto", {"RAY_TMPDIR": str(tmp_path)}) == address
    finally:
        server.join()


def test_a_client_s_address_in_the_environment_is_told_where_it_stands() -> None:
    with pytest.raises(ClusterError) as refused:
        cluster_address("auto", {"RAY_ADDRESS": "ray://head:10001"})
    assert str(refused.value) == (
        "executor.address 'auto': 'ray://head:10001' is no address of a Ray cluster; write HOST:PORT, or auto"
    )


def test_a_run_has_as_many_workers_as_there_is_room_for() -> None:
    nodes = [Node("a", {"CPU": 4.0, "memory": 8e9}), Node("b", {"CPU": 8.0, "GPU": 2.0, "memory": 64e9})]
    free = {"CPU": 12.0, "GPU": 2.0, "memory": 72e9}
    assert n_workers(ExecutorSettings(), nodes, free, 100) == 12
    assert n_workers(ExecutorSettings(), nodes, free, 5) == 5
    assert n_workers(ExecutorSettings(gpus=0.1), nodes, free, 100) == 8  # the CPUs of b
    assert n_workers(ExecutorSettings(cpus=3), nodes, free, 100) == 3
    assert n_workers(ExecutorSettings(memory_gb=16), nodes, free, 100) == 4
    assert n_workers(ExecutorSettings(), nodes, {"CPU": 2.0}, 100) == 2
    assert n_workers(ExecutorSettings(), nodes, {}, 100) == 1  # it waits for its place
    assert n_workers(ExecutorSettings(), nodes, {"CPU": 2.0}, 100, placed=5) == 7  # more where room came to be
    assert n_workers(ExecutorSettings(workers=3), nodes, free, 100) == 3
    with pytest.raises(ClusterError) as refused:
        n_workers(ExecutorSettings(gpus=4, memory_gb=2), nodes, free, 100)
    assert str(refused.value) == (
        "no node of the cluster can hold a worker (1 CPUs, 4 GPUs, 2 GB): a 4 CPUs, 0 GPUs, 8.0 GB; b 8 CPUs, 2 GPUs, 64.0 GB; "
        "lower executor.cpus, executor.gpus or executor.memory_gb"
    )


def test_gpus_that_no_worker_is_given_are_told_of_and_not_used() -> None:
    nodes = [Node("a", {"CPU": 4.0}), Node("b", {"CPU": 8.0, "GPU": 2.0})]
    assert unused_gpus(ExecutorSettings(), "auto", nodes) == (
        "workers compute on CPUs: executor.gpus is 0, and the cluster has 2 GPUs; give each worker some with executor.gpus"
    )
    assert unused_gpus(ExecutorSettings(), "cpu", nodes) == unused_gpus(ExecutorSettings(gpus=1), "auto", nodes) == ""
    assert unused_gpus(ExecutorSettings(), "auto", nodes[:1]) == ""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert Crew.environment(ExecutorSettings(gpus=0.5)) == threads
    assert Crew.environment(ExecutorSettings()) == threads | {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}


class PretendRay:
    """Ray as far as a crew asks it: every question is answered at once, but by the ``dead``."""

    class RayError(Exception):
        pass

    def __init__(self) -> None:
        self.dead, self.hired, self.asked = set[int](), 0, list[tuple[int, str]]()
        self.exceptions = SimpleNamespace(RayError=self.RayError)

    def remote(self, **_: Any) -> Any:
        return lambda _: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._actor))

    def _actor(self) -> Any:
        self.hired += 1
        return PretendActor(self, self.hired)

    def wait(self, asked: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return asked[:num_returns], asked[num_returns:]

    def get(self, asked: tuple[int, str, int], timeout: float | None = None) -> str:
        if asked[0] in self.dead:
            raise self.RayError("its node has died")
        return json.dumps({"told by": asked[0]})

    def kill(self, actor: Any, no_restart: bool) -> None:
        self.dead.add(actor.number)


class PretendActor:
    def __init__(self, ray: PretendRay, number: int) -> None:
        self.ray, self.number = ray, number

    def __getattr__(self, name: str) -> Any:
        def ask(*_: Any) -> tuple[int, str, int]:
            self.ray.asked.append((self.number, name))
            return self.number, name, len(self.ray.asked)

        method = SimpleNamespace(remote=ask)
        method.options = lambda **_: method
        return method


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    monkeypatch.setitem(sys.modules, "ray", PretendRay())  # type: ignore[arg-type]
    made = Crew(ExecutorSettings(), lambda: lambda *_: None)
    for _ in range(3):
        made.hire()
    return made


def test_those_without_work_do_not_hold_up_the_end(crew: Crew) -> None:
    starting, working, helping = crew.workers  # what ``starting`` was asked is answered, and nobody listens any more
    crew.rest(working)
    crew.rest(helping)
    crew.hand(working, job("m", "one"), {}, [helping])
    told = []
    for event in crew.stop(2.0):
        told.append((event.worker, event.what))
        if event.what == "done":
            crew.rest(event.worker)
    assert (working, "done") in told and starting not in [worker for worker, _ in told]


def test_the_idle_of_a_lost_node_are_found_before_a_job_is_lost_with_them(crew: Crew) -> None:
    ray: Any = sys.modules["ray"]
    for worker in crew.workers:
        crew.rest(worker)
    ray.dead.add(2)
    run = ray_executor._RayRun(any_context(), [])
    crew.workers[2].job = lost = job("m", "one")
    ray.dead.add(3)
    run._died(crew, crew.workers[2], Exception("its node has died"))
    assert [worker.number for worker in crew.workers] == [1]
    assert run.schedule.open == [lost] and len(lost.causes) == 1


def test_workers_that_never_begin_end_the_run_with_what_ray_says(crew: Crew) -> None:
    run = ray_executor._RayRun(any_context(), [])
    for worker in crew.workers[:2]:
        run._died(crew, worker, Exception("its runtime environment\n cannot be made"))
    with pytest.raises(ClusterError) as ended:
        run._died(crew, crew.workers[0], Exception("its runtime environment\n cannot be made"))
    one = "a worker ended unexpectedly (killed, or out of memory)"
    assert str(ended.value) == (
        f"workers end before they begin: {one}; {one}; {one}; Ray says: its runtime environment cannot be made"
    )


def any_context() -> Any:
    config = load_config(tasks=["hans"], blank=True)
    return SimpleNamespace(
        config=config,
        notes=[],
        locks=SimpleNamespace(bury=lambda tokens: None),
        interruption=Interruption(),
        display=SimpleNamespace(lane=lambda: lambda *_: None),
    )


def test_a_worker_hears_who_died_while_it_prepared_itself(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    ray: Any = sys.modules["ray"]
    monkeypatch.setattr(ray_executor, "check_prepared", lambda *_: None)
    run, worker = ray_executor._RayRun(any_context(), []), crew.workers[0]
    run._heard(crew, Event(worker, "prepared", {"token": "a"}))
    assert "bury" not in [name for _, name in ray.asked]
    run.dead = ["b"]
    run._heard(crew, Event(worker, "prepared", {"token": "a"}))
    assert ray.asked[-1] == (1, "bury")


def test_an_error_that_ends_the_run_lets_the_others_come_to_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    class Failing(Crew):
        def wait(self, seconds: float) -> Any:
            raise ClusterError("worker on far has other plugins")

        def stop(self, seconds: float) -> Any:
            done.append("stop")
            return iter(())

        def end(self) -> list[str]:
            done.append("end")
            return []

    monkeypatch.setitem(sys.modules, "ray", PretendRay())  # type: ignore[arg-type]
    monkeypatch.setattr(ray_executor, "Crew", Failing)
    run = ray_executor._RayRun(any_context(), [])
    run.schedule.add(job("m", "one"))
    cluster: Any = SimpleNamespace(nodes=lambda: [Node("a", {"CPU": 1.0})], free=lambda: {"CPU": 1.0})
    with pytest.raises(ClusterError, match="other plugins"):
        run._work(cluster)
    assert done == ["stop", "end"]


def test_a_cluster_that_grows_has_more_workers_and_one_without_a_head_is_left(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = ray_executor._RayRun(any_context(), []), [""]
    nodes = [Node("a", {"CPU": 4.0})]
    cluster: Any = SimpleNamespace(fault=lambda: told[0], nodes=lambda: nodes, free=lambda: {"CPU": 2.0})
    for worker in crew.workers[:2]:
        crew.rest(worker)
    assert run._look(crew=crew, cluster=cluster, most=1, jobs=9) == 4  # two that have their place, and room for two
    assert run._look(crew=crew, cluster=cluster, most=1, jobs=3) == 3
    nodes.clear()
    assert run._look(crew=crew, cluster=cluster, most=3, jobs=9) == 3  # it is waited for
    told[0] = "head:6379: connection refused"
    assert run._look(crew=crew, cluster=cluster, most=3, jobs=9) == 3
    monkeypatch.setattr(ray_executor, "HEAD_WITHIN", 0.0)
    with pytest.raises(ClusterError) as lost:
        run._look(crew=crew, cluster=cluster, most=3, jobs=9)
    assert str(lost.value) == (
        "the head of the Ray cluster does not answer any more at head:6379: connection refused; start it again"
    )


def job(model: str, task: str, seed: int = 0, cost: float = 1.0) -> Job:
    return Job((0,), model, task, seed, cost)


def test_a_worker_goes_on_with_what_it_has_loaded() -> None:
    jobs = [
        job("m", "one"),
        job("m", "two", cost=5),
        job("n", "two", cost=9),
        job("m", "one", 1),
        job("m", "two", 1, 5),
    ]
    schedule = Schedule(jobs)
    first = schedule.take(None)
    assert first is jobs[2]  # the largest
    assert schedule.take(None, {("n", "two")}) is jobs[1]
    assert schedule.take(None, {("m", "two")}) is jobs[0]  # what nobody has in hand, before what costs more
    assert schedule.take(jobs[1], {("m", "two")}) is jobs[4]  # the same model and task, whoever else has it
    assert schedule.take(first, ()) is jobs[3] and schedule.take(first, ()) is None
    across = Schedule([job("m", "one"), job("n", "one")])
    assert across.take(job("n", "across tasks")).model == "n"  # type: ignore[union-attr]


def test_answers_that_are_written_cost_more() -> None:
    def unit(kind: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(task=SimpleNamespace(kind=kind), counts={"train": 3, "heldout": 2}))

    assert [cost_of(unit(kind)) for kind in ("choice", "open", "generation")] == [5, 15, 40]


def test_a_job_is_given_out_three_times() -> None:
    mine = job("m", "one")
    seen = []
    for cause in "abc":
        seen.append((mine.last_try, mine.hopeless))
        mine.causes.append(cause)
    assert seen == [(False, False), (False, False), (True, False)] and mine.hopeless


def test_what_is_installed_otherwise_is_named() -> None:
    here = fingerprint.installed()
    other = fingerprint.other_installation
    assert set(here) == {
        "Python",
        "skillneurons",
        fingerprint.SOURCE,
        "torch",
        "transformers",
        "tokenizers",
        "numpy",
    } | {
        "scipy",
        "pyarrow",
    }
    assert other(here, dict(here)) == ""
    assert other(here, {**here, "torch": "2.0", "numpy": "1.0"}) == (
        f"has torch 2.0 (here {here['torch']}), numpy 1.0 (here {here['numpy']}); install the same versions on every node"
    )
    version, source = here["skillneurons"], here[fingerprint.SOURCE]
    assert other(here, {**here, fingerprint.SOURCE: "00"}) == (
        f"has other source files of skillneurons {version} (hash 00, here {source}); install the same skillneurons on every node"
    )
    assert other(here, {**here, "skillneurons": "0.0", fingerprint.SOURCE: "00"}) == (
        f"has skillneurons 0.0 (here {version}); install the same versions on every node"
    )
    assert other(here, {}).startswith("has Python none (here 3.")


def test_a_changed_source_file_gives_another_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("1")
    monkeypatch.setattr(fingerprint, "_sources", lambda: iter([("p/a.py", tmp_path / "a.py")]))
    fingerprint.package_hash.cache_clear()
    before = fingerprint.package_hash()
    (tmp_path / "a.py").write_text("2")
    assert fingerprint.package_hash() == before  # read once: what has been imported does not change
    fingerprint.package_hash.cache_clear()
    assert fingerprint.package_hash() != before
    fingerprint.package_hash.cache_clear()


def test_why_a_worker_died() -> None:
    assert cause_of(Exception("The actor died because its node has died. Node Id: 1")) == "was lost with its node"
    killed = "exited unexpectedly. Some common causes include: (1) the process was killed by the OOM killer"
    assert cause_of(Exception(killed)) == "ended unexpectedly (killed, or out of memory)"
    memory = "Task was killed due to the node running low on memory."
    assert cause_of(Exception(memory)) == "was ended because its node ran out of memory"
    assert cannot_import(Exception("x\n  ModuleNotFoundError: No module named 'skillneurons'\n")) == (
        "ModuleNotFoundError: No module named 'skillneurons'"
    )
    assert cannot_import(Exception(killed)) == ""


def test_an_owner_that_is_known_to_be_dead_holds_nothing_up(tmp_path: Path) -> None:
    with Locks(tmp_path / "locks") as mine, Locks(tmp_path / "locks") as theirs:
        assert theirs.take(["a"]) and not mine.take(["a"])
        mine.bury([theirs.me.token])
        assert mine.take(["a"]) and not theirs.holds("a")


def test_work_is_left_at_its_next_step_and_nowhere_else() -> None:
    interruption = Interruption()
    display = WorkerDisplay(interruption.check)
    with display.work("outer", 3) as outer, display.work("inner", 5) as inner:
        inner(2)
        display.say("a line")
        display.advance_cell()
        assert display.told() == {"lines": ["a line"], "work": ["inner", 2, 5], "cells": 1}
        interruption.request()
        with pytest.raises(Interrupted), interruption.deferred():
            inner(1)  # something is half done
            assert display.told()["work"] == ["inner", 3, 5]
        with pytest.raises(Interrupted):
            outer(1)
    display.begin()
    assert display.told() == {"lines": [], "work": None, "cells": 0}


def prepare(place: Path, locks: Locks, **changed: Any) -> tuple[RayWorker, dict[str, Any]]:
    """Return a worker in this process, and what it found."""
    config = load_config(**arguments(place, more=["causal.enabled=false"]))
    request = {
        "cwd": str(Path.cwd()),
        "folder": str(place / "runs"),
        "driver": locks.me.token,
        "config": config.model_dump(mode="json"),
        "plugins": config.plugins,
        "blocked": ["labels"] if changed.pop("block", False) else [],
        "brought": fingerprint.brought(config, load_registry(config.plugins)),
        "finished": [],
        "planned": {},
        "dead": [],
        "threads": 1,
        **changed,
    }
    worker = RayWorker()
    return worker, json.loads(worker.prepare(json.dumps(request)))


def do(worker: RayWorker, *units: int, across: bool = False, last_try: bool = False) -> dict[str, Any]:
    job = {"units": units, "across": across, "last_try": last_try, "helpers": []}
    return dict(json.loads(worker.run(json.dumps(job))))


def test_a_worker_is_a_runner_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, local = prepared(tmp_path / "worker"), prepared(tmp_path / "local")
    with Locks(place / "runs" / "locks") as locks:
        locks.take(["runner-0"])
        (place / "runs" / "cells").mkdir()
        worker, found = prepare(place, locks)
        assert found["problem"] == "" and [len(keys) for keys in found["units"]] == [2, 2]
        done = do(worker, 0)
        assert (done["ended"], done["notes"], done["unfinished"]) == ("done", [], [])
        assert done["finished"] == found["units"][0] and json.loads(worker.progress())["cells"] == 2
        assert not (place / "log").exists()  # observers are the driver's
        monkeypatch.setattr("skillneurons.unit.write_pass", len)
        failed = do(worker, 1)
        assert (failed["ended"], failed["finished"]) == ("failed", [])
        assert failed["message"] == "TypeError: len() takes exactly one argument (4 given)"
        last = do(worker, 1, last_try=True)
        assert last["ended"] == "done" and last["finished"] == found["units"][1]
        assert last["notes"] == [f"failed: {key}: {failed['message']}" for key in found["units"][1]]
        worker.stop()
        assert do(worker, 1)["ended"] == "stopped"
        worker.close()
        assert [path.name for path in (place / "runs" / "locks").iterdir()] == ["runner-0.1.lock"]
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ray", None)  # which a local run does without
    run(local, more=["causal.enabled=false"])
    here, there = contents(place / "runs"), contents(local / "runs")
    first = [name for name in there if "one-" in name]
    assert len(first) > 5 and all(here[name] == there[name] for name in first)


def test_a_worker_leaves_no_copy_of_a_store_behind(tmp_path: Path) -> None:
    place = prepared(tmp_path)
    folder = open_folder(f"memory://{tmp_path.name}")
    with Locks(shelf_of(folder)) as locks:
        locks.take(["runner-0"])
        worker, found = prepare(place, locks, folder=f"memory://{tmp_path.name}")
        assert found["problem"] == "" and worker._context is not None
        copy = worker._context.folder.root
        assert copy.is_dir() and copy != folder.root
        worker.close()
        assert not copy.exists()


def test_a_worker_says_what_forbids_it_to_work(tmp_path: Path) -> None:
    place = prepared(tmp_path)
    with Locks(place / "runs" / "locks") as locks:
        locks.take(["runner-0"])
        _, elsewhere = prepare(place, locks, folder=str(tmp_path / "elsewhere"))
        assert elsewhere["problem"] == (
            f"does not see {tmp_path / 'elsewhere'}; give a folder that all nodes share, or an object store (-o s3://...)"
        )
        _, without = prepare(place, locks, block=True)
        assert without["plugins"]["metric 'labels'"].startswith("is not there: no metric named 'labels'")
        _, broken = prepare(place, locks, plugins=[str(tmp_path / "gone.py")])
        assert broken["problem"] == (
            f"plugin {str(tmp_path / 'gone.py')!r}: no such file; give a file, a folder or an importable module"
        )


def test_a_worker_answers_for_shards_and_says_what_is_lost(tmp_path: Path) -> None:
    from skillneurons.errors import ShardLost
    from skillneurons.shards import ShardRequest

    with pytest.raises(ShardLost, match="before it is prepared"):
        RayWorker().shard(0, "of")
    place = prepared(tmp_path)
    with Locks(place / "runs" / "locks") as locks:
        locks.take(["runner-0"])
        worker, _ = prepare(place, locks)
        with pytest.raises(ShardLost, match="the rows of that shard are kept no more; run it again"):
            worker.shard(0, "of", 1)
        with pytest.raises(ShardLost, match="nobody can be asked for '_kept' of a shard"):
            worker.shard(0, "_kept")
        columns = {"digits": ("digits",)}
        request = ShardRequest("heldout", 0, 2, None, "append", "input_last", 8, 8, columns=columns, keep_rows=True)
        first = worker.shard(0, "run", request)
        assert 0 < len(first.outputs) == len(first.where) < 20 and first.accumulator is not None
        assert worker.shard(0, "block", first.ticket, 0, 3).shape == (len(first.where), 1, 3)
        worker.shard(0, "release", first.ticket)
        with pytest.raises(ShardLost, match=f"nobody keeps rows under ticket {first.ticket} here"):
            worker.shard(0, "block", first.ticket, 0, 3)
        worker.stop()
        with pytest.raises(ShardLost, match="the worker that ran a shard is to stop"):
            worker.shard(0, "run", request)
        worker.close()


def test_a_worker_with_other_data_is_named(tmp_path: Path) -> None:
    place = prepared(tmp_path)
    with Locks(place / "runs" / "locks") as locks:
        locks.take(["runner-0"])
        worker, found = prepare(place, locks)
        worker.close()
        config = load_config(**arguments(place, more=["causal.enabled=false"]))
        context: Any = SimpleNamespace(config=config, registry=load_registry(config.plugins))
        check_prepared(context, worker._units, "far", found)
        one, two = found["units"]
        with pytest.raises(ClusterError) as refused:
            check_prepared(context, worker._units, "far", {**found, "units": [["one-a", "one-b"], two]})
    assert str(refused.value) == (
        "worker on far has other data of task 'one', or another model 'pocket-small' (cells one-a, one-b, here "
        f"{', '.join(one)}); give every node the same files"
    )
