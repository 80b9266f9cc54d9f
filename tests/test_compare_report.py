"""What the comparison reads and prints."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadtests import contender, report, stack
from loadtests.bench import Measurement
from loadtests.contender import Contender
from loadtests.workloads import WORKLOADS, Workload

EVERYBODY = contender.load_all()


def workload(name: str) -> Workload:
    return next(one for one in WORKLOADS if one.name == name)


@pytest.mark.parametrize("one", EVERYBODY, ids=[one.name for one in EVERYBODY])
def test_a_contender_says_how_it_is_started_and_spoken_with(one: Contender) -> None:
    assert "{body}" in one.conversation.publish
    assert all(line.startswith(("> ", "< ")) for line in one.conversation.greet + one.conversation.join)
    assert "{port}" in " ".join([*one.command, *one.environment.values(), config_of(one)])


def config_of(one: Contender) -> str:
    return (contender.FOLDER / one.config).read_text() if one.config else ""


def measured(name: str, deliveries: float) -> Measurement:
    figures = dict.fromkeys((figure.name for figure in workload("one_room").figures), 1.0)
    return Measurement(name, "one_room", figures | {"deliveries_per_second": deliveries})


def test_the_table_has_medians_spreads_and_ratios_best_first() -> None:
    measurements = [measured("usual_loop", value) for value in (40_000, 50_000, 45_000)]
    measurements += [measured("template", 900_000), Measurement("channels", "one_room", failure="did not come up")]
    table = report.table(workload("one_room"), measurements, {"usual_loop": "the usual loop"}, {"nchan": "no nginx"})
    rows = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")]
    assert rows == ["|", "| template", "| the usual loop", "| channels", "| nchan"]
    assert "| the usual loop | 45,000 (40,000–50,000) |" in table
    assert "× 20 |" in table
    assert "- channels: did not come up" in table
    assert "| nchan | skipped: no nginx |" in table


def test_less_is_better_for_latency_and_memory() -> None:
    idle = workload("idle_1000")
    assert report.ratio(idle, ours=10.0, theirs=25.0) == "2.5"
    assert report.ratio(workload("one_room"), ours=10.0, theirs=25.0) == "0.4"


def test_a_stack_leaves_no_process_behind(tmp_path: Path) -> None:
    """Neither the server nor what the server started."""
    port = stack.free_port()
    code = f"""
import socket, subprocess
subprocess.Popen(["sleep", "60"])  # before it answers: who looks then finds both
listener = socket.create_server(("127.0.0.1", {port}))
while True:
    listener.accept()
"""
    cores = stack.Cores(0, 0)
    with stack.Stack(cores, tmp_path) as started:
        server = started._start("server", [sys.executable, "-c", code], 0, port, tmp_path, {})
        pids = server.pids
        assert len(pids) == 2
    deadline = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether it is there, and not only waiting for its parent to look at how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    with stack.Stack(stack.Cores(0, 0), tmp_path) as started, pytest.raises(stack.StartFailed, match="no such thing"):
        started._start("server", [sys.executable, "-c", "raise SystemExit('no such thing')"], 0, 1, tmp_path, {})


def test_an_unknown_contender_is_refused_with_the_known_ones() -> None:
    command = [sys.executable, "-m", "loadtests.compare", "--contenders", "template,tempalte"]
    refused = subprocess.run(command, cwd=contender.FOLDER.parents[1], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "unknown contenders: tempalte; known: bare_send," in refused.stderr
