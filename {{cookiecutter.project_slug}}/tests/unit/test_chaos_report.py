"""What a chaos run says: a row for each fault, and why it is not passed."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from loadtests.audit import audit
from loadtests.chaos import page, report, table
from loadtests.chaos.report import ChaosReport, Difference, FaultRow, busiest_worker_excess, judge, percentile
from loadtests.chaos.witness import Tally
from loadtests.ledger import Ledger, Subscription
from loadtests.report import write_json
from tests.load_reports import made as made_report
from tests.load_reports import processes
from tests.pages import parsed

SECOND = 1_000_000_000


class Room:
    """A ledger with two members in one room, and what they hear of each message."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.members = [self.ledger.open(f"user-{n}", "room/1", "chat-1", "0-0", epoch="e") for n in (1, 2)]

    def say(self, *receivers: Subscription, acknowledged: bool = True) -> int:
        number = self.ledger.send("room/1", "chat-1", 0)
        position = f"{number + 1}-0"
        if acknowledged:
            self.ledger.acknowledge(number, position)
        for receiver in receivers or self.members:
            self.ledger.deliver(receiver, number, position, 1)
        return number


def made(difference: Difference, **fields: Any) -> FaultRow:
    given: dict[str, Any] = {
        "fault": "kill-worker",
        "target": "chat-1",
        "at_seconds": 1,
        "lasted_seconds": 2,
        "waits_ms": [100.0, 2000.0],
        "lost_connection": 2,
        "not_back": 0,
        "difference": difference,
        "tally": Tally(recovered=2),
        "workers": 3,
        "is_roll": False,
        "problems": [],
    }
    return report.row(**{**given, **fields})


def flawless() -> Difference:
    room = Room()
    room.say()
    return Difference(None, audit(room.ledger))


def reasons(*rows: FaultRow, **more: Any) -> list[str]:
    return judge(rows, [row["fault"] for row in rows], **more)["reasons"]


def test_what_was_lost_belongs_to_the_fault_in_which_it_was_sent() -> None:
    room = Room()
    room.say()
    before = audit(room.ledger)
    room.say(room.members[0])
    row = made(Difference(before, audit(room.ledger)))
    assert (row["sent"], row["lost"], row["duplicated"], row["out_of_order"]) == (1, 1, 0, 0)
    assert row["missing_examples"] == [{"position": "2-0", "topic": "room/1", "user": "user-2"}]
    assert reasons(row) == ["kill-worker: 1 deliveries lost: room/1 2-0 for user-2"]
    after = audit(room.ledger)
    assert made(Difference(after, after))["lost"] == 0


def test_what_came_twice_or_too_late_is_counted() -> None:
    room = Room()
    first, second = room.say(room.members[0]), room.say(*room.members)
    room.ledger.deliver(room.members[1], first, "1-0", 1)
    room.ledger.deliver(room.members[0], second, "2-0", 1)
    row = made(Difference(None, audit(room.ledger)))
    assert (row["lost"], row["duplicated"], row["out_of_order"]) == (0, 1, 1)
    assert reasons(row) == ["kill-worker: delivered more than once: 1", "kill-worker: after a later message: 1"]


def test_a_message_without_an_ack_is_a_reason() -> None:
    room = Room()
    room.say(acknowledged=False)
    assert "kill-worker: messages never acknowledged: 1" in reasons(made(Difference(None, audit(room.ledger))))


def test_a_message_that_was_stored_twice_is_a_reason() -> None:
    room = Room()
    number = room.say()
    room.ledger.acknowledge(number, "9-0")
    row = made(Difference(None, audit(room.ledger)))
    assert reasons(row) == ["kill-worker: deliveries that are wrong in another way: 1"]


def test_a_hole_that_was_told_is_a_reason_too() -> None:
    room = Room()
    room.say()
    room.ledger.close(room.members[0])
    room.ledger.open("user-1", "room/1", "chat-1", "5-0", epoch="e", previous=room.members[0], recovered=False)
    row = made(Difference(None, audit(room.ledger)))
    assert (row["recovered"], row["unrecovered"]) == (2, 1)
    assert reasons(row) == ["kill-worker: clients were told of a hole (`recovered: false`): 1"]


def test_nothing_lost_is_passed() -> None:
    assert judge([made(flawless())], ["kill-worker"]) == {"outcome": "passed", "reasons": [], "notes": []}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"waits_ms": []}, "it hit nobody"),
        ({"not_back": 3}, "3 clients are not back"),
        ({"problems": ["every client kept its connection"]}, "every client kept its connection"),
        ({"tally": Tally(unreadable=Counter(["KeyError('id')"]))}, "KeyError('id') (1)"),
        (
            {"tally": Tally(drain_seconds=5), "waits_ms": [10_100.0]},
            "the last client was back after 10.1 s, asked for was 5 s",
        ),
    ],
)
def test_each_of_these_fails_a_run(fields: dict[str, Any], reason: str) -> None:
    verdict = judge([made(flawless(), **fields)], ["kill-worker"])
    assert (verdict["outcome"], verdict["reasons"]) == ("failed", [f"kill-worker: {reason}"])


def test_on_a_machine_that_is_too_busy_times_are_no_reason() -> None:
    row = made(flawless(), tally=Tally(drain_seconds=5), waits_ms=[10_100.0])
    verdict = judge([row], ["kill-worker"], said_late_p99_ms=300)
    assert verdict["outcome"] == "passed"
    assert verdict["notes"] == [
        "kill-worker: the last client was back after 10.1 s, asked for was 5 s",
        "the clients spoke up to 300 ms late (p99): this machine was too busy to judge times",
    ]


def test_a_fault_that_did_not_strike_fails_a_run() -> None:
    verdict = judge([made(flawless())], ["kill-worker", "freeze-redis"])
    assert (verdict["outcome"], verdict["reasons"]) == ("failed", ["freeze-redis: did not happen"])


def test_what_could_not_be_undone_fails_a_run() -> None:
    assert reasons(made(flawless()), troubles=["chat-1 is not ready"]) == ["chat-1 is not ready"]


def test_an_interrupted_run_says_so() -> None:
    assert judge([], ["kill-worker"], interrupted=True)["outcome"] == "interrupted"


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, 50.0), (0.99, 99.0), (1, 100.0)])
def test_percentiles_are_by_nearest_rank(fraction: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], fraction) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([], 0.5) is None


def handshakes(seconds: int, *workers: str) -> list[tuple[int, str]]:
    """Sixty each second, the workers in turn."""
    return [(n * SECOND // 60, workers[n % len(workers)]) for n in range(60 * seconds)]


def test_an_even_spread_has_no_excess() -> None:
    assert busiest_worker_excess(handshakes(3, "chat-1", "chat-2"), workers=2) == pytest.approx(0, abs=0.03)


def test_one_bad_second_is_enough() -> None:
    bad = [(at + 3 * SECOND, worker) for at, worker in handshakes(1, "chat-1", "chat-1", "chat-2")]
    worst = busiest_worker_excess([*handshakes(3, "chat-1", "chat-2"), *bad], workers=2)
    assert worst == pytest.approx(1 / 3, abs=0.03)
    row = made(flawless(), tally=Tally(handshakes=[*handshakes(3, "chat-1", "chat-2"), *bad]), workers=3, is_roll=True)
    assert "a worker got its share +3" in reasons(row)[0]


def test_a_few_handshakes_say_nothing() -> None:
    assert busiest_worker_excess([(n, "chat-1") for n in range(20)], workers=2) is None


def test_a_spread_that_was_not_judged_is_said() -> None:
    few = Tally(handshakes=[(n, "chat-1") for n in range(39)])
    verdict = judge([made(flawless(), fault="roll-workers", tally=few, is_roll=True)], ["roll-workers"])
    assert (verdict["outcome"], len(verdict["notes"])) == ("passed", 1)
    assert verdict["notes"][0].startswith("roll-workers: no second had 40 new connections")
    enough = Tally(handshakes=handshakes(2, "chat-1", "chat-2"))
    row = made(flawless(), fault="roll-workers", tally=enough, is_roll=True)
    assert judge([row], ["roll-workers"])["notes"] == []


def whole(*rows: FaultRow) -> ChaosReport:
    return ChaosReport(
        schema=report.SCHEMA,
        verdict=judge(rows, [row["fault"] for row in rows]),
        started_at="2026-01-01T00:00:00+00:00",
        settings={"seed": 1},
        rows=list(rows),
        sent=1,
        acknowledged=1,
        expected=2,
        delivered=2,
        said_late_p99_ms=1.0,
        versions={"python": "3"},
        machine={"cpus": 2},
        matrix=made_report()["matrix"],
        same_worker=made_report()["same_worker"],
        other_worker=made_report()["other_worker"],
        timeline=made_report()["timeline"],
        processes=processes(),
    )


def test_the_table_has_a_row_for_each_fault() -> None:
    text = table.render(whole(made(flawless())))
    cells = next(line for line in text.splitlines() if "kill-worker chat-1" in line).split()
    assert cells == ["kill-worker", "chat-1", "2", "0.10", "2.00", "2.00", "1", "0", "0", "0", "2", "0"]
    assert text.endswith("PASSED: 2 of 2 deliveries, 1 of 1 messages acknowledged, 1 faults")


def test_a_run_without_rows_can_be_shown() -> None:
    assert table.render(whole()).startswith("PASSED")
    assert parsed(page.render(whole())).verdict == "PASSED"


def test_the_page_says_first_what_came_of_it() -> None:
    shown = parsed(page.render(whole(made(flawless()))))
    assert shown.verdict == "PASSED"
    assert shown.headline == (
        "1 fault, and 2 of 2 deliveries arrived: nothing was lost, doubled or out of order, "
        "and everybody was back in time."
    )
    lost = whole(made(flawless()) | {"lost": 7})
    assert parsed(page.render(lost)).verdict == "FAILED"
    assert "kill-worker: 7 deliveries lost" in parsed(page.render(lost)).headline


def test_the_page_has_a_row_and_a_bar_for_each_fault() -> None:
    shown = parsed(page.render(whole(made(flawless()), made(flawless(), fault="freeze-redis", target="redis"))))
    rows = shown.tables["A row for each fault"]
    assert [row[0] for row in rows[1:]] == ["kill-worker chat-1", "freeze-redis redis"]
    assert dict(zip(rows[0], rows[1], strict=True)) == {
        "fault": "kill-worker chat-1",
        "at": "1.0",
        "lasted": "2.0",
        "hit": "2",
        "lost connection": "2",
        "back, p50": "0.10",
        "back, p99": "2.00",
        "back, last": "2.00",
        "sent": "1",
        "lost": "0",
        "twice": "0",
        "out of order": "0",
        "recovered": "2",
        "not recovered": "0",
    }
    assert shown.charts["Faults"].count('<rect class="bar"') == 2
    assert shown.charts["Latency to another worker, over time"].count('<rect class="band"') == 2


def test_the_page_carries_the_report() -> None:
    written = whole(made(flawless()))
    assert parsed(page.render(written)).data == json.loads(json.dumps(written))


def test_the_file_holds_the_report_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "chaos.json"
    write_json(whole(made(flawless())), path)
    assert json.loads(path.read_text("utf-8")) == json.loads(json.dumps(whole(made(flawless()))))
    assert [one.name for one in path.parent.iterdir()] == ["chaos.json"], "no draft is left"
