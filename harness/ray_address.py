"""Whether a Ray cluster answers at an address, told in seconds: Ray itself waits for minutes.

The head of a cluster speaks gRPC, that is HTTP/2: asked with its preface it answers with a SETTINGS frame (type 4).
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from skillneurons.errors import ClusterError

ANSWERS_WITHIN = 5.0  # seconds, to be connected and again to be answered
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and an empty SETTINGS frame
SETTINGS = 4
REMEDY = (
    "start one there with `ray start --head`, or leave the address out, which starts one on this machine for the run"
)


def cluster_address(address: str, environ: Mapping[str, str] | None = None) -> str:
    """Return HOST:PORT of a cluster that answers; ``auto`` is the one that runs on this machine. Raise ClusterError otherwise."""
    place = _running_here(os.environ if environ is None else environ) if address == "auto" else address
    host, colon, port = place.rpartition(":")
    if not colon or not host or "/" in host or not (port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
        given = f"executor.address {address!r}" if place == address else f"executor.address 'auto': {place!r}"
        raise ClusterError(f"{given} is no address of a Ray cluster; write HOST:PORT, or auto")
    fault = fault_of(place)
    if fault:
        told = place if address != "auto" else f"{place} (auto)"
        raise ClusterError(f"no Ray cluster answers at {told}: {fault}; {REMEDY}")
    return place


def _running_here(environ: Mapping[str, str]) -> str:
    """Return the address that Ray itself notes for those that come later."""
    given = environ.get("RAY_ADDRESS", "")
    if given and given not in ("auto", "local"):
        return given
    folder = environ.get("RAY_TMPDIR") or ("/tmp" if os.name == "posix" else tempfile.gettempdir())  # noqa: S108  # as Ray does
    try:
        return (Path(folder) / "ray" / "ray_current_cluster").read_text("utf-8").strip()
    except OSError:
        raise ClusterError(f"executor.address 'auto': no Ray cluster runs on this machine; {REMEDY}") from None


def fault_of(place: str) -> str:
    """Return why no head of a cluster is at HOST:PORT, empty where one answers."""
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN) as there:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return ""  # what it says is encrypted: Ray itself has to tell
            there.sendall(PREFACE)
            answer = there.recv(9)
    except TimeoutError:
        return f"nothing within {ANSWERS_WITHIN:.0f} seconds"
    except ValueError:
        return "no host can have that name"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if len(answer) < 4 or answer[3] != SETTINGS:
        return "something else listens there"
    return ""
