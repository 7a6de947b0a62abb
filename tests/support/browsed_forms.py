"""What a person does with a form in a browser, and what a page's script does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

#: Sends the form with fetch, and stays on the page.
FETCHING = """
<script>
  document.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const { action, method } = event.target;
    const response = await fetch(action, { method, body: new FormData(event.target) });
    document.title = await response.text();
  });
</script>
"""


#: Sends what its first argument makes of the form, and says how that ended.
SEND = """
const [way, done] = arguments;
const form = document.querySelector("form");
const key = form.elements.__idempotent_key.value;
const fields = new FormData(form);
const FORM = { "Content-Type": "application/x-www-form-urlencoded" };
const post = (body, headers = {}) => fetch("/orders", { method: "POST", body, headers });
const xhr = (body, headers = {}, url = "/orders") => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  request.open("POST", url);
  for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
  request.onload = resolve;
  request.onerror = reject;
  request.send(body);
});
const ways = {
  "fetch of FormData": () => post(fields),
  "fetch of URLSearchParams": () => post(new URLSearchParams(fields)),
  "fetch of text": () => post(`__idempotent_key=${key}`, FORM),
  "fetch with a header": () => post("{}", { "Idempotency-Key": key }),
  "fetch of a Request": () =>
    fetch(new Request("/orders", { method: "POST", headers: { "Idempotency-Key": key } })),
  "fetch of an address": () => fetch(`/orders?__idempotent_key=${key}`, { method: "DELETE" }),
  "XMLHttpRequest of FormData": () => xhr(fields),
  "XMLHttpRequest of text": () => xhr(`__idempotent_key=${key}`, FORM),
  "XMLHttpRequest with a header": () => xhr("{}", { "Idempotency-Key": key }),
  "XMLHttpRequest of an address": () => xhr(null, {}, `/orders?__idempotent_key=${key}`),
};
ways[way]()
  .then((response) => response.text?.())
  .then(() => "answered", () => "failed")
  .then((end) => setTimeout(() => done([key, end, form.elements.__idempotent_key.value]), 20));
"""


def until(browser: webdriver.Chrome, condition: Callable[[], Any], message: str) -> None:
    WebDriverWait(browser, 20, 0.02).until(lambda _: condition(), message)


def key_of(browser: webdriver.Chrome) -> str:
    key: str = browser.execute_script(
        'return document.querySelector("[name=__idempotent_key]").value'
    )
    return key


def button(browser: webdriver.Chrome) -> WebElement:
    return browser.find_element(By.TAG_NAME, "button")


def type_s(browser: webdriver.Chrome) -> None:
    browser.find_element(By.NAME, "product").send_keys("s")


def reset(browser: webdriver.Chrome) -> None:
    browser.execute_script("document.querySelector('form').reset()")


def send(browser: webdriver.Chrome, way: str = "fetch of FormData") -> tuple[str, str, str]:
    """Send the page's form: its key before, how that ended, and its key afterwards."""
    before, end, after = browser.execute_async_script(SEND, way)
    return before, end, after


def click_twice(browser: webdriver.Chrome, is_answered: Callable[[], bool]) -> None:
    """Double-click the button; the second click comes when the first has been answered."""
    # However long that takes here.
    browser.execute_script("const now = performance.now(); performance.now = () => now")
    button(browser).click()
    until(browser, is_answered, "the answer to the first click")
    button(browser).click()


def let_time_pass(browser: webdriver.Chrome) -> None:
    """Move the page's clock: the last click is not the first of a double click any more."""
    browser.execute_script("let now = performance.now(); performance.now = () => (now += 500)")


def is_settling(browser: webdriver.Chrome) -> bool:
    return bool(browser.find_elements(By.CLASS_NAME, "htmx-added"))
