"""The board as a folder of pages: what stands where, that text stays text, that nothing leads out of the folder."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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
from skillneurons.leaderboard.site.cell_settings import settings_yaml
from skillneurons.leaderboard.site.column_help import GROUPS, HELP
from skillneurons.leaderboard.site.figures import BINS, histogram, layer_map
from skillneurons.leaderboard.site.models_page import pair_differences
from skillneurons.leaderboard.site.page import script_json
from skillneurons.leaderboard.site.prose import as_html
from skillneurons.leaderboard.site.task_page import About
from skillneurons.plan import plan, settings_of
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


def told_as(vocabulary: Any) -> dict[str, Any]:
    return {"columns": {"c": {"L00.N0000": {**CARD, "vocabulary": vocabulary}}}}


def driven_by(**parts: Any) -> dict[str, Any]:
    return {"columns": {"c": {"L00.N0000": {**CARD, "highest": [{**CARD["highest"][0], **parts}]}}}}


def kept_file(folder: Path, place: str) -> Path:
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    return folder / place


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
        lambda card: told_as({"reason": None}),
        lambda card: told_as({"promoted": [["yes", "2"]], "suppressed": []}),
        lambda card: told_as({"promoted": [["yes", 2.0, 3.0]], "suppressed": []}),
        lambda card: told_as({"promoted": [["yes", float("inf")]], "suppressed": []}),
        lambda card: driven_by(correct=[]),
        lambda card: driven_by(activations=[float("nan"), 1.0]),
        lambda card: driven_by(activations=[10**400, 1.0]),
        lambda card: driven_by(activation=True),
        lambda card: driven_by(tokens=[None, "x"]),
        lambda card: driven_by(attention=None, attention_reason=None),
        lambda card: driven_by(text=None),
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


def test_a_card_outside_the_scores_is_named_and_left_out(tmp_path: Path) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    (column,) = cell["columns"]
    scores = np.zeros((4, 640), dtype=np.float32)
    kept_file(folder, f"passes/{cell['pass']}/scores.safetensors").write_bytes(save({column: scores}))
    card = kept_file(folder, f"cards/{cell['key']}.json")
    card.write_text(json.dumps({"columns": {column: {"L03.N0639": CARD}}}))
    assert write_site(folder, tmp_path / "out") == []
    for neuron in ("L99.N0000", "L00.N0640", "L00.N99999999999999999999"):
        card.write_text(json.dumps({"columns": {column: {neuron: CARD}}}))
        (problem,) = write_site(folder, tmp_path / "out")
        assert problem.startswith(f"cards/{cell['key']}.json holds no cards (") and neuron in problem
        assert list((tmp_path / "out" / "site" / "cards").rglob("*.html")) == []


SCORES: dict[str, np.ndarray[Any, Any]] = {
    "one axis": np.zeros(2560, dtype=np.float32),
    "three axes": np.zeros((4, 640, 1), dtype=np.float32),
    "nothing": np.zeros((0, 0), dtype=np.float32),
    "no neurons": np.zeros((2, 0), dtype=np.float32),
    "other neurons": np.zeros((4, 641), dtype=np.float32),
    "infinite": np.full((4, 640), np.inf, dtype=np.float32),
    "whole numbers": np.zeros((4, 640), dtype=np.int64),
}


@pytest.mark.parametrize("damage", list(SCORES))
def test_damaged_scores_are_named_and_not_drawn(tmp_path: Path, damage: str) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    (column,) = cell["columns"]
    place = kept_file(folder, f"passes/{cell['pass']}/scores.safetensors")
    place.write_bytes(save({column: SCORES[damage]}))
    (problem,) = write_site(folder, tmp_path / "out")
    assert problem.startswith(f"passes/{cell['pass']}/scores.safetensors cannot be read ({column} ")
    data = embedded((tmp_path / "out" / places.cell_place(cell["key"])).read_bytes())
    assert "histogram" not in data["columns"][column] and "cannot be read" in data["why"]["scores"]


def test_what_is_not_scored_is_no_damage(tmp_path: Path) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    (column,) = cell["columns"]
    scores = np.full((4, 640), np.nan, dtype=np.float32)
    kept_file(folder, f"passes/{cell['pass']}/scores.safetensors").write_bytes(save({column: scores}))
    assert write_site(folder, tmp_path / "out") == []


@pytest.mark.parametrize(
    "record",
    [
        {"versions": ["numpy"]},
        {"versions": "numpy 2"},
        {"versions": {"numpy": [2]}},
        {"limit": "ten"},
        {"limit": True},
        {"plugins": "mine.py"},
        {"plugins": [1]},
        {"device": {}},
    ],
    ids=str,
)
def test_a_damaged_run_record_is_named_and_left_out(
    tmp_path: Path, record: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    (folder / "cells" / f"{cell['key']}.run.json").write_text(json.dumps(record))
    assert main(["leaderboard", str(folder), "-o", str(tmp_path / "out"), "--format", "html"]) == 1
    told = capsys.readouterr().err
    assert f"cells/{cell['key']}.run.json holds no run record (" in told and "Traceback" not in told
    page = Page((tmp_path / "out" / places.cell_place(cell["key"])).read_bytes())
    assert "measured with" not in page.text


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("kept", "table"),
    [
        ({"neurons": np.zeros(2, dtype=np.int64), "heldout": np.zeros((8, 1), dtype=np.float32)}, {}),
        ({"neurons": np.zeros((1, 2), dtype=np.int64), "heldout": np.zeros(8, dtype=np.float32)}, {}),
        ({"neurons": np.zeros((1, 2), dtype=np.int64)}, {}),
        ({}, {"split": [1.0] * 8}),
        ({}, {"column": ["text"] * 8}),
        ({}, {"split": ["heldout"] * 7 + ["train"]}),
    ],
    ids=["flat neurons", "flat rows", "no rows", "no splits", "no numbers", "fewer examples"],
)
def test_damaged_activations_are_named_and_not_drawn(tmp_path: Path, kept: Any, table: Any) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    (column,) = cell["columns"]
    whole = {"neurons": np.zeros((1, 2), dtype=np.int64), "heldout": np.zeros((8, 1), dtype=np.float32)}
    place = kept_file(folder, f"passes/{cell['pass']}/neurons.safetensors")
    place.write_bytes(save({f"{column}/{name}": one for name, one in (kept or whole).items()}))
    columns = {"split": ["heldout"] * 8, "column": [0.0, 1.0] * 4, **table}
    data = parquet(**{"split": columns["split"], column: columns["column"]})
    (place.parent / "examples.parquet").write_bytes(data)
    card = kept_file(folder, f"cards/{cell['key']}.json")
    card.write_text(json.dumps({"columns": {column: {"L00.N0000": CARD}}}))
    (problem,) = write_site(folder, tmp_path / "out")
    assert problem.startswith(f"passes/{cell['pass']}/neurons.safetensors and examples.parquet cannot be read (")
    page = (tmp_path / "out" / places.card_place(cell["key"], "L00.N0000")).read_bytes()
    assert embedded(page) == {"densities": []}


def test_a_folder_in_place_of_a_file_is_a_problem(tmp_path: Path) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    kept_file(folder, f"passes/{cell['pass']}/scores.safetensors").mkdir()
    (problem,) = write_site(folder, tmp_path / "out")
    assert "scores.safetensors" in problem and (tmp_path / "out" / "index.html").is_file()


def test_a_cell_whose_columns_do_not_vary_says_so(tmp_path: Path) -> None:
    cell = synthetic_cell(0)
    (column,) = cell["columns"]
    reason = "the column has one value only"
    cell["columns"] = {column: {"status": "degenerate", "reason": reason, "n_discovery": 800, "n_heldout": 600}}
    cell["causal"] = None
    write_cell(tmp_path / "runs", cell)
    assert write_site(tmp_path / "runs", tmp_path / "out") == []
    text = Page((tmp_path / "out" / places.cell_place(cell["key"])).read_bytes()).text
    assert "All columns" in text and column in text and "degenerate" in text and reason in text


def test_cells_lead_to_their_other_seeds_and_rows_to_a_column(tmp_path: Path) -> None:
    write_site(write_synthetic(tmp_path / "runs", range(3)), tmp_path / "out")
    page = Page((tmp_path / "out" / places.cell_place(synthetic_cell(1)["key"])).read_bytes())
    seeds = [link for link in page.links if link.startswith("task000-")]
    assert seeds == [f"{synthetic_cell(seed)['key']}.html" for seed in (0, 2)] and "Prompt seeds: 0 1 2" in page.text
    task = Page((tmp_path / "out" / places.task_place("task000")).read_bytes())
    assert f"../cells/{synthetic_cell(2)['key']}.html#metric00.value" in task.links
    assert places.column_place("key", "a b/ä#<\ud800>") == "site/cells/key.html#a%20b%2F%C3%A4%23%3C%ED%A0%80%3E"
    assert places.column_place("key", None) == places.cell_place("key")
    write_site(write_synthetic(tmp_path / "alone", [0]), tmp_path / "one")
    assert (
        "Prompt seeds: 0"
        not in Page((tmp_path / "one" / places.cell_place(synthetic_cell(0)["key"])).read_bytes()).text
    )


def luminance(colour: Sequence[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (part / 255 for part in colour)]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    low, high = sorted(luminance(colour) + 0.05 for colour in (one, other))
    return high / low


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_can_be_read_against_its_ground(tmp_path: Path, theme: str) -> None:
    write_site(write_synthetic(tmp_path / "runs", [0]), tmp_path / "out")
    sheet = files_of(tmp_path / "out")["site/assets/site.css"].decode()
    light, dark = (
        re.search(rf"{re.escape(start)} {{(.*?)}}", sheet, re.S) for start in (":root", '[data-theme="dark"]')
    )
    assert light and dark
    found = dict(re.findall(r"--([\w-]+): ([^;]+);", light[1] + (dark[1] if theme == "dark" else "")))
    colours = {name: bytes.fromhex(value[1:]) for name, value in found.items() if value.startswith("#")}
    for text in ("ink", "quiet", "link", "good", "bad", "d", "chance-ink"):
        for ground in ("ground", "raised"):
            assert contrast(colours[text], colours[ground]) >= 4.5, f"{text} on {ground}"
    share = float(found["shade"].removesuffix("%")) / 100
    for tone in ("a", "b"):
        for part in range(101):
            w = share * part / 100
            shaded = [w * c + (1 - w) * g for c, g in zip(colours[tone], colours["ground"], strict=True)]
            assert contrast(colours["ink"], shaded) >= 4.5, f"a token shaded by {part} % of --{tone}"


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


@pytest.mark.parametrize("override", [["causal.enabled=false"], ["data.heldout=60"]], ids=["no causes", "causes"])
def test_what_was_limited_or_without_causes_is_run_again_as_it_was(tmp_path: Path, override: list[str]) -> None:
    registry, folder = load_registry(), ResultsFolder(tmp_path)
    config = load_config("demo", override, tasks=["arithmetic"], metrics=["labels"], limit=30, registry=registry)
    (unit,) = plan(config, registry, folder)
    (planned,) = unit.cells
    form = synthetic_cell(0)
    form["model"] = {"name": unit.model, "revision": unit.revision}
    form["task"] |= {"name": "arithmetic", "options": dict(unit.data.options)}
    form["metric"] |= {"name": "labels"}
    form |= {"key": planned.key, "config": settings_of(config), "seed": unit.seed}
    write_cell(tmp_path / "runs", form)
    cell = load_cell(tmp_path / "runs" / "cells" / f"{planned.key}.json")
    assert isinstance(cell, Result)
    (tmp_path / "again.yaml").write_text(settings_yaml(cell, {"limit": 30, "plugins": []}))
    again = load_config(str(tmp_path / "again.yaml"), registry=registry)
    assert [one.key for one in plan(again, registry, folder)[0].cells] == [planned.key]
    assert again.limit == 30 and again.causal.enabled == ("causal.enabled=false" not in override)


def test_the_settings_on_a_page_have_the_revision_the_limit_and_the_plugins(tmp_path: Path) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    cell["model"]["revision"] = "0123abcd"
    cell["config"]["model"] = {"revision": "main", "dtype": "float32"}
    del cell["config"]["causal"]
    write_cell(folder, cell)
    record = folder / "cells" / f"{cell['key']}.run.json"
    record.write_text(json.dumps({"limit": 100, "plugins": ["mine.py", "other"]}))

    def settings() -> tuple[Any, str]:
        assert write_site(folder, tmp_path / "out") == []
        page = Page((tmp_path / "out" / places.cell_place(cell["key"])).read_bytes())
        (saved,) = [link for link in page.links if link.startswith("data:application/yaml")]
        return yaml.safe_load(unquote(saved.partition(",")[2])), page.text

    found, _ = settings()
    assert found["limit"] == 100 and found["plugins"] == ["mine.py", "other"] and found["causal"] == {"enabled": False}
    assert found["model"] == {"revision": "0123abcd", "dtype": "float32"}
    record.write_text(json.dumps({"limit": None, "plugins": []}))
    cell["model"]["revision"] = "sha256:0123"
    cell["config"]["model"]["revision"] = None
    write_cell(folder, cell)
    found, _ = settings()
    assert "limit" not in found and "plugins" not in found and found["model"]["revision"] is None


def test_a_page_says_that_a_limit_may_have_been_given(tmp_path: Path) -> None:
    folder, cell = write_synthetic(tmp_path / "runs", [0]), synthetic_cell(0)
    page, told = tmp_path / "out" / places.cell_place(cell["key"]), "a --limit may have been given"
    write_site(folder, tmp_path / "out")
    assert told not in Page(page.read_bytes()).text
    cell["n"]["train"] = 100
    write_cell(folder, cell)
    write_site(folder, tmp_path / "out")
    assert told in Page(page.read_bytes()).text
    (folder / "cells" / f"{cell['key']}.run.json").write_text(json.dumps({"limit": None, "plugins": []}))
    write_site(folder, tmp_path / "out")
    assert told not in Page(page.read_bytes()).text


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
