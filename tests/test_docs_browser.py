"""The documentation in a real headless Chromium, opened from disk: no request but for files, search works, formulas stand.

They are skipped where there is no browser (see ``browser``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import needs_browser, requests_of_pages, show, silent, started, wait

needs_browser()
chrome = pytest.fixture(scope="module")(started)
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(out)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True)
    return out


@pytest.mark.parametrize("page", ["index.html", "method.html", "hooks/register_tasks.html", "commands/run.html"])
def test_a_page_asks_for_files_alone(chrome: Any, site: Path, page: str) -> None:
    show(chrome, site / page)
    assert chrome.find_element("css selector", "h1").is_displayed()
    silent(chrome)


def test_that_a_request_would_be_seen(chrome: Any, site: Path) -> None:
    show(chrome, site / "index.html")
    chrome.execute_script("fetch('http://127.0.0.1:9/font.woff2').catch(() => 0)")
    wait(lambda: any(url.startswith("http:") for url in requests_of_pages(chrome)), "the request in the log")


def test_formulas_take_their_room(chrome: Any, site: Path) -> None:
    show(chrome, site / "method.html")
    sizes = chrome.execute_script(
        "return [...document.querySelectorAll('.formula math')].map((m) => m.getBoundingClientRect().height)"
    )
    assert len(sizes) > 10 and min(sizes) > 10 and max(sizes) > 30  # a fraction stands in two rows


def test_search_works_from_disk(chrome: Any, site: Path) -> None:
    show(chrome, site / "index.html")
    field = chrome.find_element("css selector", "input[data-md-component=search-query]")
    chrome.execute_script("document.querySelector('[data-md-toggle=search]').click()")
    chrome.execute_script("arguments[0].focus()", field)
    field.send_keys("Freedman")
    found = wait(
        lambda: [one.get_attribute("href") for one in chrome.find_elements("css selector", ".md-search-result__link")],
        "a result",
    )
    assert any("method.html" in url for url in found)
    silent(chrome)
