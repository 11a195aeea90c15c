"""An S3 server on loopback (``moto.server`` in a process of its own), and what a test asks it directly, past our own code.

``door`` stands in front of one that is to misbehave: to refuse, to fall silent, to know no conditional writes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


@dataclass(frozen=True)
class Server:
    """A server that answers at ``endpoint``; ``client`` is boto3's."""

    endpoint: str
    client: Any

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.endpoint}

    def bucket(self, name: str) -> str:
        self.client.create_bucket(Bucket=name)
        return name

    def objects(self, bucket: str, prefix: str = "") -> dict[str, dict[str, Any]]:
        """Return what the server tells of each object, by its key without the prefix."""
        found: dict[str, dict[str, Any]] = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Contents", ()):
                found[one["Key"].removeprefix(prefix)] = one
        return found

    def read(self, bucket: str, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    def contents(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        return {name: self.read(bucket, prefix + name) for name in self.objects(bucket, prefix)}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def s3_server() -> Iterator[Server]:
    """Start a server; it ends with the context."""
    import boto3

    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert child.poll() is None and time.monotonic() < deadline, "the S3 server did not start"
                time.sleep(0.05)
        endpoint = f"http://127.0.0.1:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing-secret",
        )
        yield Server(endpoint, client)
        client.close()
    finally:
        child.kill()
        child.wait()


def use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process, and those it starts, use the server at an endpoint."""
    import s3fs

    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    s3fs.S3FileSystem.clear_instance_cache()


class _Door(ThreadingHTTPServer):
    daemon_threads = True


@contextlib.contextmanager
def door(server: Server, rule: Callable[[BaseHTTPRequestHandler], int | None]) -> Iterator[str]:
    """Stand in front of a server; yield the endpoint.

    ``rule`` sees each request first: it may change its headers, answer with a status of its own, or (0) close the connection.
    """
    import http.client
    from urllib.parse import urlsplit

    behind = urlsplit(server.endpoint)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            body = self._body()
            status = rule(self)
            if status == 0:
                self.close_connection = True
                return
            if status is not None:
                self._answer(status, {}, b"" if self.command == "HEAD" else _ERRORS.get(status, b""))
                return
            there = http.client.HTTPConnection(str(behind.hostname), behind.port)
            hop = ("connection", "transfer-encoding", "expect", "content-length")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
            there.request(self.command, self.path, body, headers)
            got = there.getresponse()
            data = got.read()
            self._answer(got.status, dict(got.getheaders()), data)
            there.close()

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return found

        def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers.items()}.get("content-length", "0")
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    with _Door(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()
            thread.join()


_ERRORS = {
    403: b"<Error><Code>AccessDenied</Code><Message>Access Denied by arn:secret</Message></Error>",
    501: b"<Error><Code>NotImplemented</Code><Message>A header is not implemented</Message></Error>",
    503: b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>",
}
