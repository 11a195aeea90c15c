"""Runs into a bucket, whole, killed and continued, and two at once, in processes forked from one that has everything loaded; what is independent runs at the
same time.

``python store_trials.py FOLDER MODEL SEED KILLS PAIRS`` prints what was found as JSON; the server is that of the environment
(``AWS_ENDPOINT_URL``), and the bucket ``results`` is there. A run dies just before or just after its n-th request to the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import crash_trials
from crash_trials import Moment, contents, log_of, preload, prepared, start, wait

BUCKET = "results"


def client() -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])


def objects(prefix: str) -> dict[str, dict[str, Any]]:
    found = {}
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/"):
        for one in page.get("Contents", ()):
            found[one["Key"].removeprefix(f"{prefix}/")] = one
    return found


def hashes(prefix: str) -> dict[str, str]:
    """Return the hash of every object that must be the same however often a run was killed."""
    asked, found = client(), {}
    for name in objects(prefix):
        if not name.endswith(".run.json"):
            data = asked.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read()
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def finished(prefix: str) -> dict[str, str]:
    """Return version and stamp of every finished cell; raise where an object under a cell's name is no whole cell."""
    from skillneurons.results import Result, parse_cell

    asked, found = client(), {}
    for name, about in objects(prefix).items():
        if name.startswith("cells/") and not name.endswith(".run.json"):
            got = asked.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")
            cell = parse_cell(Path(name), got["Body"].read())
            assert isinstance(cell, Result), f"{name}: {cell}"
            if cell.finished:
                found[name] = f"{got['VersionId']} {about['ETag']} {about['LastModified']}"
    return found


def count_requests(moment: Moment | None) -> None:
    """Let a forked process die at the request of the moment, and log at its end how many there were."""
    from skillneurons import store

    real, count = store.Store._tried, 0

    def tried(self: Any, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        here = moment is not None and moment.operation == count
        if here and moment is not None and moment.before:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(self, *arguments)
        finally:
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            if moment is None:
                with Path(os.environ["CRASH_LOG"]).open("a") as log:
                    log.write(f"requests {count}\n")

    store.Store._tried = tried  # type: ignore[method-assign]


def begun(folder: Path, model: str, prefix: str, moment: Moment | None = None) -> int:
    real = crash_trials._count_operations

    def counted(_: Moment | None) -> Any:
        count_requests(moment)
        return lambda: 0

    crash_trials._count_operations = counted  # what a forked process does first
    try:
        return start(folder, model, None, f"s3://{BUCKET}/{prefix}")
    finally:
        crash_trials._count_operations = real


def state(folder: Path, prefix: str) -> dict[str, Any]:
    log = log_of(folder)
    keys = [line[1] for line in log if line[0] == "finished"]
    return {
        "contents": hashes(prefix),
        "finished_twice": sorted({key for key in keys if keys.count(key) > 1}),
        "finished": sorted(set(keys)),
        "steps": sum(line[0] == "step" for line in log),
        "runners": len({line[2] for line in log if line[0] == "finished"}),
        "requests": max((int(line[1]) for line in log if line[0] == "requests"), default=0),
        "said": (folder.parent / "out").read_text(),
    }


def kills(place: Path, model: str, moments: Sequence[Moment]) -> list[dict[str, Any]]:
    """Kill a run at each moment, all at the same time, each in a folder of its own, then continue them all."""
    folders = [(prepared(place / f"kill{number}"), f"kill{number}") for number in range(len(moments))]
    begin = [begun(*_of(one, model), moment) for one, moment in zip(folders, moments, strict=True)]
    killed = [wait(child) for child in begin]
    before = [finished(prefix) for _, prefix in folders]
    steps = [sum(line[0] == "step" for line in log_of(folder)) for folder, _ in folders]
    resumed = [wait(child) for child in [begun(*_of(one, model)) for one in folders]]
    found = []
    for i, (folder, prefix) in enumerate(folders):
        after = finished(prefix)
        rewritten = sorted(key for key, stamp in before[i].items() if after.get(key) != stamp)
        about = {"moment": str(moments[i]), "killed": killed[i], "resumed": resumed[i], "rewritten": rewritten}
        found.append({**about, "finished_before": len(before[i]), "steps_before": steps[i], **state(folder, prefix)})
    return found


def _of(one: tuple[Path, str], model: str) -> tuple[Path, str, str]:
    folder, prefix = one
    return folder, model, prefix


def pair(place: Path, model: str, number: int, seconds: float) -> dict[str, Any]:
    folder, prefix = prepared(place), f"pair{number}"
    first = begun(folder, model, prefix)
    time.sleep(seconds)
    second = begun(folder, model, prefix)
    codes = [wait(first), wait(second)]
    return {"codes": codes, **state(folder, prefix)}


def main(place: Path, model: str, seed: int, n: int, pairs: int) -> dict[str, Any]:
    rng = random.Random(seed)
    on_disk, folder = prepared(place / "disk"), prepared(place / "whole")
    children = [start(on_disk, model), begun(folder, model, "whole")]
    codes = [wait(child) for child in children]
    assert codes == [0, 0], [(one.parent / "out").read_text() for one in (on_disk, folder)]
    whole = state(folder, "whole")
    moments = [
        Moment(operation=1 + int(whole["requests"] * (i + rng.random()) / n), before=rng.random() < 0.5)
        for i in range(n)
    ]
    return {
        "disk": contents(on_disk),
        "whole": whole,
        "kills": kills(place, model, moments),
        "pairs": [pair(place / "pair", model, i, 0.4 * i) for i in range(pairs)],
    }


if __name__ == "__main__":
    preload()
    import s3fs  # noqa: F401 - loaded once, and no loop is begun

    found = main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6]))
    print(json.dumps(found))
