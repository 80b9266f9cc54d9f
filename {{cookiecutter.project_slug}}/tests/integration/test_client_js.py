"""The client in JavaScript, run by Node's own test runner on the same workers as the client on asyncio."""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distributed_websocket.client.events import (
    Answered,
    CaughtUp,
    Delivered,
    Event,
    Hole,
    Postponed,
    Refused,
    Subscribed,
)
from tests.integration import test_client
from tests.service import ROOT
from tests.session_model import Run

TESTS = ROOT / "tests" / "web" / "client.test.mjs"
OLDEST_NODE = 20
SECONDS = 300

pytestmark = pytest.mark.timeout(SECONDS + 20)


@pytest.fixture(scope="module")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip(f"node is not there; the client in JavaScript needs {OLDEST_NODE} or newer")
    version = _output(path, "--version")
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node is {version}; the client in JavaScript needs {OLDEST_NODE} or newer")
    return path


@pytest.fixture(scope="module")
def results(node: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What went wrong, by the name of the test; "" for nothing."""
    report = tmp_path_factory.mktemp("client_js") / "report.xml"
    reporter = ["--test-reporter=junit", f"--test-reporter-destination={report}"]
    # Node has the WebSocket of browsers since 22; 20 has it behind a flag.
    flags = ["--experimental-websocket"] if _output(node, "-p", "typeof WebSocket") == "undefined" else []
    command = [node, *flags, "--test", *reporter, str(TESTS)]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert report.exists(), done.stdout + done.stderr
    found = {}
    for case in ET.parse(report).iter("testcase"):
        failures = [failure.text or "failed" for failure in case.findall("failure")]
        found[case.get("name", "")] = "\n".join(failures)
    assert done.returncode == 0 or any(found.values()), done.stdout + done.stderr
    return found


def test_both_clients_pass_the_same_tests(results: dict[str, str]) -> None:
    ours = {name.removeprefix("test_").replace("_", " ") for name in vars(test_client) if name.startswith("test_")}
    assert set(results) == ours


NAMES = [name for name in vars(test_client) if name.startswith("test_")]


@pytest.mark.parametrize("name", NAMES)
def test_the_client_in_javascript(results: dict[str, str], name: str) -> None:
    failure = results[name.removeprefix("test_").replace("_", " ")]
    assert not failure, failure


class SessionInNode:
    """A session in a Node process, one line of JSON for each call and each answer."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._call("new")

    def _call(self, method: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    @property
    def refused(self) -> bool:
        return bool(self._call("refused"))

    def connected(self) -> None:
        self._call("connected")

    def disconnected(self) -> None:
        self._call("disconnected")

    def subscribe(self, topic: str) -> None:
        self._call("subscribe", topic)

    def pause(self, topic: str) -> None:
        self._call("pause", topic)

    def resume(self, topic: str) -> None:
        self._call("resume", topic)

    def send(self, topic: str, data: Any) -> str:
        return str(self._call("send", topic, data))

    def retry(self) -> None:
        self._call("retry")

    def to_send(self) -> list[str]:
        return list(self._call("toSend"))

    def received(self, text: str) -> list[Event]:
        return [EVENTS[event.pop("kind")](**event) for event in self._call("received", text)]


EVENTS: dict[str, Callable[..., Event]] = {
    "delivered": Delivered,
    "hole": Hole,
    "subscribed": Subscribed,
    "answered": Answered,
    "refused": Refused,
    "postponed": Postponed,
    "caught up": CaughtUp,
}


@pytest.mark.parametrize("first_seed", range(40, 60, 5))
def test_every_subscription_gets_every_message_once_and_in_order_or_is_told(node: str, first_seed: int) -> None:
    driver = ROOT / "tests" / "web" / "session_driver.mjs"
    with subprocess.Popen([node, driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for seed in range(first_seed, first_seed + 5):
            run = Run(SessionInNode(process), seed)
            run.play()
            assert list(run.faults()) == [], seed


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout.strip()
