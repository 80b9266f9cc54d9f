"""The reports in a real browser: they fetch nothing, fit a phone, and can be used by everybody (axe-core)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from loadtests import page as load_page
from loadtests.comparison import page as comparison_page
from loadtests.comparison.difference import compare
from loadtests.pages import document
from loadtests.saturation import page as saturation_page
from tests.browser import chromium, needs_axe, violations
from tests.load_reports import made, saturated

PHONE_WIDTH = 360
PAGES = ("passed", "failed", "saturation", "difference")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of each kind."""
    written: Path = tmp_path_factory.mktemp("pages")
    texts = {
        "passed": load_page.render(made(lost=0)),
        "failed": load_page.render(made(workers=4, lost=3)),
        "saturation": saturation_page.render(saturated()),
        "difference": comparison_page.render(compare(made(lost=0), made(workers=3), names=("a.json", "b.json"))),
    }
    for name, text in texts.items():
        document.write(text, written / f"{name}.html")
    return written


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fetches_nothing_and_fits_a_phone(browser: Browser, folder: Path, name: str) -> None:
    address = (folder / f"{name}.html").as_uri()
    page = browser.new_page(viewport={"width": PHONE_WIDTH, "height": 780})
    requests: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(address)
    assert requests == [address]
    assert said == [], "nothing breaks its own policy"
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE_WIDTH
    assert page.evaluate("JSON.parse(document.getElementById('report').textContent) !== null")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_violation(browser: Browser, folder: Path, name: str, scheme: str) -> None:
    needs_axe()
    page = browser.new_page(color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True)
    page.goto((folder / f"{name}.html").as_uri())
    assert violations(page) == []
    page.close()
