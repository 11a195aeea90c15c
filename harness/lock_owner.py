"""Who holds a lock: a process, told apart from every other, and whether it is still there."""

from __future__ import annotations

import json
import os
import platform
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TOKENS: set[str] = set()  # of the locks that this process has in use


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: ``machine`` tells machines (and containers) apart, ``begun`` a process from a later one of the same number."""

    host: str
    machine: str
    pid: int
    begun: str
    token: str
    since: str

    @property
    def label(self) -> str:
        """Return where it runs: ``host:pid``."""
        return f"{self.host}:{self.pid}"


def this_process() -> Owner:
    """Return who this process is, with a new token."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Owner(platform.node(), _machine(), os.getpid(), _begun(os.getpid()) or "", uuid.uuid4().hex, since)


@cache
def _machine() -> str:
    """Return what is the same for processes that can see each other: boot and process namespace, else the host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return platform.node()


def _begun(pid: int) -> str | None:
    """Return when a process began, in the kernel's ticks; "" where that is not told, None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return "" if _is_there(pid) else None
    return None if fields[0] in "ZX" else fields[19]  # a killed process waits until its parent has heard of it


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def is_alive(owner: Owner) -> bool | None:
    """Return whether a process is there; None where that cannot be told from here: its heartbeat tells."""
    if owner.machine != _machine() or os.name == "nt":
        return None
    if owner.pid == os.getpid() and owner.begun in ("", _begun(owner.pid)):
        return owner.token in TOKENS  # this process: one that was left behind is nobody's
    begun = _begun(owner.pid)
    if begun is None:
        return False
    if begun and owner.begun:
        return begun == owner.begun
    return None  # a process of this number is there; whether it is the same is not told


def owner_of(data: bytes) -> Owner | None:
    """Return the owner that a lock file tells of; None where it tells of none."""
    try:
        owner = Owner(**json.loads(data))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (owner.host, owner.machine, owner.begun, owner.token, owner.since)
    number = isinstance(owner.pid, int) and not isinstance(owner.pid, bool) and owner.pid > 0
    return owner if number and all(isinstance(text, str) for text in texts) else None
