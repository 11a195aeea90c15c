"""A real headless Chromium for pages that open from disk: what they log, what they ask for.

Needs Chromium, its driver and selenium; ``needs_browser`` skips a module where they are missing, unless
SKILLNEURONS_BROWSER=1 says that they must be there.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROME = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")
REQUIRED = os.environ.get("SKILLNEURONS_BROWSER") == "1"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1300,900"),
    # a mouse that hovers, as on a desk; without a screen there is none
    "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4",
)


def needs_browser() -> None:
    """Skip the module that calls it where there is no browser."""
    if not REQUIRED:
        pytest.importorskip("selenium", reason="selenium is not installed")
        if CHROME is None or DRIVER is None:
            pytest.skip("no Chromium with its driver on this machine", allow_module_level=True)


def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield a driver; a module makes it a fixture: ``chrome = pytest.fixture(scope="module")(started)``."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROME)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chrome')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "deny"})
    try:
        yield driver
    finally:
        driver.quit()


def wait(told: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Return what ``told`` gives as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = told()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"still not: {what}")


def requests_of_pages(driver: Any) -> list[str]:
    """Return what pages asked for since the last call; what the browser asks for itself is not theirs."""
    entries = [json.loads(one["message"])["message"] for one in driver.get_log("performance")]
    sent = [one["params"] for one in entries if one["method"] == "Network.requestWillBeSent"]
    return [one["request"]["url"] for one in sent if one.get("documentURL", "").startswith("file:")]


def show(driver: Any, page: Path) -> None:
    driver.get("about:blank")
    driver.get_log("browser"), driver.get_log("performance")
    driver.get(page.as_uri())
    wait(lambda: driver.execute_script("return document.readyState") == "complete", "loaded")


def silent(driver: Any) -> None:
    assert driver.get_log("browser") == []
    asked = requests_of_pages(driver)
    assert asked, "the log of requests is empty, so it proves nothing"
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert driver.execute_script("return window.hacked") is None
