"""A client's session that hides nothing from the ledger."""

import json
from typing import Any

import pytest

from loadtests.audit import Audit, audit
from loadtests.chaos.witness import Books, WitnessSession

TOPIC = "room/1"


class Talk:
    """One client, what the server says to it, and what the ledger makes of that."""

    def __init__(self, *, recovers: bool = True) -> None:
        self.books = Books()
        self.session = WitnessSession("alice", TOPIC, self.books, recovers=recovers)

    def connect(self) -> list[dict[str, Any]]:
        self.session.connected()
        self.hear(type="welcome", worker="chat-1")
        return self.asked()

    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.session.to_send()]

    def hear(self, **fields: Any) -> None:
        self.session.received(json.dumps(fields))

    def subscribe(self, position: str, **more: Any) -> None:
        (request,) = [asked for asked in self.connect() if asked["type"] == "subscribe"]
        self.hear(type="subscribed", topic=TOPIC, position=position, epoch="e", ref=request["ref"], **more)

    def caught_up(self) -> None:
        (echo,) = [asked for asked in self.asked() if asked["type"] == "unsubscribe"]
        self.hear(type="unsubscribed", topic=echo["topic"], ref=echo["ref"])

    def say(self, position: str) -> int:
        """One message that is sent and acknowledged; its number."""
        self.session.say(0, "hello")
        (request,) = self.asked()
        self.hear(type="ack", ref=request["ref"], id=position)
        return int(request["data"]["n"])

    def get(self, number: int, position: str) -> None:
        self.hear(type="send", topic=TOPIC, data={"n": number}, id=position)

    @property
    def judged(self) -> Audit:
        return audit(self.books.ledger)


@pytest.fixture
def talk() -> Talk:
    talk = Talk()
    talk.subscribe("1-0")
    return talk


def test_a_message_that_comes_twice_is_noted_although_the_client_drops_it(talk: Talk) -> None:
    number = talk.say("2-0")
    talk.get(number, "2-0")
    talk.get(number, "2-0")
    assert (talk.judged.delivered, talk.judged.duplicates) == (1, 1)


def test_what_is_missed_while_away_is_expected_from_the_next_connection(talk: Talk) -> None:
    talk.get(talk.say("2-0"), "2-0")
    missed = talk.say("3-0")
    talk.session.disconnected()
    talk.subscribe("2-0", recovered=True)
    assert talk.judged.missing == 1
    talk.get(missed, "3-0")
    assert (talk.judged.missing, talk.books.tally.recovered) == (0, 1)


def test_without_recovery_nothing_is_asked_for_and_everything_expected() -> None:
    talk = Talk(recovers=False)
    talk.subscribe("1-0")
    talk.get(talk.say("2-0"), "2-0")
    talk.say("3-0")
    talk.session.disconnected()
    (request,) = talk.connect()
    assert "since" not in request
    talk.hear(type="subscribed", topic=TOPIC, position="3-0", epoch="e", ref=request["ref"])
    assert (talk.judged.missing, talk.judged.unrecovered) == (1, 0)


def test_a_hole_that_the_server_tells_of_is_counted(talk: Talk) -> None:
    talk.session.disconnected()
    talk.subscribe("9-0", recovered=False)
    assert talk.judged.unrecovered == 1


def test_a_hole_in_the_midst_of_a_connection_is_counted_too(talk: Talk) -> None:
    talk.hear(type="subscribed", topic=TOPIC, position="9-0", epoch="f", recovered=False)
    assert talk.judged.unrecovered == 1


def test_it_is_away_from_the_first_sign_until_it_has_caught_up(talk: Talk) -> None:
    assert talk.session.away_since_ns is None
    talk.hear(type="reconnect", within_seconds=5)
    since = talk.session.away_since_ns
    assert since is not None
    talk.session.disconnected()
    talk.subscribe("1-0", recovered=True)
    assert talk.session.away_since_ns == since
    talk.caught_up()
    assert talk.session.away_since_ns is None
    assert talk.session.longest_wait_ns > 0
    assert (talk.session.times_lost, talk.books.tally.drain_seconds) == (1, 5)
    talk.session.watch()
    assert (talk.session.times_lost, talk.session.longest_wait_ns) == (0, 0)


def test_a_message_without_an_ack_is_sent_again_with_the_same_ref(talk: Talk) -> None:
    talk.session.say(0, "hello")
    (first,) = talk.asked()
    talk.session.disconnected()
    assert first in talk.connect()


def test_a_delivery_before_the_subscription_is_noted_as_wrong() -> None:
    talk = Talk()
    talk.connect()
    talk.get(0, "2-0")
    assert talk.books.tally.unreadable == {"ValueError('a delivery before `subscribed`')": 1}
