"""The client of the comparison, against a server whose every fault is known."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loadtests import runtimes, stack
from loadtests.contender import Conversation
from loadtests.load_client import Answer, Load, LoadClient

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the client is compiled with cc")

MEMBERS = 4
CONVERSATION = Conversation(
    path="/ws/{room}",
    greet=("< who",),
    join=("> somebody of room {room}", "< welcome"),
    ask="ping?",
    answer="pong!",
    publish='{"data":"{body}"}',
)

Opened = tuple[LoadClient, Answer]


@pytest.fixture(scope="module")
def binary() -> Path:
    return runtimes.compile_client()


@pytest.fixture
def meet(binary: Path) -> Iterator[Callable[[str], Opened]]:
    """A client with four connections to a server with a fault, and what it said of opening them."""
    with contextlib.ExitStack() as things:

        def start(fault: str) -> Opened:
            port = stack.free_port()
            server = Path(__file__).with_name("faulty_room_server.py")
            process = subprocess.Popen([sys.executable, str(server), str(port), fault])
            things.callback(stack.stop, process)
            assert stack.answers(process, port)
            client = things.enter_context(
                LoadClient(
                    binary,
                    min(os.sched_getaffinity(0)),
                    port,
                    Load(connections=MEMBERS, rooms=1, publishers=1 if fault == "swaps" else 2),
                    CONVERSATION,
                    watch=[process.pid],
                )
            )
            return client, client.open(patience_seconds=30)

        yield start


def publish(client: LoadClient) -> Answer:
    """101 messages, of which each member should get every one."""
    return client.step(20.2, warm=0, seconds=5, drain=3, give_up_ms=20_000)


def test_a_faithful_server_delivered_everything_once_and_in_order(meet: Callable[[str], Opened]) -> None:
    client, opened = meet("")
    assert opened["ready"] == MEMBERS
    assert client.settle(30)["settled"]
    answer = publish(client)
    assert answer["sent"] == 101
    assert (answer["delivered"], answer["expected"]) == (101 * MEMBERS, 101 * MEMBERS)
    assert answer.fault(p99_limit_ms=float("inf")) == ""
    assert 0 < answer["p50_ms"] <= answer["p99_ms"] <= answer["max_ms"]
    assert answer["processes"][0]["rss_after"] > 1_000_000


@pytest.mark.parametrize(
    ("fault", "found", "said"),
    [
        ("drops", {"delivered": 101 * MEMBERS - 11, "duplicates": 0, "disordered": 0}, "11 of 404 deliveries missing"),
        ("repeats", {"delivered": 101 * MEMBERS, "duplicates": 11, "disordered": 0}, "11 deliveries duplicates"),
        ("swaps", {"delivered": 101 * MEMBERS - 1, "duplicates": 0, "disordered": 10}, "10 deliveries disordered"),
    ],
)
def test_what_a_server_does_wrong_is_counted(
    meet: Callable[[str], Opened], fault: str, found: dict[str, int], said: str
) -> None:
    client, _ = meet(fault)
    answer = publish(client)
    assert {name: answer[name] for name in found} == found
    assert answer.fault(p99_limit_ms=float("inf")) == said


def test_a_connection_that_ends_is_a_fault_with_its_reason(meet: Callable[[str], Opened]) -> None:
    client, _ = meet("sends away")
    answer = publish(client)
    assert answer.fault(p99_limit_ms=float("inf")) == "1 connections lost (closed with 4001 bye)"


def test_a_refused_handshake_says_how_it_was_refused(meet: Callable[[str], Opened]) -> None:
    _, opened = meet("refuses")
    assert opened["ready"] == 0
    assert opened["lost_connections"] == MEMBERS
    assert opened["first_loss"] == "refused: HTTP/1.1 403 Forbidden"


def test_latency_counts_from_when_a_message_was_due(meet: Callable[[str], Opened]) -> None:
    """A client that is stopped for a while sends late; what it measures must not forget that."""
    client, _ = meet("")
    stopped = subprocess.Popen(["sh", "-c", f"sleep 1; kill -STOP {client.pid}; sleep 0.6; kill -CONT {client.pid}"])
    answer = client.step(500, warm=0, seconds=4, give_up_ms=20_000)
    stopped.wait()
    assert answer["max_ms"] > 500
    assert answer["p50_ms"] < 250
