"""Chromium without a window, for pages and examples that people look at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver

from tests.support.redis_servers import missing


@contextmanager
def chromium(folder: Path, *, patient: bool = True) -> Iterator[webdriver.Chrome]:
    """Open a browser.

    :param folder: where its profile goes.
    :param patient: whether opening a page waits until the page is there.
    """
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        missing("chromium with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(binary)
    options.page_load_strategy = "normal" if patient else "none"
    for argument in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars",
        "disable-background-networking", "disable-component-update", "disable-sync",
        f"user-data-dir={folder}", "window-size=1280,1400",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()
