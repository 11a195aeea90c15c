"""Verify a results folder that somebody else made: check everything, believe nothing, recompute a sample.

Levels, each with its findings: forms (``guarded_files``, and what the doctor examines), keys (``key_check``), consistency without the
model (``figure_check``, ``activation_check``, ``example_check``, ``causal_check``, ``prompt_check``), plausibility, recomputation. Nothing in
the folder is evaluated, followed or written to; plugins are those that the verifier gives.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skillneurons.causal_check import check_causal_part
from skillneurons.cell_examination import UNSHOWN
from skillneurons.complaint import shown
from skillneurons.doctor import examine
from skillneurons.errors import ResultsError, SkillNeuronsError
from skillneurons.example_check import check_accuracy, check_examples
from skillneurons.figure_check import check_figures
from skillneurons.file_faults import told
from skillneurons.finding import CONSISTENCY, FORMS, Ledger
from skillneurons.guarded_files import FILES, file_fault, guarded
from skillneurons.kept_pass import KeptPass, read_kept
from skillneurons.key_check import Here, check_keys
from skillneurons.model_source import EMBEDDED, resolve_model
from skillneurons.plan import Unit
from skillneurons.plausibility import Copies, check_plausible, check_seeds
from skillneurons.prompt_check import check_prompt
from skillneurons.registry import Registry
from skillneurons.remade_request import Given, loaded_data, request_of
from skillneurons.results import BOARD_INDEX, Result, ResultsFolder, open_folder
from skillneurons.run_files import BOARDS, SECTIONS, RunFiles, read_folder
from skillneurons.signed_report import across_file
from skillneurons.staleness import Staleness
from skillneurons.store_url import is_url

if TYPE_CHECKING:
    from skillneurons.mirror import Mirror

ALL = -1
_OTHER_PASS = "the pass cannot be read, or is not the one that its cell was made from"  # noqa: S105 - no password


@dataclass(frozen=True)
class Terms:
    """What a verifier asks for: how many cells are recomputed (``ALL``: every one), drawn by which seed, on which device, of which
    ``models`` besides the embedded ones; ``given`` are task options that may be followed. ``retune`` tunes prompts again.
    """

    sample: int = 3
    seed: int = 0
    device: str = "auto"
    models: Collection[str] = ()
    given: Given = field(default_factory=dict)
    retune: bool = False


@dataclass(frozen=True)
class Verification:
    """What was found: the ``ledger``, the cells with their verdicts, which were drawn to be recomputed, and the keys of the
    comparisons ``across`` tasks.
    """

    root: Path
    cells: Mapping[str, Result]
    verdicts: Mapping[str, str]
    ledger: Ledger
    terms: Terms
    drawn: Sequence[str] = ()
    across: Sequence[str] = ()

    @property
    def accepted(self) -> bool:
        """Whether nothing was found."""
        return not self.ledger.findings


def open_submission(place: str) -> ResultsFolder:
    """Return the folder to verify; raise ResultsError where there is none. The one place where a DIR becomes a folder."""
    if is_url(place):
        folder = open_folder(place)
        if folder.mirror is not None:
            _fetch(folder.mirror)
        return folder
    if not Path(place).is_dir():
        raise ResultsError(f"cannot verify {place}: no such folder; give a results folder")
    return ResultsFolder(Path(place))


def _fetch(mirror: Mirror) -> None:
    """Bring a folder of a store here, after a look at what it lists; raise ResultsError where that must not be fetched."""
    url = mirror.store.url
    listed = [*mirror.store.listing(""), *(one for name in SECTIONS for one in mirror.store.listing(name, deep=True))]
    if not any(one.name.startswith("cells/") for one in listed):
        raise ResultsError(f"cannot verify {url}: it has no cells; give a folder that `skillneurons run` wrote")
    size, free = sum(one.size for one in listed), shutil.disk_usage(mirror.root).free
    faults = [f"{shown(one.name)}: {fault}" for one in listed if (fault := file_fault(one.name, one.size))]
    if len(listed) > FILES:
        faults.append(f"it has {len(listed)} files, more than {FILES}")
    if size > free:
        faults.append(f"it has {size} bytes, and {free} are free in {mirror.root.parent}")
    if faults:
        raise ResultsError(f"cannot verify {url}: {faults[0]}; nothing was fetched")
    mirror.fetch_all()


def verify(
    folder: ResultsFolder,
    registry: Registry,
    terms: Terms | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.time,
) -> Verification:
    """Verify a folder; raise ResultsError where it holds nothing that could be verified."""
    terms, ledger, root = terms or Terms(), Ledger(), folder.root
    for name in folder.mirror.refused if folder.mirror is not None else ():
        ledger.say(FORMS, name, "it is no name of a file that a run writes", "nothing else of this folder was read")
    try:
        for path, fault in guarded(root):
            ledger.say(FORMS, path, told(fault), "nothing else of this folder was read")
    except OSError as error:
        raise ResultsError(f"cannot verify {root}: {(error.strerror or str(error)).lower()}") from error
    if ledger.findings:
        return Verification(root, {}, {}, ledger, terms)
    files = read_folder(root)
    if "cells" not in files.sections or not any(name.endswith(".json") for name in files.sections["cells"]):
        raise ResultsError(f"cannot verify {root}: it has no cells; give a folder that `skillneurons run` wrote")
    _forms(root, registry, ledger)
    cells = {cell.key: cell for _, cell in ResultsFolder(root).iter_cells() if isinstance(cell, Result)}
    here = Here(registry, Staleness(registry), terms.given)
    units = _each(files, cells, here, ledger, clock)
    check_seeds(cells, ledger)
    _prompts(files, cells, ledger)
    drawn = _recompute(files, cells, units, here, terms, ledger, say)
    across = sorted(name.removesuffix(".json") for name in files.sections.get("across", {}) if name.endswith(".json"))
    for key in across:
        ledger.cannot(across_file(key), "its form is right or told above; its figures are not computed again")
    ledger.findings = sorted(set(ledger.findings))
    ledger.remarks = sorted(set(ledger.remarks))
    verdicts = {key: ledger.verdict(key, cell.status != "ok") for key, cell in sorted(cells.items())}
    return Verification(root, cells, verdicts, ledger, terms, drawn, across)


def _forms(root: Path, registry: Registry, ledger: Ledger) -> None:
    """Take over what the doctor finds, as far as it is about files and not about what is installed here."""
    for one in examine(root, registry, deep=True, heed_locks=False).found:
        section, _, rest = one.path.partition("/")
        key = rest.split("/")[0].removesuffix(".json").removesuffix(".run")
        about = [key] if section in ("cells", "passes", "cards") and key else []
        if one.kind == "unknown":
            ledger.say(FORMS, one.path, told(one.what), "what no run writes has no place in results")
        elif section in (*BOARDS, BOARD_INDEX):
            continue  # whoever shows these cells makes the board anew
        elif one.kind in ("damaged", "orphaned"):
            meaning = "it cannot be used" if one.kind == "damaged" else "a cell was left out"
            what = one.what.removesuffix(f"; {UNSHOWN}")
            meaning = _OTHER_PASS if what != one.what else meaning
            ledger.say(FORMS, one.path, told(what), meaning, about)
        elif section == "across" and "are not there" in one.what:
            ledger.say(FORMS, one.path, told(one.what), "cells were left out")
        elif one.kind == "stale" and section == "cells":
            unfinished = ("it failed", "its causal part")
            if one.what.startswith(unfinished):
                ledger.cannot(one.path, told(one.what))
    for name in ("locks", "checkpoints"):
        entries = sorted(path.name for path in (root / name).iterdir()) if (root / name).is_dir() else []
        if entries:
            ledger.say(
                FORMS, f"{name}/{entries[0]}", "it is of a run that goes on", "results are sent in when they are whole"
            )


def _each(
    files: RunFiles,
    cells: Mapping[str, Result],
    here: Here,
    ledger: Ledger,
    clock: Callable[[], float],
) -> dict[str, Unit]:
    """Check every cell with what stands beside it; return the units of those whose keys are right."""
    copies, units = Copies(), {}
    for key, cell in sorted(cells.items()):
        whole = ledger.is_clean(key)  # else what stands beside it may lack anything, or fit nothing
        kept = read_kept(files, cell)
        unit = check_keys(cell, kept.path, here, ledger, kept.record)
        check_plausible(kept, ledger, clock)
        if unit is not None:
            units[key] = unit
        if cell.status != "ok":
            continue
        try:
            _consistent(kept, unit, here.registry, ledger)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:  # numbers that fit no formula
            if whole:
                what = f"its figures cannot be computed again ({type(error).__name__}: {told(error)})"
                ledger.say(CONSISTENCY, kept.path, what, "no run gives such figures", [key])
        place = files.root / "prompts" / str(cell.prompt) / "adapter_model.safetensors"
        known = cell.prompt in files.sections.get("prompts", {}) and place.is_file()
        copies.look(kept, place.read_bytes() if known else b"", ledger)
    return units


def _consistent(kept: KeptPass, unit: Unit | None, registry: Registry, ledger: Ledger) -> None:
    from skillneurons.activation_check import check_activations

    check_causal_part(kept, ledger)
    if not kept.table:
        ledger.cannot(kept.path, "its pass is not kept, so its figures cannot be checked", [kept.cell.key])
        return
    absent = [f"{name}.safetensors" for name, one in (("heldout", kept.heldout), ("neurons", kept.kept)) if not one]
    if absent:
        ledger.cannot(kept.place, f"it has no {' and no '.join(absent)}, so nothing was computed from them again")
    check_figures(kept, ledger)
    if unit is None:
        check_accuracy(kept, None, ledger)
        return
    check_activations(kept, registry.attribution(kept.cell.config["attribution"]["statistic"]), ledger)
    check_examples(kept, unit, ledger)


def _prompts(files: RunFiles, cells: Mapping[str, Result], ledger: Ledger) -> None:
    users: dict[str, list[Result]] = {}
    for cell in cells.values():
        if cell.prompt is not None and cell.prompt in files.sections.get("prompts", {}):
            users.setdefault(cell.prompt, []).append(cell)
    for key, those in sorted(users.items()):
        check_prompt(files.root, key, those, ledger)


def _recompute(
    files: RunFiles,
    cells: Mapping[str, Result],
    units: Mapping[str, Unit],
    here: Here,
    terms: Terms,
    ledger: Ledger,
    say: Callable[[str], None],
) -> list[str]:
    """Draw cells, compute them again unit by unit; return which were drawn."""
    if not terms.sample:
        return []
    able = []
    for key in sorted(units):
        if cells[key].status == "ok" and ledger.is_clean(key) and key not in ledger.unchecked:
            why = _not_loadable(cells[key], terms)
            if why:
                ledger.cannot(f"cells/{key}.json", f"it cannot be recomputed: {why}")
            else:
                able.append(key)
    count = len(able) if terms.sample == ALL else min(terms.sample, len(able))
    drawn = sorted(random.Random(f"verify/{terms.seed}").sample(able, count))
    together: dict[Any, list[KeptPass]] = {}
    requests = {}
    for key in drawn:
        kept = read_kept(files, cells[key])
        request = request_of(cells[key], given=terms.given)
        if request.config is None:
            raise ResultsError(f"{key}: its config was there and is gone; verify the folder while nobody writes to it")
        _, config = loaded_data(cells[key], request.config, here.registry, kept.record, here.data)
        same = config.model_dump_json(exclude={"metrics"})
        requests[same] = (units[key], config)
        together.setdefault(same, []).append(kept)
    from skillneurons.recomputation import Bench, recompute

    bench = Bench(files.root, here.registry, terms.device, terms.retune)
    for same, those in together.items():
        say(f"recomputing {', '.join(one.cell.key for one in those)}")
        unit, config = requests[same]
        recompute(bench, unit, config, those, ledger)
    return drawn


def _not_loadable(cell: Result, terms: Terms) -> str:
    """Return why a cell's model is not loaded here, or nothing; a cell never chooses what is read or downloaded."""
    name = str(cell.model["name"])
    if name not in (*EMBEDDED, *terms.models):
        return f"its model {told(repr(name))} is not embedded; where you trust it, give -m {told(name)}"
    try:
        revision = resolve_model(name, (cell.config.get("model") or {}).get("revision"))[1]
    except SkillNeuronsError as error:
        return told(error)
    if revision != cell.model["revision"]:
        return f"its model {told(repr(name))} is revision {told(cell.model['revision'])}, here {revision}"
    return ""
