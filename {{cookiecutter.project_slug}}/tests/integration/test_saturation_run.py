"""The whole saturation run, as a process, against a service that is right or wrong in a known way (`fake_chat.py`)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fake_chat import SECRET, Fault
from tests.fake_service import DEADLINE_SECONDS, ROOT, environment, fake_service
from tests.pages import parsed
from tests.redis_server import free_port


@dataclass
class Saturation:
    environment: dict[str, str]
    url: str
    report: Path

    def start(self, fault: Fault = Fault.NONE, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "loadtests.saturation"],
            cwd=ROOT,
            env=self.environment | {"LOADTEST_URL": f"{self.url}/{fault}/ws"} | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, fault: Fault = Fault.NONE, **settings: str) -> tuple[int, str]:
        process = self.start(fault, **settings)
        try:
            output, _ = process.communicate(timeout=DEADLINE_SECONDS)
        finally:
            process.kill()
        return process.returncode, output

    def read(self) -> dict[str, Any]:
        return dict(json.loads(self.report.read_text("utf-8")))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where the fake service answers."""
    with fake_service(tmp_path_factory.mktemp("fake")) as number:
        yield number


@pytest.fixture
def saturation(port: int, tmp_path: Path) -> Saturation:
    report = tmp_path / "saturation.json"
    settings = {
        "CHAT_WORKERS": "3",
        "CHAT_TOKEN_SECRET": SECRET,
        "LOADTEST_USERS": "18",
        "LOADTEST_ROOMS": "3",
        "LOADTEST_P99_MS": "20000",
        "SATURATE_RATE": "20",
        "SATURATE_FACTOR": "2",
        "SATURATE_STEP_SECONDS": "1",
        "SATURATE_WARMUP_SECONDS": "0.5",
        "SATURATE_STEPS": "3",
        "SATURATE_REPORT": str(report),
    }
    return Saturation(environment() | settings, f"ws://127.0.0.1:{port}", report)


def test_each_step_is_faster_and_has_its_own_figures(saturation: Saturation) -> None:
    code, output = saturation.run()
    assert code == 0, output
    assert "NO KNEE: Everything held at each step, up to 80 messages per second." in output
    report = saturation.read()
    assert [step["rate"] for step in report["steps"]] == [20, 40, 80]
    assert [step["sent"] for step in report["steps"]] == [30, 60, 120]
    assert [step["expected"] for step in report["steps"]] == [180, 360, 720]
    assert all(step["delivered"] == step["expected"] and step["outcome"] == "held" for step in report["steps"])
    for step in report["steps"]:
        assert 0 < step["latency"]["count"] < step["delivered"], "the warm-up does not count"
    assert report["by_worker"] == {"chat-1": 6, "chat-2": 6, "chat-3": 6}
    page = parsed(saturation.report.with_suffix(".html").read_text("utf-8"))
    assert page.data == report
    assert page.verdict == "NO KNEE"


def test_it_ends_at_the_step_in_which_the_delivery_breaks(saturation: Saturation) -> None:
    """chat-2 hangs up on somebody who has said the last words of the first step."""
    code, output = saturation.run(Fault.HANG_UP)
    assert code == 1, output
    assert "FAILED: Not even 20 messages per second held: 1 connections lost" in output
    assert "1 clients told of a hole (`recovered: false`)" in output
    assert len(saturation.read()["steps"]) == 1


def test_it_ends_at_the_step_that_is_too_slow(saturation: Saturation) -> None:
    code, output = saturation.run(Fault.LATE, LOADTEST_P99_MS="2900")
    assert code in (1, 3), output  # 3 where this machine is too busy to say
    if code == 1:
        assert "(at most 2,900 ms)" in output


def test_interrupting_says_what_held_so_far(saturation: Saturation) -> None:
    process = saturation.start(SATURATE_STEPS="100", SATURATE_FACTOR="1.01")
    assert process.stdout is not None
    while not (line := process.stdout.readline()).rstrip().endswith("held"):
        assert line, "it ended by itself"
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "INTERRUPTED: Stopped. Everything held at each step, up to 2" in output
    assert saturation.read()["knee"]["outcome"] == "interrupted"


def test_bad_settings_and_no_service_are_said_in_a_line(saturation: Saturation) -> None:
    code, output = saturation.run(SATURATE_FACTOR="1", LOADTEST_USERS="1")
    assert code == 2
    assert {line.split(" is ")[0] for line in output.splitlines()} == {"SATURATE_FACTOR", "LOADTEST_USERS"}
    code, output = saturation.run(LOADTEST_URL=f"ws://127.0.0.1:{free_port()}/ws")
    assert code == 2
    assert "`make up` starts the stack" in output
