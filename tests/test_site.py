"""The board as a folder of pages: what stands where, that text stays text, that nothing leads out of the folder."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save
from skillneurons.cli import main
from skillneurons.config import load_config
from skillneurons.leaderboard.board import build_board, check_board, write_board
from skillneurons.leaderboard.differences import heldout_differences
from skillneurons.leaderboard.ranks import corrected
from skillneurons.leaderboard.rows import COLUMNS
from skillneurons.leaderboard.shared import shared
from skillneurons.leaderboard.site import places
from skillneurons.leaderboard.site.cell_page import settings_yaml
from skillneurons.leaderboard.site.column_help import GROUPS, HELP
from skillneurons.leaderboard.site.figures import BINS, histogram, layer_map
from skillneurons.leaderboard.site.models_page import pair_differences
from skillneurons.leaderboard.site.page import script_json
from skillneurons.leaderboard.site.prose import as_html
from skillneurons.leaderboard.site.task_page import About
from skillneurons.plan import plan
from skillneurons.registry import load_registry
from skillneurons.results import Result, ResultsFolder, load_cell
from synthetic_cells import synthetic_cell, write_synthetic

COMMITTED = Path(__file__).parent.parent / "leaderboard" / "pocket"
HOSTILE = "<script>alert('x')</script>\"&amp;</td>"


def write_cell(folder: Path, cell: dict[str, Any]) -> None:
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    (folder / "cells" / f"{cell['key']}.json").write_text(json.dumps(cell))


def write_site(folder: Path, out: Path, *, about: dict[str, About] | None = None) -> list[str]:
    board = build_board([folder])
    write_board(board, out, ["html"], about)
    return board.problems


def files_of(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def embedded(page: bytes) -> Any:
    (text,) = re.findall(rb'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


class Page(HTMLParser):
    """The tags of a page, its links, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"<{tag} {name}>: no page has a handler in its tags"
            if name in ("href", "src"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_link_leads_to_a_page_of_the_folder(tmp_path: Path) -> None:
    write_site(write_synthetic(tmp_path / "runs", range(30)), tmp_path / "out")
    pages = {name: Page(data) for name, data in files_of(tmp_path / "out").items() if name.endswith(".html")}
    assert {name.split("/")[1] for name in pages if "/" in name} == {"cells", "models.html", "tasks"}
    assert len(pages) == 1 + 30 + 1 + 1  # board, cells, task, models
    for name, page in pages.items():
        assert len(page.ids) == len(set(page.ids)), f"{name} has an id twice"
        for link in page.links:
            if link.startswith(("data:", "#")):
                continue
            assert ":" not in link and not link.startswith("/"), f"{name} leads out: {link}"
            target = (tmp_path / "out" / name).parent / link.partition("#")[0]
            assert target.resolve().is_file(), f"{name} leads nowhere: {link}"
    for row in embedded((tmp_path / "out" / "index.html").read_bytes())["rows"]:
        for _, place in row["cells"]:
            assert (tmp_path / "out" / place).is_file()


def test_no_file_of_ours_names_a_host(tmp_path: Path) -> None:
    write_site(write_synthetic(tmp_path / "runs", range(3)), tmp_path / "out")
    for name, data in files_of(tmp_path / "out").items():
        if name not in ("site/assets/datatables.js", "site/assets/plotly.js") and not name.endswith("LICENSE.txt"):
            assert b"http:" not in data and b"https:" not in data, name


def test_a_tag_in_a_name_stays_text(tmp_path: Path) -> None:
    for index in range(4):
        cell = synthetic_cell(index * 3)  # seeds 0 of four models
        cell["task"] |= {"name": HOSTILE, "source": HOSTILE, "licence": HOSTILE, "options": {HOSTILE: HOSTILE}}
        cell["model"]["name"] = f"{HOSTILE} {index}"
        cell["model"]["revision"] = HOSTILE
        cell["metric"]["name"] = HOSTILE
        (name,) = cell["metric"]["columns"]
        column = f"{HOSTILE}.a/b"
        cell["metric"]["columns"] = [column]
        cell["columns"] = {column: cell["columns"][name]}
        cell["causal"]["columns"] = {column: cell["causal"]["columns"][name]}
        cell["key"] = f"task-metric-s0-{index:016x}"
        if index == 3:
            cell |= {"status": "failed", "error": {"type": "X", "message": HOSTILE}, "columns": {}}
        write_cell(tmp_path / "runs", cell)
    write_site(tmp_path / "runs", tmp_path / "out", about={HOSTILE: About("1", "s" * 16, HOSTILE)})
    found = files_of(tmp_path / "out")
    pages = {name: data for name, data in found.items() if name.endswith(".html")}
    assert len(pages) == 1 + 4 + 1 + 1
    for name, data in pages.items():
        assert b"<script>alert" not in data and b"</td>&#34;" not in data, name
        assert HOSTILE in Page(data).text, f"{name} does not show the name"
        data_scripts = data.count(b'<script type="application/json"')
        assert Page(data).tags.count("script") == data.count(b"<script defer src=") + data_scripts + 1, name
    assert embedded(pages["index.html"])["rows"][0]["v"][0].startswith(HOSTILE)


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "a/b", "C:\\x", "con\0", "L" * 300, "", "..", "Ä", "\ud800"]
)
def test_no_name_becomes_a_path(name: str) -> None:
    for place in (places.cell_place(name), places.task_place(name), places.card_place(name, name)):
        parts = place.split("/")
        assert parts[0] == places.ROOT and all(re.fullmatch(r"[a-z0-9_.-]{1,140}", part) for part in parts), place
        assert not any(part.strip(".") == "" for part in parts)


def test_different_names_have_different_pages() -> None:
    names = ["a b", "a_b", "A_b", "a/b", "a b ", "a_b.html", "ä_b", "a-b", "L03.N0001", "L03.N00010"]
    assert len({places.task_place(name) for name in names}) == len(names)
    assert places.card_place("key", "L03.N0127") == "site/cards/key/l03-n0127.html"
    assert places.link("site/cards/k/n.html", "site/cells/k.html#a") == "../../cells/k.html#a"
    assert places.link("index.html", "site/models.html") == "site/models.html"


def test_json_in_a_page_ends_no_script() -> None:
    text = script_json({"</script><!--": "\u2028 & <b>"})
    assert not {"<", ">", "&", "\u2028"} & set(text)
    assert json.loads(text) == {"</script><!--": "\u2028 & <b>"}


def test_prose_keeps_html_and_links_as_text() -> None:
    html = as_html(["| a | b |", "| --- | ---: |", "| <b>x</b> [y](javascript:z) | **1** |"])
    assert "<b>" not in html and "<a " not in html and "<strong>1</strong>" in html and '<div class="scroll"' in html


def test_every_column_of_the_table_is_explained_and_can_be_chosen() -> None:
    assert set(HELP) == {*COLUMNS, "rank"}
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(set(COLUMNS) - {"keys"})


def test_histogram_and_map_by_hand() -> None:
    scores = np.zeros((2, 400), dtype=np.float32)
    scores[0, 0], scores[1, 399], scores[1, 398], scores[0, 1] = 0.5, -0.25, 0.2, np.nan
    found = histogram(scores, 0.3)
    assert found["end"] == 0.5 and len(found["counts"]) == BINS and sum(found["counts"]) == 799
    assert found["counts"][-1] == 1 and found["counts"][BINS // 4] == 1 and found["counts"][BINS // 2] == 796
    wide = histogram(scores, 0.61)
    assert wide["end"] == 0.65
    drawn = layer_map(scores)
    assert (drawn["width"], drawn["d_ff"], len(drawn["r"][0])) == (3, 400, 134)
    assert drawn["r"][0][0] == 0.5 and drawn["neuron"][0][0] == 0
    assert drawn["r"][1][-1] == -0.25 and drawn["neuron"][1][-1] == 399
    assert layer_map(np.full((1, 3), np.nan, dtype=np.float32))["r"] == [[None, None, None]]
    assert sum(histogram(np.full((1, 3), np.nan, dtype=np.float32), None)["counts"]) == 0


def test_scores_beside_a_cell_are_drawn(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path / "runs", [0])
    cell = synthetic_cell(0)
    (column,) = cell["columns"]
    place = folder / "passes" / cell["pass"]
    place.mkdir(parents=True)
    scores = np.random.default_rng(0).normal(0, 0.1, (4, 640)).astype(np.float32)
    (place / "scores.safetensors").write_bytes(save({column: scores}))
    page = tmp_path / "out" / places.cell_place(cell["key"])
    assert write_site(folder, tmp_path / "out") == []
    data = embedded(page.read_bytes())
    assert sum(data["columns"][column]["histogram"]["counts"]) == 2560 and data["columns"][column]["null95"] == 0.15
    assert np.abs(np.array(data["columns"][column]["map"]["r"])).max() == pytest.approx(np.abs(scores).max(), abs=5e-4)
    assert [dose["k"] for dose in data["columns"][column]["doses"]] == [10, 50]
    (place / "scores.safetensors").write_bytes(b"no tensors")
    (problem,) = write_site(folder, tmp_path / "out")
    assert problem.startswith(f"passes/{cell['pass']}/scores.safetensors cannot be read (")
    assert "cannot be read" in embedded(page.read_bytes())["why"]["scores"]
    (place / "scores.safetensors").unlink()
    assert write_site(folder, tmp_path / "out") == []
    assert "no passes/ folder" in embedded(page.read_bytes())["why"]["scores"]


def test_a_pass_that_leads_elsewhere_is_not_read(tmp_path: Path) -> None:
    cell = synthetic_cell(0) | {"pass": "../../secret"}
    write_cell(tmp_path / "a" / "runs", cell)
    (tmp_path / "secret").mkdir()
    (column,) = cell["columns"]
    (tmp_path / "secret" / "scores.safetensors").write_bytes(save({column: np.ones((1, 1), dtype=np.float32)}))
    write_site(tmp_path / "a" / "runs", tmp_path / "out")
    data = embedded((tmp_path / "out" / places.cell_place(cell["key"])).read_bytes())
    assert "histogram" not in data["columns"][column]


CARD = {
    "vocabulary": {"promoted": [["yes", 2.0]], "suppressed": [[HOSTILE, -1.0]]},
    "highest": [
        {
            **{"activation": 1.5, "activations": [1.5, -0.5], "attention": [0.9, 0.1], "correct": 1.0, "id": HOSTILE},
            **{"target": "yes", "text": "yes", "tokens": ["2", HOSTILE], "attention_reason": ""},
        }
    ],
    "lowest": [],
}


def test_a_neuron_card_has_a_page(tmp_path: Path) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    (column,) = cell["columns"]
    best = cell["columns"][column]["top"][0]
    neuron = f"L{best['layer']:02d}.N{best['neuron']:04d}"
    (folder / "cards").mkdir()
    card = folder / "cards" / f"{cell['key']}.json"
    card.write_text(json.dumps({"quantity": "activation", "columns": {column: {neuron: CARD}}}))
    assert write_site(folder, tmp_path / "out") == []
    page = Page((tmp_path / "out" / places.card_place(cell["key"], neuron)).read_bytes())
    assert neuron in page.text and HOSTILE in page.text and f"{best['r']:+.3f}" in page.text
    assert page.tags.count("script") == 2  # the theme and the data: no figure, so no plotting library
    cell_page = (tmp_path / "out" / places.cell_place(cell["key"])).read_bytes()
    assert f"../cards/{cell['key']}/{neuron.lower().replace('.', '-')}.html".encode() in cell_page


@pytest.mark.parametrize(
    "damage",
    [
        lambda card: [],
        lambda card: {"columns": []},
        lambda card: {"columns": {"c": {"../../x": CARD}}},
        lambda card: {"columns": {"c": {"L00.N0000": {**CARD, "highest": None}}}},
        lambda card: {"columns": {"c": {"L00.N0000": {**CARD, "vocabulary": {}}}}},
        lambda card: {"columns": {"c": {"L00.N0000": {**CARD, "lowest": [{**CARD["highest"][0], "tokens": ["one"]}]}}}},
    ],
)
def test_a_damaged_card_is_named_and_left_out(tmp_path: Path, damage: Any) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    (folder / "cards").mkdir()
    (folder / "cards" / f"{cell['key']}.json").write_text(json.dumps(damage(CARD)))
    (problem,) = write_site(folder, tmp_path / "out")
    assert problem.startswith(f"cards/{cell['key']}.json ") and problem.endswith("delete it and its cell and run again")
    assert (tmp_path / "out" / places.cell_place(cell["key"])).is_file()
    assert not (tmp_path / "out" / "site" / "cards").exists()


def test_same_bytes_from_any_order_of_folders(tmp_path: Path) -> None:
    one = write_synthetic(tmp_path / "one", range(0, 40, 2))
    other = write_synthetic(tmp_path / "other", range(1, 40, 2))
    numbers = list(range(40))
    random.Random(1).shuffle(numbers)
    write_board(build_board([one, other]), tmp_path / "a", ["html"])
    write_board(build_board([other, one]), tmp_path / "b", ["html"])
    write_board(build_board([write_synthetic(tmp_path / "all", numbers)]), tmp_path / "c", ["html"])
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b") == files_of(tmp_path / "c")


def test_the_manifest_names_every_file_and_gone_pages_are_removed(tmp_path: Path) -> None:
    runs = write_synthetic(tmp_path / "runs", range(4))
    out = tmp_path / "out"
    write_site(runs, out)
    found = files_of(out)
    manifest = json.loads(found.pop(places.MANIFEST))
    assert manifest == {place: hashlib.sha256(data).hexdigest() for place, data in found.items()}
    mine = out / "site" / "cells" / "mine.html"
    mine.write_text("kept")
    gone = out / places.cell_place(synthetic_cell(3)["key"])
    before = (out / places.cell_place(synthetic_cell(0)["key"])).stat().st_mtime_ns
    (runs / "cells" / f"{synthetic_cell(3)['key']}.json").unlink()
    write_site(runs, out)
    assert not gone.exists() and mine.read_text() == "kept"
    assert (out / places.cell_place(synthetic_cell(1)["key"])).exists()
    assert (out / places.cell_place(synthetic_cell(0)["key"])).stat().st_mtime_ns == before, (
        "the same page, written again"
    )


def test_a_manifest_that_leads_out_removes_nothing(tmp_path: Path) -> None:
    runs, out = write_synthetic(tmp_path / "runs", [0]), tmp_path / "out"
    write_site(runs, out)
    (tmp_path / "precious").write_text("kept")
    (out / "mine.txt").write_text("kept")
    outside = ["../precious", "site/../../precious", "mine.txt", str(tmp_path / "precious"), "site//x", "site"]
    (out / places.MANIFEST).write_text(json.dumps(dict.fromkeys(outside, "x")))
    write_site(runs, out)
    assert (tmp_path / "precious").read_text() == (out / "mine.txt").read_text() == "kept"
    (out / places.MANIFEST).write_text("no manifest")
    write_site(runs, out)
    assert json.loads((out / places.MANIFEST).read_text())


def test_check_names_what_is_stale_missing_or_left_over(tmp_path: Path) -> None:
    runs, out = write_synthetic(tmp_path / "runs", range(3)), tmp_path / "out"
    assert f"{out / 'index.html'} is missing\n" in check_board(build_board([runs]), out, ["html"])
    write_site(runs, out)
    assert check_board(build_board([runs]), out, ["html"]) == ""
    (out / "site" / "assets" / "site.css").write_text("")
    (runs / "cells" / f"{synthetic_cell(2)['key']}.json").unlink()
    told = check_board(build_board([runs]), out, ["html"]).splitlines()
    assert f"{out / 'site/assets/site.css'} is stale" in told and f"{out / 'index.html'} is stale" in told
    assert f"{out / places.cell_place(synthetic_cell(2)['key'])} is no longer part of the site" in told
    assert files_of(out)["site/assets/site.css"] == b""


def test_the_command_writes_and_checks_a_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, out = write_synthetic(tmp_path / "runs", range(6)), tmp_path / "out"
    assert main(["leaderboard", str(runs), "-o", str(out), "--format", "html", "--format", "csv"]) == 0
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == [
        "board.csv",
        "index.html",
        "site",
    ]
    assert f"written: {out / 'board.csv'}, {out / 'index.html'}" in capsys.readouterr().err
    assert main(["leaderboard", str(runs), "-o", str(out), "--format", "html", "--check"]) == 0
    (out / "index.html").write_text("old")
    capsys.readouterr()
    assert main(["leaderboard", str(runs), "-o", str(out), "--format", "html", "--check"]) == 1
    assert capsys.readouterr().out == f"{out / 'index.html'} is stale\n\n"
    (out / "site").rename(out / "site.old")
    (out / "site").write_text("a file where a folder must be")
    assert main(["leaderboard", str(runs), "-o", str(out), "--format", "html"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"skillneurons: error: cannot write {out / 'site/assets'}: ")
    assert (out / "index.html").read_text() == "old", "the page in front changes last"


def test_the_site_needs_neither_torch_nor_pandas(tmp_path: Path) -> None:
    import subprocess
    import sys

    runs = write_synthetic(tmp_path / "runs", range(6))
    code = (
        f"import sys\nfrom skillneurons.cli import main\nmain(['leaderboard', {str(runs)!r}, '--format', 'html'])\n"
        "print(*sorted({'torch', 'pandas', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "" and (runs / "index.html").is_file()


@pytest.mark.parametrize("path", sorted(COMMITTED.glob("cells/*-s0-*.json")), ids=lambda path: path.stem[:-17])
def test_the_settings_on_a_page_give_the_same_key(path: Path, tmp_path: Path) -> None:
    cell = load_cell(path)
    assert isinstance(cell, Result)
    file = tmp_path / "cell.yaml"
    file.write_text(settings_yaml(cell))
    registry = load_registry()
    config = load_config(str(file), registry=registry, output=str(tmp_path))
    keys = [one.key for unit in plan(config, registry, ResultsFolder(tmp_path)) for one in unit.cells]
    assert keys == [cell.key]


def test_a_task_page_tells_only_what_the_same_plugin_says(tmp_path: Path) -> None:
    runs = write_synthetic(tmp_path / "runs", [0])
    page = tmp_path / "out" / places.task_place("task000")
    write_site(runs, tmp_path / "out", about={"task000": About("1", "s" * 16, "Adds numbers.")})
    assert "Adds numbers." in Page(page.read_bytes()).text
    write_site(runs, tmp_path / "out", about={"task000": About("2", "s" * 16, "Adds numbers.")})
    assert "Adds numbers." not in Page(page.read_bytes()).text
    assert "not loaded here in this version" in Page(page.read_bytes()).text


def test_pairs_of_models_are_those_of_compare(tmp_path: Path) -> None:
    runs = write_synthetic(tmp_path / "runs", range(120))
    board = build_board([runs])
    write_board(board, tmp_path / "out", ["html"])
    data = embedded((tmp_path / "out" / places.MODELS).read_bytes())
    assert data["models"] == [f"model{number}" for number in range(10)] and len(data["pairs"]) == 45
    cells = [cell for _, cell in ResultsFolder(runs).iter_cells() if isinstance(cell, Result)]
    found = shared(cells)[0]
    one, other = (next(m for m in found[0].cells if m[0] == name) for name in ("model2", "model7"))
    plain = [
        difference
        for part in found
        for column in part.columns()
        for difference in heldout_differences(part.cells, column, [(one, other)])
    ]
    lines = data["pairs"]["2 7"]
    assert len(lines) == len(plain) == 4
    for line, difference in zip(lines, corrected(plain), strict=True):
        assert line["d"] == [round(value, 5) for value in (difference.difference, difference.low, difference.high)]
        assert line["p"] == round(difference.p_holm, 5) and line["beyond"] == difference.beyond_noise
    assert set(pair_differences([cells], [one, other])) == {(one, other)}


def test_the_board_ranks_models_with_their_ties(tmp_path: Path) -> None:
    write_site(write_synthetic(tmp_path / "runs", range(60)), tmp_path / "out")
    data = embedded((tmp_path / "out" / "index.html").read_bytes())
    assert "rank" in data["shown"] and [column["name"] for column in data["columns"]].count("rank") == 1
    best, text, told = data["rows"][0]["rank"]
    assert best >= 1 and re.fullmatch(r"\d+(-\d+)?( ~)?", text)
    assert told.startswith("within noise of model") if text.endswith("~") else told == "beyond noise of every other"
    write_site(write_synthetic(tmp_path / "alone", [0]), tmp_path / "one")
    assert "rank" not in embedded((tmp_path / "one" / "index.html").read_bytes())["shown"]
    assert not (tmp_path / "one" / places.MODELS).exists()


def test_the_site_of_the_committed_cells_is_whole(tmp_path: Path) -> None:
    shutil.copytree(COMMITTED / "cells", tmp_path / "runs" / "cells")
    assert write_site(tmp_path / "runs", tmp_path / "out") == []
    n_cells = len([path for path in (COMMITTED / "cells").glob("*.json") if not path.name.endswith(".run.json")])
    assert len(list((tmp_path / "out" / "site" / "cells").iterdir())) == n_cells
    for page in (tmp_path / "out").rglob("*.html"):
        text = Page(page.read_bytes()).text
        assert "None" not in text.replace("quantization none", ""), page
        assert "nan" not in re.findall(r"\b[a-z]+\b", text.lower()), page
    assert yaml.safe_load(settings_yaml(load_cell(next((COMMITTED / "cells").glob("hans-labels-s0-*.json")))))  # type: ignore[arg-type]
