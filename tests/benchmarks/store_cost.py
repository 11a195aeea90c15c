"""What a run costs that finds everything finished, in a bucket of an S3 server on this machine beside the same folder on disk.

    python tests/benchmarks/store_cost.py [--cells 1000] [--repeats 5]

The cells are those of ``rerun_cost``. A server in a process of its own (``moto.server``) answers on loopback, behind a door that counts requests. Medians
in seconds and their ratio, by turns on disk and in the bucket; requests of one run, in all and per finished cell. ``torch`` must not be loaded.
"""

from __future__ import annotations

import argparse
import collections
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from rerun_cost import make, timed
from s3_server import ENVIRONMENT, door, s3_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    asked: collections.Counter[str] = collections.Counter()

    def counted(request: Any) -> None:
        asked["LIST" if request.command == "GET" and "list-type=2" in request.path else request.command] += 1

    with tempfile.TemporaryDirectory(prefix="skillneurons-") as place, s3_server() as server:
        on_disk = make(Path(place), options.cells)
        in_store = [*on_disk[:-1], "s3://bucket/runs"]
        server.bucket("bucket")
        for path in sorted((Path(place) / "runs").rglob("*.json")):
            name = path.relative_to(place).as_posix()
            server.client.put_object(Bucket="bucket", Key=name, Body=path.read_bytes())
        os.environ.update({**ENVIRONMENT, "AWS_ENDPOINT_URL": server.endpoint})
        times: dict[str, list[float]] = {"disk": [], "store": []}
        first = {"disk": timed(on_disk)[0], "store": timed(in_store)[0]}
        timed(in_store)  # whatever was too young to be believed is known now
        for _ in range(options.repeats):
            for name, arguments in (("disk", on_disk), ("store", in_store)):
                seconds, heavy = timed(arguments)
                times[name].append(seconds)
                if heavy:
                    raise SystemExit("torch was loaded")
        with door(server, counted) as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            timed(in_store)
    disk, store = (statistics.median(times[name]) for name in ("disk", "store"))
    whole = sum(asked.values())
    print(
        f"Python {platform.python_version()}, {options.cells} finished cells, {options.repeats} repeats, medians in seconds"
    )
    print(f"  first run   disk {first['disk']:.2f}, bucket {first['store']:.2f} (reads every cell, compiles the table)")
    print(f"  run again   disk {disk:.2f}, bucket {store:.2f}, ratio {store / disk:.2f}; torch not loaded")
    told = ", ".join(f"{n} {name}" for name, n in sorted(asked.items()))
    print(f"  requests    {whole} ({told}): {whole / options.cells:.3f} per finished cell")


if __name__ == "__main__":
    main()
