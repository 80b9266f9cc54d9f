"""`Person`: somebody with a browser of their own, who uses the chat's page as people do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Request, expect

from tests.browser import violations

PASSWORD = "correct horse battery staple"
IN_TIME_MS = 30_000

DESKTOP: Mapping[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: Mapping[str, Any] = {
    "viewport": {"width": 390, "height": 780}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True
}  # fmt: skip


@dataclass
class Person:
    name: str
    page: Page
    address: str
    faults: list[str]
    """Errors of scripts, breaches of the Content-Security-Policy, files and answers that did not come."""

    # Coming in

    def open(self, path: str = "/") -> None:
        self.page.goto("about:blank")  # else what differs in the fragment alone loads nothing
        self.page.goto(self.address + path)

    def has_account(self) -> None:
        """Without the page, which is tested elsewhere."""
        made = self.page.request.post(f"{self.address}/api/users", data={"username": self.name, "password": PASSWORD})
        assert made.status == 201, made.text()
        form: dict[str, str | float | bool] = {"username": self.name, "password": PASSWORD}
        assert self.page.request.post(f"{self.address}/api/token", form=form).ok

    def enter(self, room: str = "lobby") -> None:
        """Into a room, with an account of one's own."""
        self.has_account()
        self.open(f"/#room/{room}")
        self.is_connected()

    def is_connected(self) -> None:
        connected = self.page.locator("body[data-connection=open]")
        expect(connected, f"{self.name} is connected; {self.faults}").to_be_attached(timeout=IN_TIME_MS)

    @property
    def worker(self) -> str:
        where = self.page.locator("#where")
        expect(where).to_contain_text("via ", timeout=IN_TIME_MS)
        return (where.text_content() or "").removeprefix("via ")

    def move_to_another_worker_than(self, other: Person) -> None:
        for _ in range(10):
            if self.worker != other.worker:
                return
            self.page.context.clear_cookies(name="chat_worker")
            self.page.reload()
            self.is_connected()
        raise AssertionError(f"always on {other.worker}")

    # Talking

    def say(self, text: str) -> None:
        self.page.locator("#text").fill(text)
        self.page.locator("#text").press("Enter")

    def sees(self, text: str) -> None:
        expect(self.page.locator("#messages .text").get_by_text(text, exact=True)).to_be_visible(timeout=IN_TIME_MS)

    def texts(self) -> list[str]:
        """Every message that is shown, in order."""
        return self.page.locator("#messages .text").all_text_contents()

    def all_is_stored(self) -> None:
        """None of one's own messages is on its way any more."""
        expect(self.page.locator("#messages [data-state]")).to_have_count(0, timeout=IN_TIME_MS)

    # Looking

    def violations(self) -> list[str]:
        """What axe-core finds wrong with what is shown now, each rule with where."""
        return violations(self.page)

    def photograph(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self.page.evaluate("document.fonts.ready")
        self.page.screenshot(path=path, animations="disabled", caret="hide")


def failed(request: Request) -> bool:
    """Not by the page itself, which ends what is under way when it is left."""
    return request.failure != "net::ERR_ABORTED"


def person(browser: Browser, name: str, address: str, device: Mapping[str, Any] = DESKTOP, **options: Any) -> Person:
    context = browser.new_context(**{**device, "locale": "en-GB", **options})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda got: faults.append(f"{got.url}: {got.status}") if got.status >= 500 else None)
    page.on("requestfailed", lambda asked: faults.append(f"{asked.url}: {asked.failure}") if failed(asked) else None)
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    return Person(name, page, address, faults)
