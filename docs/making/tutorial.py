"""Run the tutorial as a reader would: every command in order, in one shell, in an empty folder.

A ``bash`` fence of the page is run as it stands; a command that fails ends it. A line ``# -> text`` says what
the commands of its fence print: each such text must occur in the fence's output, in this order, whatever the white space. A fence with
``title="FILE"`` is written to that file when its turn comes. Other fences are for reading.

The commands run in a virtual environment of their own, which sees the packages of the environment that runs this
and can change none of them. pip asks no index.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import time
import venv
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "tutorial.md"
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
PROMISE = re.compile(r"^# -> (.*)$", re.MULTILINE)
MARK = "@@ fence on line "
LIMIT = 540  # seconds, of all commands together: what hangs is ended


@dataclass(frozen=True)
class Step:
    """A fence of the page: the line it stands on, its text, and the file it is written to (empty: it is run)."""

    line: int
    code: str
    file: str = ""

    @property
    def promised(self) -> list[str]:
        """The texts that its commands print."""
        return [" ".join(found.split()) for found in PROMISE.findall(self.code)]


@dataclass(frozen=True)
class Told:
    """What came of it: the output by the line of each fence, the exit code, and the seconds it took."""

    outputs: dict[int, str]
    code: int
    seconds: float


def steps(text: str) -> list[Step]:
    """Return what there is to do on a page, in order."""
    found = []
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        title = re.search(r'title="([^"]+)"', fence["info"])
        if title:
            found.append(Step(line, fence["code"], title[1]))
        elif fence["info"].split()[:1] == ["bash"]:
            found.append(Step(line, fence["code"]))
    return found


def script(todo: list[Step]) -> str:
    """Return one shell script of all steps, which says before each where it stands."""
    lines = ["set -eu"]
    for step in todo:
        lines.append(f"echo; echo '{MARK}{step.line}'")
        if step.file:
            lines.append(f"cat > {shlex.quote(step.file)} <<'END_OF_FILE'\n{step.code}END_OF_FILE")
        else:
            lines.append(step.code)
    return "\n".join(lines) + "\n"


def environment(folder: Path) -> dict[str, str]:
    """Make a virtual environment that borrows the packages of this one; return the variables to use it."""
    venv.create(folder, with_pip=False, symlinks=True)
    inside = sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)})
    places = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    borrowed = "".join(f"import site; site.addsitedir({place!r})\n" for place in places)
    (Path(inside) / "borrowed.pth").write_text(borrowed, encoding="utf-8")
    command = folder / "bin" / "skillneurons"
    command.write_text(
        f"#!{folder / 'bin' / 'python'}\nfrom skillneurons.cli import main\n\nraise SystemExit(main())\n"
    )
    command.chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "PYTEST", "PIP_", "SKILLNEURONS"))
    }
    return {
        **kept,
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder),
        "COLUMNS": "120",
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def run(todo: list[Step], place: Path) -> Told:
    """Run the steps in the folder ``work`` of ``place``; raise subprocess.TimeoutExpired where they take longer than LIMIT seconds."""
    variables = environment(place / "venv")
    work = place / "work"
    work.mkdir()
    started = time.monotonic()
    done = subprocess.run(  # noqa: S603 - the page's own commands
        ["bash", "-c", script(todo)],  # noqa: S607
        cwd=work,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    outputs = {}
    for part in done.stdout.split(f"\n{MARK}")[1:]:
        line, _, output = part.partition("\n")
        outputs[int(line)] = output
    return Told(outputs, done.returncode, time.monotonic() - started)


def faults(todo: list[Step], told: Told) -> list[str]:
    """Return what did not come out as the page says: the command that failed, and texts that were not printed."""
    found = []
    if told.code:
        last = max(told.outputs, default=0)
        found.append(f"line {last}: exit code {told.code}: {told.outputs.get(last, '')}")
    for step in todo:
        output = " ".join(told.outputs.get(step.line, "").split())
        place = 0
        for text in step.promised:
            at = output.find(text, place)
            if at < 0:
                found.append(f"line {step.line}: {text!r} is not in the output: {told.outputs.get(step.line, '')}")
                break
            place = at + len(text)
    return found


def main(place: str) -> int:
    """Run the tutorial in an empty folder; print its outputs and the time it took."""
    todo = steps(PAGE.read_text(encoding="utf-8"))
    told = run(todo, Path(place).resolve())
    for line, output in told.outputs.items():
        print(f"--- tutorial.md:{line}\n{output}")
    wrong = faults(todo, told)
    print("\n".join([*wrong, f"{len(told.outputs)} of {len(todo)} steps, {told.seconds:.0f} s"]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
