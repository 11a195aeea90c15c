"""Cells and what stands beside each: its pass, its cards, the record of its run."""

from __future__ import annotations

from skillneurons.chart import CELL, RECORD, Chart, KnownCell
from skillneurons.file_faults import LARGEST_TEXT, told
from skillneurons.kept_faults import card_fault, run_record_fault, unlike_cell
from skillneurons.pass_faults import EXAMPLES_AND_SCORES, OPTIONAL, pass_fault
from skillneurons.results import DamagedCell, Result, load_cell
from skillneurons.run_files import KEY, Entry
from skillneurons.staleness import Staleness

AGAIN = "--mend sets it aside, and a run measures it again"
WITH_CELL = "--mend sets it aside with its cell, and a run measures both again"
CARDS_ALONE = (
    "--mend sets it aside alone: the cell stays and has no neuron cards; delete the cell to have them made with it anew"
)
NO_BOARD = "no board shows it"
UNSHOWN = "examples and the scores of every neuron cannot be shown or paired"


def examine_cells(chart: Chart, staleness: Staleness) -> None:
    """Read every cell once, with what stands beside it."""
    for name, _ in chart.entries("cells"):
        if name.endswith(CELL) and not name.endswith(RECORD) and not name.startswith("."):
            chart.names.add(name.removesuffix(CELL))
    for name, entry in chart.entries("cells"):
        path = f"cells/{name}"
        if name.endswith(RECORD):
            _record(chart, name.removesuffix(RECORD), path, entry)
        elif name.removesuffix(CELL) not in chart.names or entry.kind in ("link", "other"):
            chart.unknown(path, entry)
        else:
            _cell(chart, staleness, name.removesuffix(CELL), path, entry)


def _cell(chart: Chart, staleness: Staleness, key: str, path: str, entry: Entry) -> None:
    loaded = _loaded(chart, path, entry)
    if isinstance(loaded, Result):
        chart.cells[key] = KnownCell(loaded.status == "ok", loaded.prompt, loaded.pass_)
    if chart.in_hand(key):
        return
    if isinstance(loaded, Result):
        for one in staleness.of(loaded, path):
            chart.say(one.kind, one.path, one.what, one.remedy)
        _prompt_of(chart, loaded, path)
        shape = _pass_of(chart, loaded, path)
        _cards_of(chart, loaded, shape)
        if key + RECORD not in chart.files.sections["cells"]:
            what = "it has no run record, so times, versions and machine are not known"
            chart.say("remark", path, what, "none is needed for a board")
    elif (chart.files.root / path).exists():  # else it went meanwhile: somebody works here
        chart.refused(path, loaded, NO_BOARD, AGAIN, chart.aside([], path, names=[key]))


def _loaded(chart: Chart, path: str, entry: Entry) -> Result | str:
    """Return the cell of a file, or what is wrong with it."""
    if entry.kind == "folder":
        return "it is a folder, not a file"
    if not entry.size:
        return "it is empty (0 bytes)"
    if entry.size > LARGEST_TEXT:
        return f"it has {entry.size} bytes: no cell is that large"
    loaded = load_cell(chart.files.root / path)
    if isinstance(loaded, DamagedCell):
        return told(loaded.reason)
    return loaded


def _prompt_of(chart: Chart, cell: Result, path: str) -> None:
    """Check that the prompt of a finished cell is there and the one that its settings ask for.

    A cell whose prompt is not there stands: a run that needs the prompt tunes it again.
    """
    if cell.prompt is None or cell.status != "ok":
        return
    if not KEY.fullmatch(cell.prompt):
        what = f"it names {told(repr(cell.prompt))} as its prompt, which is no name of a prompt"
        chart.say("damaged", path, what, AGAIN, chart.aside([cell.key]))
        return
    prompts = chart.files.sections.get("prompts")
    if prompts is None:
        what = "its prompt is not kept here (no folder prompts/), so a run with other metrics tunes it again"
        chart.say("remark", path, what)
    elif cell.prompt not in prompts:
        what = f"its prompt {cell.prompt} is not there; the cell stands"
        chart.say("remark", path, what, "a run that needs the prompt, for another metric say, tunes it again")
    elif cell.prompt in chart.prompts:
        chart.unlike.setdefault(cell.prompt, {})[cell.key] = unlike_cell(chart.prompts[cell.prompt], cell)


def _pass_of(chart: Chart, cell: Result, path: str) -> tuple[int, ...] | None:
    """Check the pass of a cell; return the shape of its scores."""
    if cell.pass_ is None:
        return None
    passes = chart.files.sections.get("passes")
    if passes is None:
        what = (
            "its pass is not kept here (no folder passes/), so examples and the scores of every neuron cannot be shown"
        )
        chart.say("remark", path, what)
        return None
    entry = passes.get(cell.pass_) if KEY.fullmatch(cell.pass_) else None
    if entry is None:
        what = f"its pass {told(cell.pass_)} is not there, so examples and the scores of every neuron cannot be shown"
        chart.say("damaged", path, what, AGAIN, chart.aside([cell.key]))
        return None
    place = f"passes/{cell.pass_}"
    shape = None
    if entry.kind == "file":
        fault = "it is a file, not a folder"
    elif entry.kind == "folder":
        entries = chart.files.within(place)
        fault, shape = pass_fault(chart.files.root / place, entries, cell, chart.deep)
        absent = [name for name in OPTIONAL if name not in entries]
        if absent and not fault:
            what = f"it has no {' and no '.join(absent)}, so less of it can be shown"
            chart.say("remark", place, what, "a run into an empty folder makes it")
        for name in sorted(set(entries) - {*EXAMPLES_AND_SCORES, *OPTIONAL}):
            chart.unknown(f"{place}/{name}", entries[name])
    else:
        return None  # told with the passes
    if fault:
        chart.refused(place, fault, UNSHOWN, WITH_CELL, chart.aside([cell.key], place))
    return shape


def _cards_of(chart: Chart, cell: Result, shape: tuple[int, ...] | None) -> None:
    name = cell.key + CELL
    cards = chart.files.sections.get("cards")
    entry = (cards or {}).get(name)
    tested = ((cell.causal or {}).get("columns") or {}).values()
    if (
        cards is not None
        and entry is None
        and (cell.config.get("causal") or {}).get("cards")
        and any(one.get("doses") for one in tested)
    ):
        chart.say("remark", f"cells/{name}", "it has no neuron cards", "delete the cell to have them made with it anew")
    if entry is None or entry.kind in ("link", "other"):
        return
    path = f"cards/{name}"
    fault = card_fault(chart.files.root / path, cell, shape) if entry.kind == "file" else "it is a folder, not a file"
    if fault:
        chart.refused(path, fault, "its neurons have no cards", CARDS_ALONE, chart.aside([], path, names=[cell.key]))


def _record(chart: Chart, key: str, path: str, entry: Entry) -> None:
    """Check the record of a run."""
    if entry.kind in ("link", "other"):
        chart.unknown(path, entry)
        return
    if chart.in_hand(key):
        return
    mend = chart.aside([], path, names=[key])
    if key not in chart.names:
        what = "the record of a run whose cell is not there"
        chart.say("orphaned", path, what, "--mend sets it aside", mend)
        return
    fault = run_record_fault(chart.files.root / path) if entry.kind == "file" else "it is a folder, not a file"
    if fault:
        what = f"{fault}; times, versions and machine of this run are not known, its cell stands"
        chart.say("damaged", path, what, "--mend sets it aside", mend)
