"""The site in a real headless Chromium, opened from disk: no console error, no request but for files, everything works.

They are skipped where there is no browser (see ``browser``).
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import needs_browser, requests_of_pages, show, silent, started, wait
from safetensors.numpy import save
from skillneurons.leaderboard.board import build_board, write_board
from skillneurons.leaderboard.site import places
from synthetic_cells import synthetic_cell

needs_browser()
chrome = pytest.fixture(scope="module")(started)

EMPTY = "\u2013"
EVIL = "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'>"
MARKED = f"<b>{EVIL}</b>"  # with a tag that Plotly would follow
TOLD = {**{"activation": 1.5, "activations": [1.5], "attention": [1.0], "attention_reason": "", "correct": 1.0}}
TOLD |= {"id": EVIL, "target": EVIL, "text": EVIL, "tokens": [EVIL]}
CARD = {"vocabulary": {"promoted": [[EVIL, 1.0]], "suppressed": []}, "highest": [TOLD], "lowest": []}


def write_card(folder: Path, cell: dict[str, Any], column: str) -> None:
    """Write a card of neuron L00.N0000 with a hostile quantity, and the activations that its density is drawn from."""
    cards = {"quantity": MARKED, "columns": {column: {"L00.N0000": CARD}}}
    (folder / "cards" / f"{cell['key']}.json").write_text(json.dumps(cards))
    rows = np.random.default_rng(0).normal(size=(40, 1)).astype(np.float32)
    kept = {f"{column}/neurons": np.zeros((1, 2), dtype=np.int64), f"{column}/heldout": rows}
    place = folder / "passes" / cell["pass"]
    (place / "neurons.safetensors").write_bytes(save(kept))
    pq.write_table(pa.table({"split": ["heldout"] * 40, column: [0.0, 1.0] * 20}), place / "examples.parquet")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a site of three models, two tasks (one with a hostile name, whose cells have a neuron card each).

    Causes were not tested on metric01; on metric02 chance is near the largest r.
    """
    folder = tmp_path_factory.mktemp("runs")
    (folder / "cells").mkdir()
    (folder / "cards").mkdir()
    for index in range(120):
        cell = synthetic_cell(index, shift=-0.2 if index // 3 % 10 == 1 else 0.0)
        if cell["model"]["name"] not in ("model0", "model1", "model2"):
            continue
        if cell["metric"]["name"] == "metric03":
            cell["task"]["name"] = EVIL
        (column,) = cell["columns"]
        for dose in cell["causal"]["columns"][column]["doses"]:
            dose |= {"outcome": "log_prob", "verdict": MARKED if cell["metric"]["name"] == "metric03" else "cause"}
        cell["causal"]["columns"][column]["steering"] = {
            **{"alphas": [-4.0, 0.0, 4.0], "metric": [0.2, 0.5, 0.8], "log_prob": [-1.0, -0.5, -0.7]},
            **{"accuracy": [0.5, 0.8, 0.6], "neutral_loss": [2.0, 1.0, 2.5], "followed": "metric", "trend": "rising"},
        }
        place = folder / "passes" / cell["pass"]
        place.mkdir(parents=True)
        scores = np.random.default_rng(index).normal(0, 0.1, (4, 640)).astype(np.float32)
        (place / "scores.safetensors").write_bytes(save({column: scores}))
        if cell["metric"]["name"] == "metric01":
            cell["causal"] = None
        if cell["metric"]["name"] == "metric02":
            cell["columns"][column]["null95_r"] = 0.49
        if cell["metric"]["name"] == "metric03":
            write_card(folder, cell, column)
        (folder / "cells" / f"{cell['key']}.json").write_text(json.dumps(cell))
    out = tmp_path_factory.mktemp("site")
    board = build_board([folder])
    write_board(board, out, ["html"])
    assert board.problems == []
    return out


def column_of(driver: Any, name: str) -> list[str]:
    script = (
        "const t = new DataTable('#board'); const c = t.column(arguments[0] + ':name');"
        "return t.rows({search: 'applied', order: 'applied'}).nodes().map((r) => t.cell(r, c.index()).node().innerText).toArray();"
    )
    return [str(text) for text in driver.execute_script(script, name)]


def in_order(driver: Any, reverse: bool) -> list[float]:
    """Return the held-out r of the rows as they stand where they are in order, nothing where they are not."""
    values = [float(text.split()[0]) for text in column_of(driver, "heldout_top10_r")]
    return values if values == sorted(values, reverse=reverse) else []


def shown(driver: Any) -> int:
    return len(driver.find_elements("css selector", "#board tbody tr td:first-child:not(.dt-empty)"))


def click(driver: Any, css: str) -> None:
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", driver.find_element("css selector", css))
    driver.find_element("css selector", css).click()


def test_the_board_sorts_by_click_and_by_key(chrome: Any, site: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    show(chrome, site / "index.html")
    wait(lambda: shown(chrome) == 12, "twelve rows")
    click(chrome, "#board th[data-dt-column] span[title^='The mean r of the same ten']")
    values = wait(lambda: in_order(chrome, reverse=True), "sorted by the click")
    assert len(set(values)) > 5
    order = "return new DataTable('#board').order().map((one) => [one[0], one[1]])[0]"
    (index, direction) = chrome.execute_script(order)
    assert direction == "desc"
    button = chrome.find_element("css selector", f"#board th[data-dt-column='{index}'] .dt-column-order")
    chrome.execute_script("arguments[0].focus()", button)
    assert chrome.execute_script("return document.activeElement === arguments[0]", button)
    button.send_keys(Keys.ENTER)
    wait(lambda: chrome.execute_script(order) == [index, "asc"], "turned round by Enter")
    assert sorted(values) == wait(lambda: in_order(chrome, reverse=False), "sorted by the key")
    silent(chrome)


def test_the_board_filters_searches_and_chooses_columns(chrome: Any, site: Path) -> None:
    show(chrome, site / "index.html")
    wait(lambda: shown(chrome) == 12, "twelve rows")
    click(chrome, "#choose details:nth-of-type(1) summary")
    click(chrome, "#choose fieldset[data-filter=model] input[value=model1]")
    wait(lambda: shown(chrome) == 4, "one model")
    wait(lambda: set(column_of(chrome, "model")) == {"model1"}, "that model's rows")
    click(chrome, "#choose fieldset[data-filter=model] input[value=model2]")
    wait(lambda: shown(chrome) == 8, "two models")
    search = chrome.find_element("css selector", "input[type=search]")
    search.send_keys("metric02")
    wait(lambda: shown(chrome) == 2, "two models on one metric")
    search.clear()
    search.send_keys("<img src")
    wait(lambda: shown(chrome) == 2, "a search for what stands in the name")
    heads = "return [...document.querySelectorAll('#board thead th')].map((one) => one.innerText.trim())"
    assert "shrinkage" not in chrome.execute_script(heads)
    click(chrome, "#choose details:nth-of-type(5) summary")
    click(chrome, "#choose input[value=shrinkage]")
    wait(lambda: "shrinkage" in chrome.execute_script(heads), "one column more")
    click(chrome, "#choose button[type=reset]")
    wait(lambda: shown(chrome) == 12, "all rows again")
    wait(lambda: "shrinkage" not in chrome.execute_script(heads), "that column gone again")
    silent(chrome)


def test_a_script_in_a_name_stays_text(chrome: Any, site: Path) -> None:
    show(chrome, site / "index.html")
    wait(lambda: shown(chrome) == 12, "twelve rows")
    assert EVIL in column_of(chrome, "task")
    silent(chrome)
    key = next(one for one in (synthetic_cell(i) for i in range(120)) if one["metric"]["name"] == "metric03")["key"]
    for place in (places.task_place(EVIL), places.cell_place(key), places.MODELS):
        show(chrome, site / place)
        assert EVIL in chrome.execute_script("return document.body.textContent"), place
        time.sleep(0.3)
        silent(chrome)


def test_a_cell_draws_its_figures_and_a_table_of_its_neurons(chrome: Any, site: Path) -> None:
    show(chrome, site / places.cell_place(synthetic_cell(0)["key"]))
    for figure in ("histogram", "map", "doses", "steering", "seeds"):
        wait(lambda f=figure: chrome.find_elements("css selector", f"#{f} .main-svg"), f"{figure} drawn")
    counts = chrome.execute_script(
        "return document.getElementById('histogram').data[0].y.filter((n) => n).reduce((a, b) => a + b)"
    )
    assert counts == 2560
    assert chrome.execute_script("return document.getElementById('doses').data[3].y") == [0.01, 0.01]
    assert (
        chrome.execute_script("return document.getElementById('outcome').value") == "log_prob"
    )  # what it is judged by
    assert len(chrome.execute_script("return document.getElementById('seeds').data[0].x")) == 3
    chrome.execute_script(
        "const s = document.getElementById('outcome'); s.value = 'accuracy'; s.dispatchEvent(new Event('change'))"
    )
    title = "return document.getElementById('doses').layout.yaxis.title.text"
    wait(lambda: "accuracy" in chrome.execute_script(title), "another outcome")
    silent(chrome)


def test_two_models_are_set_beside_each_other(chrome: Any, site: Path) -> None:
    show(chrome, site / places.MODELS)
    texts = "return [...document.querySelectorAll('#pairs tbody tr')].map((r) => [...r.cells].map((c) => c.innerText))"

    def rows() -> list[list[str]]:
        found: list[list[str]] = chrome.execute_script(texts)
        return found

    wait(lambda: len(rows()) == 4, "four columns")
    forward = rows()
    assert all(line[4].startswith("+0.") for line in forward) and {line[7] for line in forward} == {"beyond noise"}
    assert chrome.find_element("id", "said").text == "4 of 4 columns differ beyond noise."
    wait(lambda: chrome.find_elements("css selector", "#differences .main-svg"), "drawn")
    bottom = "const b = document.querySelector('#differences .xaxislayer-above, #differences .xtick').getBoundingClientRect(); return b.bottom"
    middle = "const b = document.getElementById('differences').getBoundingClientRect(); return (b.top + b.bottom) / 2"
    assert chrome.execute_script(bottom) < chrome.execute_script(middle)  # a long figure is read from its upper end
    chrome.execute_script(
        "for (const [id, i] of [['a', 1], ['b', 0]]) { const s = document.getElementById(id); s.selectedIndex = i; s.dispatchEvent(new Event('change')); }"
    )
    backward = wait(lambda: rows() if rows() != forward else None, "turned round")
    assert [line[4] for line in backward] == [line[4].replace("+", "-") for line in forward]
    assert [line[2] for line in backward] == [line[3] for line in forward]
    silent(chrome)


def cell_of(metric: str, seed: int = 0) -> str:
    """Return the key of the first model's cell."""
    cells = (synthetic_cell(index) for index in range(120))
    return next(str(one["key"]) for one in cells if (one["metric"]["name"], one["seed"]) == (metric, seed))


def drawn(driver: Any, *figures: str) -> None:
    for figure in figures:
        wait(lambda f=figure: driver.find_elements("css selector", f"#{f} .main-svg"), f"{figure} drawn")


def test_what_a_file_beside_a_cell_says_stays_text_in_figures(chrome: Any, site: Path) -> None:
    key = cell_of("metric03")
    show(chrome, site / places.cell_place(key))
    drawn(chrome, "doses")
    hover = "Plotly.Fx.hover('doses', [{ curveNumber: 3, pointNumber: 0 }]); return [...document.querySelectorAll('#doses .hoverlayer text')].map((one) => one.textContent).join(' ')"
    told = wait(lambda: chrome.execute_script(hover), "the verdict")
    assert f"verdict: {MARKED}" in told
    silent(chrome)
    show(chrome, site / places.card_place(key, "L00.N0000"))
    drawn(chrome, "density-0")
    title = "return document.querySelector('#density-0 .xtitle')?.textContent"
    assert wait(lambda: chrome.execute_script(title), "the title of the axis") == MARKED
    silent(chrome)


def test_no_button_of_a_figure_leads_out(chrome: Any, site: Path) -> None:
    show(chrome, site / places.cell_place(cell_of("metric00")))
    drawn(chrome, "histogram", "map", "doses", "steering", "seeds")
    chrome.execute_script(
        "window.opened = []; window.open = (url) => { window.opened.push(String(url)); return null; }"
    )
    titles = "return [...document.querySelectorAll('.modebar-btn')].map((one) => one.dataset.title)"
    found = wait(lambda: chrome.execute_script(titles), "buttons beside the figures")
    assert any("Zoom" in title for title in found), "no button is found, so the test proves nothing"
    assert not [title for title in found if any(word in title for word in ("Share", "Cloud", "Edit"))]
    windows = chrome.window_handles
    chrome.execute_script(
        "document.querySelectorAll('.modebar-btn').forEach((one) => one.dispatchEvent(new MouseEvent('click', { bubbles: true })))"
    )
    clicked = "return document.getElementById('map').layout.dragmode"
    wait(lambda: chrome.execute_script(clicked) is not None, "the buttons have done what they do")
    assert chrome.execute_script("return window.opened") == [] and chrome.window_handles == windows
    assert not chrome.find_elements("css selector", "[class*=cloud-dialog]")
    silent(chrome)


def swipe_up(driver: Any, x: float, y: float, by: float = 150) -> None:
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 16):
        points = [{"x": x, "y": y - by * step / 15}]
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": points})
    driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_a_swipe_over_a_figure_scrolls_the_page(chrome: Any, site: Path) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    page = site / places.cell_place(cell_of("metric02"))
    middle = "const b = document.getElementById(arguments[0]).getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]"
    top = "return window.scrollY"
    try:
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chrome.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1})
        show(chrome, page)
        drawn(chrome, "histogram", "map", "doses", "steering", "seeds")
        assert chrome.execute_script("return matchMedia('(pointer: coarse)').matches")
        for figure in ("histogram", "map", "doses", "steering"):
            layout = chrome.execute_script("return document.getElementById(arguments[0]).layout", figure)
            assert layout["dragmode"] is False and layout["xaxis"]["fixedrange"] and layout["yaxis"]["fixedrange"]
            chrome.execute_script("document.getElementById(arguments[0]).scrollIntoView({ block: 'center' })", figure)
            before = chrome.execute_script(top)
            swipe_up(chrome, *chrome.execute_script(middle, figure))
            wait(lambda y=before: chrome.execute_script(top) >= y + 50, f"scrolled by a swipe over {figure}")
        assert not chrome.find_elements("css selector", ".modebar-btn"), "a bar that never goes would cover the figures"
        silent(chrome)
    finally:
        chrome.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("metric", ["metric00", "metric02"], ids=["in the middle", "near the edge"])
def test_what_is_chance_can_be_read_whole_on_a_phone(chrome: Any, site: Path, metric: str) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    try:
        chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        show(chrome, site / places.cell_place(cell_of(metric)))
        drawn(chrome, "histogram")
        boxes = (
            "const box = (css) => document.querySelector(css)?.getBoundingClientRect().toJSON();"
            "return [box('#histogram .annotation-text'), box('#histogram .main-svg'), box('#histogram .barlayer')]"
        )
        text, figure, bars = wait(lambda: (b := chrome.execute_script(boxes)) and all(b) and b, "the label")
        assert "chance" in chrome.execute_script(
            "return document.querySelector('#histogram .annotation-text').textContent"
        )
        assert text["left"] >= figure["left"] and text["right"] <= figure["right"] and text["top"] >= figure["top"]
        assert text["bottom"] <= bars["top"], "no bar stands behind the text"
        silent(chrome)
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_link_of_a_row_opens_its_column_and_leads_to_other_seeds(chrome: Any, site: Path) -> None:
    show(chrome, site / "index.html")
    wait(lambda: shown(chrome) == 12, "twelve rows")
    links = "return [...document.querySelectorAll('#board td.column a')].map((one) => one.href)"
    assert all(one.rpartition("#")[2].startswith("metric0") for one in chrome.execute_script(links))
    place = f"{(site / places.cell_place(cell_of('metric00'))).as_uri()}#metric00.value"
    assert place in chrome.execute_script(links)
    chrome.get("about:blank")
    chrome.get_log("browser"), chrome.get_log("performance")
    chrome.get(place)
    drawn(chrome, "histogram")
    others = "return [...document.querySelectorAll('.seeds a')].map((one) => one.href)"
    wait(lambda: chrome.execute_script(others), "the other seeds")
    expected = [f"{(site / places.cell_place(cell_of('metric00', seed))).as_uri()}#metric00.value" for seed in (1, 2)]
    assert chrome.execute_script(others) == expected
    assert chrome.find_element("css selector", ".seeds [aria-current=page]").text == "0"
    silent(chrome)


@pytest.mark.parametrize("asked", ["%", "%ED%A0%80", "constructor", "no.column"])
def test_an_address_that_asks_for_no_column_shows_the_first(chrome: Any, site: Path, asked: str) -> None:
    chrome.get("about:blank")
    chrome.get_log("browser"), chrome.get_log("performance")
    chrome.get(f"{(site / places.cell_place(cell_of('metric00'))).as_uri()}#{asked}")
    drawn(chrome, "histogram")
    assert chrome.execute_script("return document.getElementById('column').value") == "metric00.value"
    silent(chrome)


def test_the_board_can_be_used_without_seeing_it(chrome: Any, site: Path) -> None:
    show(chrome, site / "index.html")
    wait(lambda: shown(chrome) == 12, "twelve rows")
    names = "return [...document.querySelectorAll('#board thead [aria-label]')].map((one) => one.ariaLabel)"
    labels = wait(lambda: chrome.execute_script(names), "buttons that sort")
    assert [one for one in labels if "<" in one or "wbr" in one] == []
    assert [one for one in labels if one.startswith("heldout_top10_r")]
    fields = "return [...document.querySelectorAll('main input:not([type=checkbox]), main select')].map((one) => one.ariaLabel || [...one.labels].map((l) => l.textContent).join(''))"
    assert all(name.strip() for name in chrome.execute_script(fields)), "a field without a name"
    silent(chrome)


def test_why_a_number_is_empty_is_told_by_key_and_by_touch(chrome: Any, site: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    show(chrome, site / "index.html")
    wait(lambda: shown(chrome) == 12, "twelve rows")
    stops = "return [...document.querySelectorAll('#board tbody tr')].map((row) => row.querySelectorAll('button:not([tabindex=\"-1\"])').length)"
    wait(lambda: chrome.execute_script(stops) == [1] * 12, "one stop of the Tab key a row")
    empty = next(
        row
        for row in chrome.find_elements("css selector", "#board tbody tr")
        if row.find_elements("css selector", "button.empty")
    )
    buttons = empty.find_elements("css selector", "button.tells")
    lines = "return [...document.querySelectorAll('#board td.told')].map((one) => one.innerText)"
    buttons[0].send_keys(Keys.ENTER)
    (told,) = wait(lambda: chrome.execute_script(lines), "the reason")
    assert "causal: " in told and "rank: " in told
    assert {button.get_attribute("aria-expanded") for button in buttons} == {"true"}
    chrome.execute_script("arguments[0].click()", empty.find_element("css selector", "button.empty"))
    wait(lambda: chrome.execute_script(lines) == [], "closed again")
    chrome.execute_script("new DataTable('#board').column('status:name').visible(false)")
    wait(lambda: chrome.execute_script(stops) == [1] * 12, "one stop still")
    silent(chrome)


@pytest.mark.parametrize("name", ["causal_z", "ablation_drop"])
def test_what_is_empty_stands_last_whichever_way_a_column_is_sorted(chrome: Any, site: Path, name: str) -> None:
    show(chrome, site / "index.html")
    wait(lambda: shown(chrome) == 12, "twelve rows")
    for direction in ("asc", "desc"):
        chrome.execute_script(
            "const t = new DataTable('#board'); t.order([t.column(`${arguments[0]}:name`).index(), arguments[1]]).draw()",
            name,
            direction,
        )
        wait(lambda: column_of(chrome, name)[-3:] == [EMPTY] * 3, f"three empty rows at the end ({direction})")
        assert EMPTY not in column_of(chrome, name)[:-3]
    silent(chrome)


def test_dark_and_light(chrome: Any, site: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    seen = {}
    for scheme in ("light", "dark"):
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        show(chrome, site / "index.html")
        seen[scheme] = chrome.execute_script(ground)
    assert seen["light"] == "rgb(255, 255, 255)" and seen["dark"] != seen["light"]
    click(chrome, "#theme")
    assert chrome.execute_script(ground) == seen["light"]
    chrome.execute_script("localStorage.clear()")
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_no_page_is_wider_than_a_phone(chrome: Any, site: Path) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        task, cell = places.task_place("task000"), places.cell_place(synthetic_cell(0)["key"])
        for place in ("index.html", task, cell, places.MODELS, places.task_place(EVIL)):
            show(chrome, site / place)
            assert chrome.execute_script("return document.documentElement.scrollWidth") <= 390, place
            silent(chrome)
    finally:
        chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_watch_over_requests_and_the_console_can_fail(chrome: Any, site: Path, tmp_path: Path) -> None:
    page = tmp_path / "loud.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('loud')</script>")
    show(chrome, page)
    assert any(url.startswith("http:") for url in wait(lambda: requests_of_pages(chrome), "a request"))
    assert any("loud" in line["message"] for line in chrome.get_log("browser"))


def test_a_page_may_ask_no_host_even_if_it_wanted(chrome: Any, site: Path, tmp_path: Path) -> None:
    ask = "const i = document.createElement('img'); i.src = arguments[0]; document.body.append(i)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x.png"
        show(chrome, site / places.cell_place(synthetic_cell(0)["key"]))
        chrome.execute_script(ask, url)
        log: list[str] = []

        def refused() -> bool:
            log.extend(line["message"] for line in chrome.get_log("browser"))
            return any("Content Security Policy" in line for line in log)

        wait(refused, "refused by the page's own policy")
        (tmp_path / "plain.html").write_text("<body></body>")
        show(chrome, tmp_path / "plain.html")
        chrome.execute_script(ask, f"{url}?plain")
        connection, _ = server.accept()  # the first that comes is of the page without a policy
        with connection:
            assert connection.recv(1000).startswith(b"GET /x.png?plain ")
