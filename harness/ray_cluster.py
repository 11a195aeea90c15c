"""The Ray cluster of a run: joined at its address, or started on this machine and ended with the run.

Ray says nothing on the terminal meanwhile, and this process's signals stay its own. A cluster of one's own has no dashboard, sends no
usage statistics (unless RAY_USAGE_STATS_ENABLED says so), listens on this machine alone and keeps its files in a folder that goes with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TextIO

from skillneurons.errors import ClusterError
from skillneurons.interruption import SIGNALS
from skillneurons.ray_address import cluster_address, fault_of
from skillneurons.settings import ExecutorSettings

OBJECTS = 100 << 20  # bytes of Ray's object store where only short texts travel; arrays of shards have what Ray gives
LONGEST_FOLDER = 25  # characters of a place for temporary files: the paths of sockets have 107 at most
RAYS_TALK = "ray_listen_error_messages"  # the thread that prints what happens to workers on standard output


@dataclass(frozen=True)
class Node:
    """A machine of the cluster with what it has in all: CPUs, GPUs, bytes of memory."""

    host: str
    resources: Mapping[str, float]

    def __str__(self) -> str:
        cpus, gpus, memory = (self.resources.get(name, 0.0) for name in ("CPU", "GPU", "memory"))
        return f"{self.host} {cpus:g} CPUs, {gpus:g} GPUs, {memory / 1e9:.1f} GB"


def needed(settings: ExecutorSettings) -> dict[str, float]:
    """Return what one worker takes of a node."""
    need = {"CPU": settings.cpus, "GPU": settings.gpus, "memory": (settings.memory_gb or 0) * 1e9}
    return {name: amount for name, amount in need.items() if amount}


def room(node: Mapping[str, float], need: Mapping[str, float]) -> int:
    """Return how many workers fit into resources."""
    return min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in need.items())


def n_workers(
    settings: ExecutorSettings, nodes: list[Node], free: Mapping[str, float], units: int, placed: int = 0
) -> int:
    """Return how many workers a run has, ``placed`` of them already; raise ClusterError where no node can hold one."""
    need = needed(settings)
    places = sum(room(node.resources, need) for node in nodes)
    if not places:
        wanted = f"{settings.cpus:g} CPUs, {settings.gpus:g} GPUs" + (
            f", {settings.memory_gb:g} GB" if settings.memory_gb else ""
        )
        raise ClusterError(
            f"no node of the cluster can hold a worker ({wanted}): {'; '.join(map(str, nodes)) or 'it has no nodes'}; lower "
            "executor.cpus, executor.gpus or executor.memory_gb"
        )
    most = min(places, placed + room(free, need)) if settings.workers == "auto" else settings.workers
    return max(1, min(most, units))


def unused_gpus(settings: ExecutorSettings, device: str, nodes: list[Node]) -> str:
    """Return that the cluster has GPUs which no worker is given, empty where it has none or none are wanted."""
    gpus = sum(node.resources.get("GPU", 0.0) for node in nodes)
    if not gpus or settings.gpus or device == "cpu":
        return ""
    return f"workers compute on CPUs: executor.gpus is 0, and the cluster has {gpus:g} GPUs; give each worker some with executor.gpus"


class RayCluster:
    """While it is entered this process is part of the cluster."""

    def __init__(self, settings: ExecutorSettings) -> None:
        self._settings = settings
        self._end = contextlib.ExitStack()

    def __enter__(self) -> RayCluster:
        try:
            self._end.enter_context(_quiet())
            self._join()
        except BaseException:
            self._end.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def fault(self) -> str:
        """Return that the head of the cluster does not answer, with its address and why; empty where it does."""
        import ray

        address = str(ray.get_runtime_context().gcs_address)
        told = fault_of(address)
        return f"{address}: {told}" if told else ""

    def _join(self) -> None:
        address = self._settings.address
        if address is not None:
            address = cluster_address(address)
        import ray

        if ray.is_initialized():  # by who calls us from Python: it is theirs, and stays
            here = ray.get_runtime_context().gcs_address
            if address not in (None, here):
                raise ClusterError(
                    f"this process is part of the Ray cluster at {here}; call ray.shutdown() to join {address}"
                )
            return
        given: dict[str, Any] = {"address": address}
        if address is None:
            self._end.enter_context(_alone())
            given = {"address": "local", "include_dashboard": False}
            if self._settings.shards == 1:
                given["object_store_memory"] = OBJECTS
            given["_temp_dir"] = folder = _folder()
            self._end.callback(shutil.rmtree, folder, ignore_errors=True)
        self._end.callback(ray.shutdown)
        try:
            with _own_signals():
                ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **given)
        except Exception as error:  # whatever Ray gives up with
            told = " ".join(str(error).split())[:300]
            what = f"joining the Ray cluster at {address}" if address else "starting a Ray cluster on this machine"
            raise ClusterError(f"{what} failed: {type(error).__name__}: {told}") from error

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive."""
        import ray

        return [Node(str(node["NodeManagerHostname"]), node["Resources"]) for node in ray.nodes() if node["Alive"]]

    def free(self) -> Mapping[str, float]:
        """Return what is not in use now, of all nodes together."""
        import ray

        found: Mapping[str, float] = ray.available_resources()
        return found


def _folder() -> str:
    """Return a new folder for what Ray keeps, whose name leaves room for those of its sockets."""
    usual = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="skill-", dir="/tmp" if len(usual) > LONGEST_FOLDER else usual)  # noqa: S108  # new, ours


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Have a cluster of one's own listen on this machine's loopback alone (as Ray does on macOS), let nobody in without a token, and tell nobody of it."""
    from ray._private import ray_constants

    with contextlib.ExitStack() as end:
        end.enter_context(_environment("RAY_USAGE_STATS_ENABLED", "0"))
        end.enter_context(_environment(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "0"))  # of its other processes
        if not any(name.startswith("RAY_AUTH_") for name in os.environ):  # else Ray writes one into the home folder
            end.enter_context(_environment("RAY_AUTH_TOKEN", _token()))
            end.callback(os.environ.pop, "RAY_AUTH_MODE", None)  # which Ray sets
        end.callback(setattr, ray_constants, "ENABLE_RAY_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER)
        ray_constants.ENABLE_RAY_CLUSTER = False
        yield


@cache
def _token() -> str:
    """Return what lets into the clusters of this process, which keeps the first one that it has."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for a while, unless it is set."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Put back the handlers that Ray takes for itself."""
    main = threading.current_thread() is threading.main_thread()
    before = {one: signal.getsignal(one) for one in SIGNALS} if main else {}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class _WithoutRay:
    """A stream that drops what the thread of Ray's talk writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return len(text) if threading.current_thread().name == RAYS_TALK else self._stream.write(text)

    def flush(self) -> None:
        if threading.current_thread().name != RAYS_TALK:
            self._stream.flush()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off standard output what Ray tells of workers that died: the run tells it itself."""
    stream: Any = _WithoutRay(sys.stdout)
    with contextlib.redirect_stdout(stream):
        yield
