"""What stands in a runs folder besides cells: prompts, what belongs to no cell, comparisons across tasks, checkpoints, strangers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skillneurons.cell_examination import AGAIN, WITH_CELL
from skillneurons.chart import CELL, Chart
from skillneurons.complaint import Mend
from skillneurons.file_faults import LARGEST_TEXT, told
from skillneurons.kept_faults import PROMPT_FILES, checkpoint_fault, prompt_fault
from skillneurons.pass_faults import pass_fault
from skillneurons.results import BOARD_INDEX
from skillneurons.run_files import BOARDS, KEY, OTHERS, SECTIONS, Entry

TENSORS = ".safetensors"
ASIDE = "--mend sets it aside"


def examine_top(chart: Chart) -> None:
    """Look at what stands at the top: sections that are none, what was set aside, what nobody knows."""
    temporary = {one.path for one in chart.files.temporaries}
    for name, entry in chart.files.top.items():
        if name in SECTIONS and entry.kind != "folder":
            if entry.kind == "link":
                chart.unknown(name, entry)
            else:
                chart.say("damaged", name, "it is no folder, so no run can write here", "move it away")
        elif name not in {*SECTIONS, *OTHERS, *BOARDS, BOARD_INDEX} and name not in temporary:
            chart.unknown(name, entry)
    aside = chart.files.top.get("set-aside")
    if aside is not None and aside.kind == "folder" and chart.files.within("set-aside"):
        chart.say(
            "remark",
            "set-aside",
            "what was set aside before; no run and no board reads it",
            "delete it when it is not needed",
        )
    for name, entry in chart.entries("locks"):
        if not (entry.kind == "file" and name.endswith(".lock") and KEY.fullmatch(name.split(".")[0])):
            chart.unknown(f"locks/{name}", entry)
    for name, entry in chart.files.plots.items():
        if entry.kind == "file" and not entry.size:
            chart.say(
                "damaged",
                f"plots/{name}",
                "it is empty (0 bytes)",
                f"{ASIDE}; `skillneurons plot` draws it again",
                _aside(f"plots/{name}"),
            )


def examine_prompts(chart: Chart) -> None:
    """Read every prompt: what it says of itself, or what is wrong with it."""
    for name, entry in chart.entries("prompts"):
        path = f"prompts/{name}"
        if entry.kind != "folder":
            if KEY.fullmatch(name) and entry.kind == "file":
                chart.prompt_faults[name] = "it is a file, not a folder"
            else:
                chart.unknown(path, entry)
            continue
        entries = chart.files.within(path)
        fault, about = prompt_fault(chart.files.root / path, entries, chart.deep)
        if fault:
            chart.prompt_faults[name] = fault
        else:
            chart.prompts[name] = dict(about)
        for one in sorted(set(entries) - set(PROMPT_FILES)):
            chart.unknown(f"{path}/{one}", entries[one])


def examine_use_of_prompts(chart: Chart) -> None:
    """Complain about damaged prompts, which leave the cells that rest on them, and about whole ones that no cell rests on."""
    users: dict[str, list[str]] = {}
    for key, cell in chart.cells.items():
        if cell.prompt is not None and cell.finished:
            users.setdefault(cell.prompt, []).append(key)
    for name, fault in sorted(chart.prompt_faults.items()):
        if not chart.in_hand(name):
            _damaged_prompt(chart, name, fault, users.get(name, []))
    for name, faults in sorted(chart.unlike.items()):
        if any(faults.values()) and not chart.in_hand(name):
            _prompt_unlike_its_cells(chart, name, faults)
    if chart.locks.at_work or not _knows_all_cells(chart):
        return  # of a run that is at work, or of a cell that cannot be read
    for name in sorted(chart.prompts.keys() - users.keys()):
        what = "no finished cell rests on this prompt: its run was broken off, or its cells are gone"
        chart.say("orphaned", f"prompts/{name}", what, "the run that tuned it goes on from it; else delete it yourself")


def _damaged_prompt(chart: Chart, name: str, fault: str, cells: Sequence[str]) -> None:
    path, remedy = f"prompts/{name}", f"{ASIDE}; a run tunes it again"
    rests = "no cell rests on it"
    if cells:
        rests = f"{len(cells)} cell{'s rest' if len(cells) > 1 else ' rests'} on it and stand{'s' * (len(cells) == 1)}"
        remedy = f"{ASIDE} alone; the next run that needs it tunes it again"
    chart.say("damaged", path, f"{fault}; {rests}", remedy, chart.aside([], path, names=[f"prompt-{name}"]))


def _prompt_unlike_its_cells(chart: Chart, name: str, faults: Mapping[str, str]) -> None:
    """Complain about the cells that do not fit a prompt which others fit; about the prompt where no cell fits it.

    Where there is one cell it cannot be told which of the two is wrong, so both are.
    """
    unlike = {key: fault for key, fault in faults.items() if fault}
    if len(unlike) == len(faults) > 1:
        _damaged_prompt(chart, name, next(iter(unlike.values())), list(unlike))
        return
    for key, fault in unlike.items():
        what, remedy, mend = f"its prompt {name} does not fit it: {fault}", AGAIN, chart.aside([key])
        if len(faults) == 1:
            mend = chart.aside([key], f"prompts/{name}", names=[f"prompt-{name}"])
            remedy = "--mend sets both aside, and a run makes both again"
        chart.say("damaged", f"cells/{key}{CELL}", what, remedy, mend)


def _knows_all_cells(chart: Chart) -> bool:
    return chart.names == chart.cells.keys() and not ("cells" in chart.files.top and not chart.files.has("cells"))


def examine_belongings(chart: Chart) -> None:
    """Complain about passes and cards without their cell."""
    used = {cell.pass_ for cell in chart.cells.values()}
    hidden = "cells" in chart.files.top and not chart.files.has("cells")
    for section, ending in (("passes", ""), ("cards", CELL)):
        for name, entry in chart.entries(section):
            path, key = f"{section}/{name}", name.removesuffix(ending)
            if not name.endswith(ending) or not KEY.fullmatch(key) or entry.kind in ("link", "other"):
                chart.unknown(path, entry)
            elif chart.in_hand(key) or hidden or (section == "passes" and key in used):
                continue
            elif key not in chart.names:
                what = f"{'a pass' if section == 'passes' else 'neuron cards'} without a cell: its run was broken off, or its cell is gone"
                chart.say(
                    "orphaned",
                    path,
                    what,
                    f"{ASIDE}; the run of its cell makes it anew",
                    chart.aside([], path, names=[key]),
                )
            elif section == "passes" and key not in chart.cells:
                _pass_of_unread_cell(chart, path, key, entry)


def _pass_of_unread_cell(chart: Chart, path: str, key: str, entry: Entry) -> None:
    """Check a pass by itself, where its cell cannot be read."""
    fault = "it is a file, not a folder"
    if entry.kind == "folder":
        fault, _ = pass_fault(chart.files.root / path, chart.files.within(path), None, chart.deep)
    if fault:
        chart.refused(path, fault, "its cell cannot be read either", WITH_CELL, chart.aside([key], path))


def examine_across(chart: Chart) -> None:
    """Read what concerns several tasks."""
    for name, entry in chart.entries("across"):
        path, key = f"across/{name}", name.removesuffix(CELL)
        if not name.endswith(CELL) or entry.kind in ("link", "other"):
            chart.unknown(path, entry)
            continue
        if chart.in_hand(key):
            continue
        content, fault = _comparison(chart.files.root / path, entry, key)
        mend = chart.aside([], path, names=[key])
        if fault:
            chart.refused(path, fault, "no board shows it", f"{ASIDE}, and a run measures it again", mend)
            continue
        gone = [one for one in content["cells"] if one not in chart.names]
        if gone and chart.files.has("cells"):
            what = (
                f"{len(gone)} of the {len(content['cells'])} cells that it rests on are not there, so no board shows it"
            )
            if len(gone) == len(content["cells"]):
                chart.say("orphaned", path, what, ASIDE, mend)
            else:
                chart.say("remark", path, what, "it is shown again when they are back")
        elif content.get("errors"):
            what = "a part of it could not be measured"
            chart.say("stale", path, what, "the next run measures it again")


def _comparison(path: Path, entry: Entry, key: str) -> tuple[dict[str, Any], str]:
    """Return what a file says about several tasks, and what is wrong with it."""
    fault = ""
    if entry.kind == "folder":
        fault = "it is a folder, not a file"
    elif not entry.size:
        fault = "it is empty (0 bytes)"
    elif entry.size > LARGEST_TEXT:
        fault = f"it has {entry.size} bytes: no comparison is that large"
    return ({}, fault) if fault else _parsed_comparison(path, key)


def _parsed_comparison(path: Path, key: str) -> tuple[dict[str, Any], str]:
    from skillneurons.across_file import parse_across

    try:
        content, fault = parse_across(path.read_bytes())
    except OSError as error:
        return {}, f"it cannot be read ({error.strerror or told(error)})"
    except RecursionError as error:
        return {}, f"it is not valid JSON ({told(error)})"
    if content is not None and content["key"] != key:
        fault = f"it holds {told(content['key'])}: files are named after their key"
    for remedy in ("; delete the file and run again", "; run again to measure it anew"):
        fault = fault.removesuffix(remedy)
    return content or {}, told(fault)


def examine_checkpoints(chart: Chart) -> None:
    """Read the tunings that were broken off."""
    for name, entry in chart.entries("checkpoints"):
        path, key = f"checkpoints/{name}", name.removesuffix(TENSORS)
        if not name.endswith(TENSORS) or entry.kind != "file":
            chart.unknown(path, entry)
            continue
        if chart.locks.at_work:
            continue  # written and removed while runs go on
        names = (f"prompt-{key}",) if KEY.fullmatch(key) else ()
        if key in chart.prompts:
            what = "the prompt of this tuning is saved, so nothing goes on from here"
            chart.say("orphaned", path, what, "--mend deletes it", Mend("delete", (path,), names))
            continue
        fault, step = checkpoint_fault(chart.files.root / path)
        if fault:
            meaning = "the tuning begins anew"
            chart.refused(path, fault, meaning, ASIDE, Mend("set aside", (path,), names))
        else:
            chart.say(
                "remark",
                path,
                f"a tuning that was broken off at step {step}",
                "a run of the same prompt goes on from it",
            )


def _aside(path: str) -> Mend:
    return Mend("set aside", (path,))
