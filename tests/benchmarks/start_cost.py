"""How long the command takes to start: bare python, the help, and the lists with 0 and with 50 installed plugins.

    python tests/benchmarks/start_cost.py [--plugins 50] [--repeats 15]

The plugins are distributions as pip leaves them (metadata and a package of two modules), each with a metric. All commands run
alternately, after one round that is not counted, with modules compiled as installed; medians (and the smallest) in milliseconds,
and as ratios to bare python. Exit code 1 where a bar is missed: the help takes at most 10 times bare python, `list` with 50 plugins at
most 400 ms where bare python takes 16 ms (25 times).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

METADATA = "Metadata-Version: 2.1\nName: skills-{i}\nVersion: 1.{i}\nRequires-Dist: skillneurons>=0.1\n\nSkills.\n"
PLUGIN = """import skillneurons as sn
from skills_{i}.words import words


@sn.hookimpl
def register_metrics(register):
    register(sn.Metric("words_{i}", words, description="words of the answer"))
"""
WORDS = '''"""How many words an answer has."""


def words(example, output):
    return float(len(output.text.split()))
'''


def write_plugins(site: Path, n: int) -> None:
    """Write n distributions of a plugin each as an installer leaves them."""
    for i in range(n):
        info, package = site / f"skills_{i}-1.{i}.dist-info", site / f"skills_{i}"
        info.mkdir(parents=True)
        package.mkdir()
        (info / "METADATA").write_text(METADATA.format(i=i))
        (info / "entry_points.txt").write_text(f"[skillneurons]\nskills-{i} = skills_{i}\n")
        (package / "__init__.py").write_text(PLUGIN.format(i=i))
        (package / "words.py").write_text(WORDS)


def milliseconds(arguments: Sequence[str], env: Mapping[str, str]) -> float:
    """Return what one start takes."""
    before = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=dict(env), stdout=subprocess.DEVNULL, check=False)
    took = 1000 * (time.perf_counter() - before)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}")
    return took


def main() -> int:
    """Print the table; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        write_plugins(site, asked.plugins)
        # as installed: modules are compiled once, whatever this shell says
        alone = {
            name: text for name, text in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
        }
        many = {**alone, "PYTHONPATH": str(site)}
        command = ["-m", "skillneurons"]
        n = asked.plugins
        rows: dict[str, tuple[list[str], Mapping[str, str]]] = {
            "bare python": (["-c", "pass"], alone),
            "`import pluggy`": (["-c", "import pluggy"], alone),
            "`--help`": ([*command, "--help"], alone),
            "`list metrics`, 0 plugins": ([*command, "list", "metrics"], alone),
            f"`list metrics`, {n} plugins": ([*command, "list", "metrics"], many),
            f"`plugins list --json`, {n} plugins": ([*command, "plugins", "list", "--json"], many),
            "`validate demo`": ([*command, "validate", "demo"], alone),
        }
        listed = subprocess.run(
            [sys.executable, *command, "list", "metrics"], env=many, capture_output=True, text=True, check=False
        )
        if listed.stdout.count("words of the answer") != n or listed.stderr:
            raise SystemExit(f"not all plugins are there: {listed.stderr}")
        took: dict[str, list[float]] = {name: [] for name in rows}
        for number in range(asked.repeats + 1):
            for name, (arguments, env) in rows.items():
                once = milliseconds(arguments, env)
                if number:
                    took[name].append(once)
    bare = statistics.median(took["bare python"])
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, python {platform.python_version()}, {asked.repeats} repeats\n")
    print("| start | ms, median (smallest) | of bare python |\n|---|---|---|")
    for name, times in took.items():
        median = statistics.median(times)
        print(f"| {name} | {median:.0f} ({min(times):.0f}) | {median / bare:.1f} |")

    over = [
        f"{name} takes {statistics.median(took[name]) / bare:.1f} times bare python; the bar is {most}"
        for name, most in (("`--help`", 10), (f"`list metrics`, {n} plugins", 25))
        if statistics.median(took[name]) > most * bare
    ]
    print("\n".join(["", *over]) if over else "\nevery bar is met")
    return bool(over)


if __name__ == "__main__":
    sys.exit(main())
