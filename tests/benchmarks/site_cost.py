"""The static site of many cells, as the command: from nothing, and again where nothing changed.

    python tests/benchmarks/site_cost.py [--cells 1000] [--repeats 3]

Invented cells with all that a page shows: scores of 24 x 5,504 neurons (Qwen1.5-1.8B), kept activations, two neuron cards,
a steering curve; ten models, three seeds. Beside it, in the same run, the plain way to pages: pandas' ``to_html`` of each cell's
columns and neurons, without any figure. Medians and the smallest of the repeats in seconds, peak memory of the process, and
whether torch was imported.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors.numpy import save

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_cells import synthetic_cell

SHAPE, ROWS = (24, 5504), 600
STEERED = {
    **{
        "alphas": [-4.0, -2.0, 0.0, 2.0, 4.0],
        "followed": "metric",
        "trend": "rising",
        "metric": [0.2, 0.4, 0.5, 0.6, 0.8],
    },
    **{
        "log_prob": [-1.0, -0.8, -0.5, -0.6, -0.7],
        "accuracy": [0.5, 0.7, 0.8, 0.7, 0.6],
        "neutral_loss": [2.0, 1.5, 1.0, 1.6, 2.5],
    },
}
EXAMPLE = {
    **{"activation": 1.5, "activations": [0.1 * i for i in range(30)], "attention": [0.03] * 30, "correct": 1.0},
    **{
        "id": "an example",
        "target": "yes",
        "text": "yes",
        "tokens": [f" word{i}" for i in range(30)],
        "attention_reason": "",
    },
}
WORDS = [[f"word{i}", 1.0 - 0.1 * i] for i in range(10)]
CARD = {"vocabulary": {"promoted": WORDS, "suppressed": WORDS}, "highest": [EXAMPLE] * 3, "lowest": [EXAMPLE] * 3}
PLAIN = """
import json, sys
from pathlib import Path
import pandas as pd
runs, out = map(Path, sys.argv[1:])
out.mkdir()
for path in sorted((runs / "cells").iterdir()):
    cell = json.loads(path.read_text())
    pages = [pd.DataFrame([{k: v for k, v in one.items() if k not in ("top", "above", "resamples")} for one in cell["columns"].values()]).to_html()]
    pages += [pd.DataFrame(one["top"]).to_html() for one in cell["columns"].values()]
    (out / f"{path.stem}.html").write_text("".join(pages))
"""


def write_runs(runs: Path, n: int) -> None:
    """Write the cells with their passes and cards; every pass has its own scores."""
    for folder in ("cells", "cards"):
        (runs / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(n):
        cell = synthetic_cell(index)
        (column,) = cell["columns"]
        cell["causal"]["columns"][column]["steering"] = STEERED
        cell["n_neurons"] = SHAPE[0] * SHAPE[1]
        best = [[one["layer"], one["neuron"]] for one in cell["columns"][column]["top"][:10]]
        place = runs / "passes" / cell["pass"]
        place.mkdir(parents=True)
        scores = rng.normal(0, 0.1, SHAPE).astype(np.float32)
        values = rng.integers(0, 2, 2 * ROWS).astype(np.float64)
        kept = {
            f"{column}/neurons": np.array(best),
            f"{column}/heldout": rng.normal(size=(ROWS, 10)).astype(np.float32),
        }
        (place / "scores.safetensors").write_bytes(save({column: scores}))
        (place / "neurons.safetensors").write_bytes(save(kept))
        sink = io.BytesIO()
        pd.DataFrame({"split": ["discovery"] * ROWS + ["heldout"] * ROWS, column: values}).to_parquet(sink)
        (place / "examples.parquet").write_bytes(sink.getvalue())
        names = list(dict.fromkeys(f"L{layer:02d}.N{neuron:04d}" for layer, neuron in best))[:2]
        cards = {"quantity": "activation", "columns": {column: dict.fromkeys(names, CARD)}}
        (runs / "cards" / f"{cell['key']}.json").write_text(json.dumps(cards))
        (runs / "cells" / f"{cell['key']}.json").write_text(json.dumps(cell, sort_keys=True, indent=2))


def timed(command: list[str]) -> tuple[float, float]:
    """Return the seconds and the peak memory (MB) of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} failed")
    return seconds, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        runs = root / "runs"
        write_runs(runs, arguments.cells)
        command = [sys.executable, "-m", "skillneurons", "leaderboard", str(runs), "--format", "html", "-o"]
        measured: dict[str, list[tuple[float, float]]] = {
            "the site": [],
            "again, nothing changed": [],
            "plain tables": [],
        }
        for repeat in range(arguments.repeats):
            out = root / f"out{repeat}"
            measured["the site"].append(timed([*command, str(out)]))
            measured["again, nothing changed"].append(timed([*command, str(out)]))
            measured["plain tables"].append(
                timed([sys.executable, "-c", PLAIN, str(runs), str(root / f"plain{repeat}")])
            )
            if repeat:
                shutil.rmtree(root / f"out{repeat - 1}")
        pages = list(out.rglob("*.html"))
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20
        print(
            f"{platform.machine()}, Python {platform.python_version()}; {arguments.cells} cells: {len(pages)} pages, {size:.0f} MB\n"
        )
        plain = statistics.median(seconds for seconds, _ in measured["plain tables"])
        print("| way | median s | smallest s | / plain tables | peak MB |\n|---|---|---|---|---|")
        for name, pairs in measured.items():
            seconds, peaks = zip(*pairs, strict=True)
            middle = statistics.median(seconds)
            print(f"| {name} | {middle:.2f} | {min(seconds):.2f} | {middle / plain:.2f} | {max(peaks):.0f} |")
        code = "import sys; from skillneurons.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code, *command[3:], str(out)], capture_output=True, check=False)
        print(f"\ntorch imported: {bool(done.returncode)}")


if __name__ == "__main__":
    main()
