"""A real Chromium, and axe-core, which finds what on a page keeps people out."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

# The sandbox needs a user that is not root; the rest keeps the browser from talking to anybody else.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

AXE_VERSION = "4.14.1"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: install chromium to test the pages")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, headless=True, args=CHROMIUM_ARGUMENTS)
        yield launched
        launched.close()


@functools.cache
def axe_core() -> str | None:
    """The source of axe-core, from npm into a cache of the user's; None where that does not work."""
    folder = Path.home() / ".cache" / "chat-tests" / f"axe-core-{AXE_VERSION}"
    source = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not source.is_file():
        npm = shutil.which("npm")
        if npm is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-save", "--ignore-scripts", "--no-audit", f"axe-core@{AXE_VERSION}"]
        done = subprocess.run([*command, "--prefix", str(folder)], capture_output=True, timeout=120)
        if done.returncode != 0 or not source.is_file():
            return None
    return source.read_text("utf-8")


def needs_axe() -> None:
    """Skips the test where there is none."""
    if axe_core() is None:
        pytest.skip("no axe-core here: npm could not fetch it")


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with what is shown now, each rule with where."""
    source = axe_core()
    assert source is not None
    page.evaluate(f"{source};0")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']} ({rule['impact']}): {', '.join(str(node['target']) for node in rule['nodes'])}"
        f" {rule['nodes'][0].get('failureSummary', '')}"
        for rule in found["violations"]
    ]
