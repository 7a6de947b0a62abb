"""The demo shop in a real browser: what a person sees who clicks twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.examples.servers import SHOP, Shop, send, shop
from tests.support.browsers import chromium

BUTTON = (By.CSS_SELECTOR, "#order button.primary")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("s")
    folder.chmod(0o700)
    with shop("dev", folder, seconds=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    # A second click comes while the first one's page is still loading.
    with chromium(tmp_path_factory.mktemp("profile"), patient=False) as browser:
        yield browser


def title_is(browser: webdriver.Chrome, text: str) -> None:
    """Wait until a page is there, and its scripts have run: a click before that is not theirs."""

    def is_there(browser: webdriver.Chrome) -> bool:
        return text in browser.title and bool(
            browser.execute_script("return document.readyState === 'complete'")
        )

    WebDriverWait(browser, 20).until(is_there, f"no page titled {text!r}")


def click_twice(browser: webdriver.Chrome) -> None:
    button = WebDriverWait(browser, 20).until(lambda b: b.find_element(*BUTTON))
    ActionChains(browser).move_to_element(button).click().pause(0.15).click().perform()


def open_shop(browser: webdriver.Chrome, running: Shop, query: str = "") -> None:
    browser.get("about:blank")
    WebDriverWait(browser, 20).until(lambda b: b.current_url == "about:blank")
    browser.get(f"{running.base}/{query}")
    title_is(browser, "Shop")
    WebDriverWait(browser, 20).until(
        lambda b: b.execute_script("return document.readyState") == "complete"
    )


def test_double_click_orders_once(browser: webdriver.Chrome, running: Shop) -> None:
    """A double-clicked order is placed once, and the person sees its confirmation, and once the
    message that the view left in the session."""
    before = running.counts()
    open_shop(browser, running)
    click_twice(browser)
    title_is(browser, "Order no.")
    after = running.counts()
    assert after["received"] - before["received"] == 2
    assert after["placed"] - before["placed"] == 1
    (message,) = browser.find_elements(By.CSS_SELECTOR, ".message")
    assert message.text == "Order placed"
    open_shop(browser, running)
    assert not browser.find_elements(By.CSS_SELECTOR, ".message")


def test_back_and_again_orders_nothing(browser: webdriver.Chrome, running: Shop) -> None:
    """Going back and sending the form again shows the same order, and places none."""
    open_shop(browser, running)
    WebDriverWait(browser, 20).until(lambda b: b.find_element(*BUTTON)).click()
    title_is(browser, "Order no.")
    confirmation, before = browser.current_url, running.counts()
    browser.back()
    title_is(browser, "Shop")
    WebDriverWait(browser, 20).until(lambda b: b.find_element(*BUTTON)).click()
    title_is(browser, "Order no.")
    after = running.counts()
    assert browser.current_url == confirmation
    assert after["placed"] == before["placed"]
    assert after["replayed"] == before["replayed"] + 1
    assert "does not order again" in browser.find_element(By.TAG_NAME, "main").text


def test_back_and_changed_is_refused(browser: webdriver.Chrome, running: Shop) -> None:
    """Going back and sending another order under the same key gets a clear page, and no order."""
    open_shop(browser, running)
    WebDriverWait(browser, 20).until(lambda b: b.find_element(*BUTTON)).click()
    title_is(browser, "Order no.")
    before = running.counts()
    browser.back()
    title_is(browser, "Shop")
    quantity = WebDriverWait(browser, 20).until(lambda b: b.find_element(By.NAME, "quantity"))
    browser.execute_script("arguments[0].value = 5", quantity)
    browser.find_element(*BUTTON).click()
    WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, ".problem h1"))
    assert running.counts()["placed"] == before["placed"]
    assert "new form" in browser.find_element(By.TAG_NAME, "main").text


def test_protection_off_orders_twice(browser: webdriver.Chrome, running: Shop) -> None:
    """With the protection switched off in the page, a double click is two orders."""
    open_shop(browser, running)
    switch = browser.find_element(By.CSS_SELECTOR, "input[name=protection][type=checkbox]")
    browser.execute_script("arguments[0].click()", switch)
    WebDriverWait(browser, 20).until(lambda b: "protection=off" in b.current_url)
    WebDriverWait(browser, 20).until(
        lambda b: not b.find_elements(By.NAME, "__idempotent_key") and b.find_elements(*BUTTON)
    )
    before = running.counts()
    click_twice(browser)
    title_is(browser, "Order no.")
    WebDriverWait(browser, 20).until(lambda _: running.counts()["placed"] - before["placed"] == 2)


def test_activity_page_moves_by_itself(browser: webdriver.Chrome, running: Shop) -> None:
    """The activity page shows new requests as they happen, without being loaded again."""
    browser.get(f"{running.base}/activity")
    title_is(browser, "Activity")
    shown = WebDriverWait(browser, 20).until(
        lambda b: b.find_element(By.CSS_SELECTOR, "[data-count=received]")
    )
    before = running.counts()["received"]
    open_in_background(running)
    WebDriverWait(browser, 20).until(lambda _: int(shown.text) == before + 1)


def test_crash_button_orders_once(browser: webdriver.Chrome, running: Shop) -> None:
    """The worker is killed after the commit, the page tries again, and shows one order."""
    browser.get(f"{running.base}/activity")
    title_is(browser, "Activity")
    button = (By.CSS_SELECTOR, "#crash button")
    before = running.counts()["placed"]
    WebDriverWait(browser, 20).until(lambda b: b.find_element(*button)).click()
    said = WebDriverWait(browser, 20).until(lambda b: b.find_element(By.ID, "crashed"))
    WebDriverWait(browser, 20).until(lambda _: "is placed, once" in said.text)
    assert "try no. 1" not in said.text
    assert running.counts()["placed"] == before + 1
    events = browser.find_element(By.ID, "events")
    WebDriverWait(browser, 20).until(lambda _: "the worker is killed" in events.text)


def open_in_background(running: Shop) -> None:
    body = b'{"product": "moon", "quantity": 1}'
    send(f"{running.base}/api/orders", body, content_type="application/json")


def test_no_file_of_another_host(running: Shop) -> None:
    """The shop works offline: its pages name no other host."""
    for path in [*Path(SHOP, "templates").rglob("*"), *Path(SHOP, "static").rglob("*")]:
        if path.is_file():
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text, path
