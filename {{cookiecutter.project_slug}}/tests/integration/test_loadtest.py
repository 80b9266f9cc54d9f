"""The whole load test, as a process, against a service that is right or wrong in a known way (`fake_chat.py`)."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fake_chat import CROWD, HIT_EVERY, LATE_SECONDS, SECRET, Fault
from tests.fake_service import DEADLINE_SECONDS, ROOT, environment, fake_service
from tests.pages import parsed
from tests.redis_server import free_port


@dataclass
class Run:
    code: int
    output: str
    report: dict[str, Any]

    @property
    def reasons(self) -> str:
        return "\n".join(self.report["verdict"]["reasons"])


@dataclass
class LoadTest:
    """Load tests of the fake service: of a right one, or of one with a fault."""

    environment: dict[str, str]
    url: str
    report: Path

    def start(self, fault: Fault = Fault.NONE, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "loadtests"],
            cwd=ROOT,
            env=self.environment | {"LOADTEST_URL": f"{self.url}/{fault}/ws"} | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, fault: Fault = Fault.NONE, **settings: str) -> Run:
        process = self.start(fault, **settings)
        try:
            output, _ = process.communicate(timeout=DEADLINE_SECONDS)
        finally:
            process.kill()
        return Run(process.returncode, output, self.read())

    def read(self) -> dict[str, Any]:
        return dict(json.loads(self.report.read_text("utf-8"))) if self.report.exists() else {}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where the fake service answers."""
    with fake_service(tmp_path_factory.mktemp("fake")) as number:
        yield number


@pytest.fixture
def loadtest(port: int, tmp_path: Path) -> LoadTest:
    report = tmp_path / "report.json"
    settings = {
        "CHAT_WORKERS": "3",
        "CHAT_TOKEN_SECRET": SECRET,
        "LOADTEST_USERS": "18",
        "LOADTEST_ROOMS": "3",
        "LOADTEST_RATE": "90",
        "LOADTEST_DURATION_SECONDS": "1",
        "LOADTEST_P99_MS": "10000",
        "LOADTEST_REPORT": str(report),
    }
    return LoadTest(environment() | settings, f"ws://127.0.0.1:{port}", report)


def test_a_service_that_does_as_it_should_passes(loadtest: LoadTest) -> None:
    run = loadtest.run()
    assert run.code == 0, run.output
    assert "PASSED: 540 of 540 deliveries (ratio 1), 0 duplicates, 0 out of order" in run.output
    report = run.report
    assert report["totals"]["ratio"] == 1
    assert (report["totals"]["sent"], report["totals"]["acknowledged"]) == (90, 90)
    assert len(report["matrix"]) == 9
    assert all(cell["expected"] == cell["delivered"] > 0 for cell in report["matrix"])
    assert report["connections"]["by_worker"] == {"chat-1": 6, "chat-2": 6, "chat-3": 6}
    assert report["connections"]["rooms_missing"] == {}, "as many rooms as workers, and still each on all of them"
    assert report["connections"]["sticky_ratio"] == 1
    assert sum(second["delivered"] for second in report["timeline"]) == 540
    assert report["same_worker"]["count"] + report["other_worker"]["count"] == 540


def test_beside_the_report_is_a_page_of_the_same(loadtest: LoadTest) -> None:
    run = loadtest.run()
    path = loadtest.report.with_suffix(".html")
    assert path.name in run.output
    page = parsed(path.read_text("utf-8"))
    assert page.verdict == "PASSED"
    assert page.data == run.report
    assert "Not measured" in page.text, "nobody may take another stack of this machine for the one that was loaded"


def test_what_a_service_drops_repeats_and_reorders_is_found_and_told_apart(loadtest: LoadTest) -> None:
    run = loadtest.run(Fault.UNRELIABLE)
    assert run.code == 1, run.output
    wrong = Counter[tuple[str, str]]()
    for cell in run.report["matrix"]:
        for what in ("missing", "duplicates", "out_of_order"):
            wrong[cell["receiver"], what] += cell[what]
    assert +wrong == {
        ("chat-1", "missing"): 180 // HIT_EVERY,
        ("chat-2", "duplicates"): 180 // HIT_EVERY,
        ("chat-3", "out_of_order"): wrong["chat-3", "out_of_order"],
    }
    for reason in ("→ chat-1: ", "delivered more than once", "after a later message"):
        assert reason in run.reasons
        assert reason in run.output


def test_a_connection_that_is_hung_up_and_not_recovered_fails_the_run(loadtest: LoadTest) -> None:
    run = loadtest.run(Fault.HANG_UP)
    assert run.code == 1, run.output
    assert "connections lost: 1, namely 1011 at chat-2 (1)" in run.reasons
    assert "`recovered: false`" in run.reasons
    assert run.report["totals"]["missing"] == 0, "the client knows of its hole"


def test_workers_that_share_nothing_fail_between_every_two_of_them(loadtest: LoadTest) -> None:
    run = loadtest.run(Fault.SPLIT)
    assert run.code == 1, run.output
    for cell in run.report["matrix"]:
        same = cell["origin"] == cell["receiver"]
        assert cell["delivered"] == (cell["expected"] if same else 0)
        assert len(cell["missing_examples"]) == (0 if same else min(20, cell["missing"]))
        if not same:
            assert (
                f"{cell['origin']} → {cell['receiver']}: {cell['missing']} of {cell['missing']} missing" in run.output
            )
    assert "the workers do not share a log" in run.reasons


def test_a_slow_service_without_stickiness_fails_though_nothing_is_missing(loadtest: LoadTest) -> None:
    run = loadtest.run(Fault.LATE, LOADTEST_P99_MS="2900", LOADTEST_DURATION_SECONDS="2")
    assert run.code == 1, run.output
    assert run.report["totals"]["missing"] == 0
    p99 = run.report["other_worker"]["p99"]
    assert p99 >= LATE_SECONDS * 1000
    assert f"p99 to another worker is {p99:,.1f} ms (at most 2,900 ms)" in run.reasons
    assert "0 of 4 users that came back with the cookie reached their worker again" in run.reasons


def test_a_generator_with_too_much_to_do_makes_the_run_invalid(loadtest: LoadTest) -> None:
    # Allowed is a lag of a quarter of a millisecond; and what was sent must arrive, however busy this machine is.
    run = loadtest.run(LOADTEST_RATE="3000", LOADTEST_P99_MS="1")
    assert run.code == 3, run.output
    assert "INVALID" in run.output
    assert "the load generator" in run.reasons


@contextlib.contextmanager
def sending(loadtest: LoadTest, processes: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A load test that has begun to send and goes on for long; its process, and with it those that it started."""
    process = loadtest.start(LOADTEST_DURATION_SECONDS="600", LOADTEST_PROCESSES=processes)
    assert process.stdout is not None
    try:
        while "delivered" not in (line := process.stdout.readline()):
            assert line, "it ended by itself"
        yield process, [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    finally:
        process.kill()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_interrupting_says_what_was_measured_so_far_and_leaves_nothing_behind(
    loadtest: LoadTest, processes: str
) -> None:
    with sending(loadtest, processes) as (process, family):
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 130, output
    assert "INTERRUPTED: " in output
    totals = loadtest.read()["totals"]
    assert totals["delivered"] == totals["expected"] > 0
    assert not any(one.is_running() for one in family)


def test_several_processes_pass_like_one_with_every_message_counted_once(loadtest: LoadTest) -> None:
    run = loadtest.run(LOADTEST_PROCESSES="2", LOADTEST_ROOMS="4", LOADTEST_USERS="19", LOADTEST_RATE="91")
    assert run.code == 0, run.output
    report = run.report
    totals = report["totals"]
    assert (totals["sent"], totals["acknowledged"], totals["ratio"]) == (91, 91, 1)
    assert len(report["matrix"]) == 9
    assert all(cell["expected"] == cell["delivered"] > 0 for cell in report["matrix"])
    connections = report["connections"]
    assert (connections["users"], connections["joined"]) == (19, 19)
    assert sum(connections["by_worker"].values()) == 19
    assert connections["rooms_missing"] == {}
    assert connections["sticky_ratio"] == 1
    assert sum(second["delivered"] for second in report["timeline"]) == totals["delivered"]
    assert report["same_worker"]["count"] + report["other_worker"]["count"] == totals["delivered"]
    assert report["settings"]["processes"] == 2


def test_nobody_sends_before_the_members_of_all_processes_are_there(loadtest: LoadTest) -> None:
    run = loadtest.run(Fault.SHY, LOADTEST_PROCESSES="3", LOADTEST_USERS=str(CROWD))
    assert run.code == 0, run.output
    assert run.report["totals"]["sent"] == 90


def test_what_is_dropped_is_found_and_named_in_whichever_process_it_was_expected(loadtest: LoadTest) -> None:
    run = loadtest.run(Fault.UNRELIABLE, LOADTEST_PROCESSES="2", LOADTEST_ROOMS="6", LOADTEST_USERS="36")
    assert run.code == 1, run.output
    wrong = Counter[str]()
    for cell in run.report["matrix"]:
        wrong[cell["receiver"]] += cell["missing"]
        assert len(cell["missing_examples"]) == cell["missing"]
    assert +wrong == {"chat-1": 180 // HIT_EVERY}
    lost = [example for cell in run.report["matrix"] for example in cell["missing_examples"]]
    assert len({(one["topic"], one["position"], one["user"]) for one in lost}) == len(lost)
    assert all(one["topic"] in run.reasons for cell in run.report["matrix"] for one in cell["missing_examples"][:2])


def test_a_process_of_the_generator_that_dies_ends_the_run_with_a_sentence(loadtest: LoadTest) -> None:
    with sending(loadtest, "2") as (process, family):
        victim = family[1]
        victim.kill()
        output, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 3, output
    assert f"a process of the load generator (pid {victim.pid}) ended by signal 9" in output
    totals = loadtest.read()["totals"]
    assert totals["delivered"] == totals["expected"] > 0, "what the other one found is there"
    assert not any(one.is_running() for one in family)


def test_a_wrong_secret_is_found_before_anything_is_sent(loadtest: LoadTest) -> None:
    run = loadtest.run(CHAT_TOKEN_SECRET="another secret that has as many characters as it needs")
    assert run.code == 1, run.output
    assert "is CHAT_TOKEN_SECRET the one that the stack was started with?" in run.output
    assert run.report["totals"]["sent"] == 0


def test_where_nothing_answers_it_says_how_to_start_the_stack(loadtest: LoadTest) -> None:
    run = loadtest.run(LOADTEST_URL=f"ws://127.0.0.1:{free_port()}/ws")
    assert run.code == 2
    assert "`make up` starts the stack" in run.output
    assert run.report == {}


def test_bad_settings_end_it_with_a_line_each(loadtest: LoadTest) -> None:
    run = loadtest.run(LOADTEST_USERS="1", LOADTEST_RATE="fast")
    assert run.code == 2
    assert [line.split(" is ")[0] for line in run.output.splitlines()] == ["LOADTEST_USERS", "LOADTEST_RATE"]
