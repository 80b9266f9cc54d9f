"""Locust's own page over the stand-in service (`fake_chat.py`): a test is started on it, and its tab fills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.fake_chat import SECRET, Fault
from tests.fake_service import DEADLINE_SECONDS, ROOT, environment, fake_service, listeners
from tests.redis_server import free_port

USERS = 12
COMMAND = [sys.executable, "-m", "loadtests.locust_ui"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the program, with a service to load."""
    with fake_service(tmp_path_factory.mktemp("service")) as service:
        yield environment() | {
            "CHAT_WORKERS": "3",
            "CHAT_TOKEN_SECRET": SECRET,
            "LOADTEST_URL": f"ws://127.0.0.1:{service}/{Fault.NONE}/ws",
            "LOADTEST_ROOMS": "2",
            "LOADTEST_RATE": "40",
            "LOADTEST_UI_PORT": str(free_port()),
        }


@pytest.fixture(scope="module")
def ui(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page."""
    log, port = tmp_path_factory.mktemp("locust") / "locust.log", int(settings["LOADTEST_UI_PORT"])
    with log.open("wb") as output:
        process = subprocess.Popen(COMMAND, cwd=ROOT, env=settings, stdout=output, stderr=output)
        try:
            until(lambda: any(one.laddr.port == port for one in listeners(process.pid)), log)
            assert {one.laddr.ip for one in listeners(process.pid)} == {"127.0.0.1"}, "nobody else may load the stack"
            yield f"http://127.0.0.1:{port}"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=DEADLINE_SECONDS) == 0, log.read_text("utf-8")
            assert f"Locust: http://127.0.0.1:{port}/" in log.read_text("utf-8")
        finally:
            process.kill()
            process.wait()


def until(condition: Callable[[], bool], log: Path | None = None) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text("utf-8") if log else ""
        time.sleep(0.1)


def asked(url: str, **form: str) -> Any:
    with urlopen(url, urlencode(form).encode() if form else None, timeout=DEADLINE_SECONDS) as answer:
        text = answer.read().decode()
    return json.loads(text) if "json" in answer.headers["content-type"] else text


def table(ui: str) -> list[dict[str, Any]]:
    """The rows as the page's own statistics bring them."""
    (extended,) = asked(f"{ui}/stats/requests")["extended_stats"]
    assert extended["key"] == "delivery"
    rows: list[dict[str, Any]] = extended["data"]
    return rows


def test_the_page_has_the_tab_and_the_form_its_defaults(ui: str) -> None:
    text = asked(f"{ui}/")
    assert '"extended_tabs": [{"key": "delivery", "title": "Delivery"}]' in text
    assert '"key": "received_through"' in text
    assert '"num_users": 200' in text


def test_a_test_on_the_page_fills_the_tab(ui: str) -> None:
    """Twice, as a person would: the second one begins with empty books."""
    for _ in range(2):
        assert asked(f"{ui}/swarm", user_count=str(USERS), spawn_rate="100")["success"]
        until(lambda: sum(row["delivered"] for row in table(ui)) > 100)
        rows = table(ui)
        assert {(row["sent_through"], row["received_through"]) for row in rows} == {
            (f"chat-{origin}", f"chat-{receiver}") for origin in (1, 2, 3) for receiver in (1, 2, 3)
        }
        assert all(row["duplicates"] == row["out_of_order"] == 0 for row in rows)
        assert asked(f"{ui}/stop", now="yes")["success"]
        until(lambda: asked(f"{ui}/stats/requests")["user_count"] == 0)
        until(lambda: all(row["missing"] == 0 for row in asked(f"{ui}/delivery")))


def test_users_who_come_later_listen_and_those_who_go_lack_nothing(ui: str) -> None:
    asked(f"{ui}/swarm", user_count=str(USERS), spawn_rate="100")
    until(lambda: sum(row["delivered"] for row in table(ui)) > 20)
    asked(f"{ui}/swarm", user_count=str(USERS + 6), spawn_rate="100")
    until(lambda: asked(f"{ui}/stats/requests")["user_count"] == USERS + 6)
    asked(f"{ui}/swarm", user_count=str(USERS // 2), spawn_rate="100")
    until(lambda: asked(f"{ui}/stats/requests")["user_count"] == USERS // 2)
    asked(f"{ui}/stop", now="yes")
    until(lambda: asked(f"{ui}/stats/requests")["user_count"] == 0)
    until(lambda: all(row["missing"] == 0 for row in asked(f"{ui}/delivery")))


@pytest.mark.usefixtures("ui")
def test_a_port_that_is_taken_is_said_in_a_line(settings: dict[str, str]) -> None:
    ended = subprocess.run(COMMAND, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Port {settings['LOADTEST_UI_PORT']} (Locust's page) is taken: ")
    assert ended.stderr.endswith("LOADTEST_UI_PORT names another one.\n")
