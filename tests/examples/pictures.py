"""Takes pictures of the shop and of the documentation, to look at and for the README.

python -m tests.examples.pictures                   docs/_static/shop.png alone
python -m tests.examples.pictures --look FOLDER     and all pages, after `make docs`
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.examples.servers import ROOT, Shop, send, shop
from tests.support.browsers import chromium

PICTURE = ROOT / "docs" / "_static" / "shop.png"
DOCS = ROOT / "build" / "docs"
NO_PAGES = {"genindex", "py-modindex", "search"}
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of the shop and of the pages.")
    parser.add_argument(
        "--look", type=Path, metavar="FOLDER", help="where pictures of all pages go"
    )
    look = parser.parse_args().look
    with (
        tempfile.TemporaryDirectory(prefix="look-") as folder,
        chromium(Path(folder) / "profile") as browser,
        shop("dev", Path(folder)) as running,
    ):
        order_twice(running)
        with screen(browser, 760, "light", height=740):
            browser.get(f"{running.base}/activity")
            PICTURE.write_bytes(photograph(browser))
        if look is not None:
            look.mkdir(exist_ok=True)
            look_around(browser, running.base, look)


def order_twice(running: Shop) -> None:
    form = {"product": "teapot", "quantity": "1", "__idempotent_key": running.form_key()}
    body = urlencode(form).encode()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: send(f"{running.base}/orders", body), range(2)))


def look_around(browser: webdriver.Chrome, base: str, look: Path) -> None:
    built = {path.stem: f"file://{path}" for path in sorted(DOCS.glob("*.html"))}
    pages = {page: address for page, address in built.items() if page not in NO_PAGES}
    pages |= {
        "shop": f"{base}/",
        "shop-order": f"{base}/orders/1",
        "shop-activity": f"{base}/activity",
    }
    for width in WIDTHS:
        for scheme in SCHEMES:
            with screen(browser, width, scheme):
                for page, address in pages.items():
                    browser.get(address)
                    too_wide = browser.execute_script(
                        "return document.documentElement.scrollWidth > window.innerWidth"
                    )
                    print(f"{page} {width} {scheme}", "TOO WIDE" if too_wide else "")
                    (look / f"{page}-{width}-{scheme}.png").write_bytes(photograph(browser))


@contextmanager
def screen(browser: webdriver.Chrome, width: int, scheme: str, height: int = 900) -> Iterator[None]:
    """Show pages as a screen of this width and colour scheme would."""
    command = browser.execute_cdp_cmd
    size = {"width": width, "height": height, "deviceScaleFactor": 1.5, "mobile": False}
    command("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    command("Emulation.setEmulatedMedia", {"features": [feature]})
    yield
    command("Emulation.clearDeviceMetricsOverride", {})


def photograph(browser: webdriver.Chrome) -> bytes:
    """Take a picture of the page, of as much as people look at."""
    WebDriverWait(browser, 20).until(
        lambda b: b.execute_script("return document.readyState") == "complete"
    )
    sizes = browser.execute_cdp_cmd("Page.getLayoutMetrics", {})
    whole = sizes["cssContentSize"]
    width = sizes["cssLayoutViewport"]["clientWidth"]
    area = {"x": 0, "y": 0, "width": width, "height": min(whole["height"], 6000)}
    options = {"captureBeyondViewport": True, "clip": {**area, "scale": 1}}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", options)
    return base64.b64decode(taken["data"])


if __name__ == "__main__":
    main()
