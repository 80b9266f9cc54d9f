"""What a client says and makes of the answers, without a network."""

import json
from typing import Any

import pytest

from distributed_websocket.client.events import (
    DIRECT,
    Answered,
    CaughtUp,
    Delivered,
    Drain,
    Event,
    Hole,
    Postponed,
    Refused,
    Subscribed,
    TokenExpired,
    Welcomed,
)
from distributed_websocket.client.place import MAX_TOPICS, Place, overlap
from distributed_websocket.client.session import RETRY_AT_ONCE, ClientSession
from tests.session_model import Run


def heard(session: ClientSession, **fields: Any) -> list[Event]:
    return session.received(json.dumps(fields))


def sent(session: ClientSession) -> list[dict[str, Any]]:
    return [json.loads(text) for text in session.to_send()]


def subscribed(session: ClientSession, topic: str, position: str | None = "1-0") -> None:
    session.subscribe(topic)
    ref = sent(session)[-1]["ref"]
    heard(session, type="subscribed", topic=topic, position=position, epoch=position and "one", ref=ref)


def connected() -> ClientSession:
    session = ClientSession()
    session.connected()
    return session


@pytest.mark.parametrize("first_seed", range(0, 200, 20))
def test_every_subscription_gets_every_message_once_and_in_order_or_is_told(first_seed: int) -> None:
    holes = 0
    for seed in range(first_seed, first_seed + 20):
        session = ClientSession()
        run = Run(session, seed)
        run.play()
        assert list(run.faults()) == [], seed
        assert all(place.live and place.held is None for place in session.places.values()), seed
        holes += run.holes
    assert holes


# One rule after the other


def test_refs_of_two_sessions_never_meet() -> None:
    refs = {session.send("a", 1) for session in (ClientSession(), ClientSession()) for _ in range(10)}
    assert len(refs) == 20


def test_before_a_connection_nothing_is_said() -> None:
    session = ClientSession()
    session.send("a", 1)
    session.subscribe("a")
    assert sent(session) == []
    session.connected()
    assert [message["type"] for message in sent(session)] == ["subscribe", "send"]
    assert sent(session) == []


def test_a_place_is_resumed_behind_the_last_message() -> None:
    session = connected()
    subscribed(session, "a")
    heard(session, type="send", topic="a", id="3-7")
    session.disconnected()
    session.connected()
    (again,) = sent(session)
    assert again["since"] == {"position": "3-7", "epoch": "one"}
    assert heard(session, type="subscribed", topic="a", position="3-7", epoch="two", recovered=True, ref=again["ref"])
    assert session.places["a"].epoch == "one"  # what was recovered is of the life that was asked for


def test_positions_are_compared_as_numbers() -> None:
    session = connected()
    subscribed(session, "a", "9-9")
    assert heard(session, type="send", topic="a", id="9-10") != []
    assert heard(session, type="send", topic="a", id="10-0") != []
    assert heard(session, type="send", topic="a", id="9-11") == []


def test_messages_without_a_position_are_never_duplicates() -> None:
    session = connected()
    subscribed(session, "a", None)
    assert [heard(session, type="send", topic="a", data=1) for _ in range(2)] == [
        [Delivered("a", {"type": "send", "topic": "a", "data": 1})]
    ] * 2


def test_messages_for_everybody_and_for_this_connection_are_direct() -> None:
    session = connected()
    (event,) = heard(session, type="broadcast", data=1)
    assert event == Delivered(DIRECT, {"type": "broadcast", "data": 1})


def test_what_comes_for_nobody_is_dropped() -> None:
    session = connected()
    subscribed(session, "a")
    assert heard(session, type="send", topic="b", id="5-0") == []
    session.unsubscribe("a")
    assert heard(session, type="send", topic="a", id="6-0") == []
    assert heard(session, type="subscribed", topic="a", position="7-0", epoch="one", recovered=False) == []


def test_an_answer_to_an_earlier_subscription_is_passed_over() -> None:
    session = connected()
    session.subscribe("a")
    (first,) = sent(session)
    session.unsubscribe("a")
    session.subscribe("a")
    _, second = sent(session)
    assert heard(session, type="subscribed", topic="a", position="1-0", epoch="one", ref=first["ref"]) == []
    assert heard(session, type="send", topic="a", id="2-0") == []
    assert heard(session, type="subscribed", topic="a", position="3-0", epoch="one", ref=second["ref"]) == [
        Subscribed("a")
    ]


def test_a_hole_told_unasked_moves_the_position_to_the_new_log() -> None:
    session = connected()
    subscribed(session, "a", "50-0")
    told = heard(session, type="subscribed", topic="a", position="2-0", epoch="two", recovered=False)
    assert told == [Hole("a")]
    assert heard(session, type="send", topic="a", id="3-0") != []
    assert (session.places["a"].position, session.places["a"].epoch) == ("3-0", "two")


def test_a_hole_in_one_shard_gives_a_pattern_over_all_of_them_no_position() -> None:
    session = connected()
    subscribed(session, "+", None)
    told = heard(session, type="subscribed", topic="+", position="9-0", epoch="two", recovered=False)
    assert told == [Hole("+")]
    assert heard(session, type="send", topic="b", id="3-0") != []
    session.disconnected()
    session.connected()
    (again,) = sent(session)
    assert "since" not in again


def test_what_was_held_is_delivered_before_a_hole() -> None:
    session = connected()
    subscribed(session, "a")
    subscribed(session, "+")
    session.disconnected()
    session.connected()
    ref = sent(session)[0]["ref"]
    heard(session, type="subscribed", topic="a", position="1-0", epoch="one", recovered=True, ref=ref)
    assert heard(session, type="send", topic="a", id="3-0") == []
    assert heard(session, type="send", topic="a", id="2-0") == []
    told = heard(session, type="subscribed", topic="a", position="9-0", epoch="two", recovered=False)
    assert [event.message["id"] for event in told if isinstance(event, Delivered)] == ["2-0", "3-0"]
    assert told[-1] == Hole("a")


def test_the_memory_for_a_pattern_over_all_shards_is_bounded() -> None:
    place = Place()
    for number in range(MAX_TOPICS + 10):
        assert place.take(f"{number}", "1-0")
    assert len(place.newest) == MAX_TOPICS
    assert not place.take(f"{MAX_TOPICS}", "1-0")


def test_a_request_is_forgotten_when_nobody_waits_for_it() -> None:
    session = connected()
    first, second = session.send("a", 1), session.send("a", 2)
    session.forget(first)
    assert [message["ref"] for message in sent(session)] == [second]
    session.forget(second)
    session.forget(second)
    assert heard(session, type="ack", ref=second, id="1-0") == []
    session.disconnected()
    session.connected()
    assert sent(session) == []


def test_what_is_only_for_one_connection_is_not_repeated_on_the_next() -> None:
    session = connected()
    subscribed(session, "a")
    session.authenticate("a token")
    session.echo()
    session.unsubscribe("a")
    asked = session.history("b", 5, "7-0"), session.presence("b")
    session.disconnected()
    session.connected()
    assert [message["ref"] for message in sent(session)] == list(asked)


def test_what_is_refused_for_now_holds_up_what_comes_behind_it() -> None:
    session = connected()
    refs = [session.send("a", number) for number in range(RETRY_AT_ONCE + 10)]
    sent(session)
    assert heard(session, type="error", code="rate_limited", detail="", ref=refs[0]) == [Postponed()]
    for ref in reversed(refs[1:]):
        heard(session, type="error", code="unavailable", detail="", ref=ref)
    refs.append(session.send("a", "later"))
    urgent = session.authenticate("a token")
    assert [message["ref"] for message in sent(session)] == [urgent]
    session.retry()
    assert [message["ref"] for message in sent(session)] == refs[:RETRY_AT_ONCE]
    assert session.refused
    session.retry()
    assert [message["ref"] for message in sent(session)] == refs[RETRY_AT_ONCE:]
    assert not session.refused


def test_a_refusal_for_good_ends_the_request() -> None:
    session = connected()
    ref = session.send("a", 1)
    assert heard(session, type="error", code="too_large", detail="why", ref=ref) == [
        Refused(ref, None, "too_large", "why")
    ]
    session.subscribe("a/#")
    ref = sent(session)[-1]["ref"]
    assert heard(session, type="error", code="not_allowed", detail="", ref=ref) == [
        Refused(ref, "a/#", "not_allowed", "")
    ]
    assert session.places == {}
    session.subscribe("a/#")
    assert heard(session, type="error", code="malformed_json", detail="") == [Refused(None, None, "malformed_json", "")]


def test_the_end_of_the_catch_up_is_told_when_the_last_subscription_is_refused_or_given_up() -> None:
    for ends in ("refused", "given up", "paused"):
        session = connected()
        subscribed(session, "a")
        subscribed(session, "b")
        session.disconnected()
        session.connected()
        one, other = (message["ref"] for message in sent(session))
        heard(session, type="subscribed", topic="a", position="1-0", epoch="one", recovered=True, ref=one)
        heard(session, type="send", topic="a", id="2-0")
        assert sent(session) == []
        if ends == "refused":
            heard(session, type="error", code="not_allowed", detail="", ref=other)
        elif ends == "given up":
            session.unsubscribe("b")
        else:
            session.pause("b")
        echo = sent(session)[-1]["ref"]
        answer = {"type": "unsubscribed", "topic": "$echo", "ref": echo}
        assert heard(session, **answer) == [Answered(echo, answer), CaughtUp(1)]


def test_a_pause_without_a_connection_says_nothing() -> None:
    session = connected()
    subscribed(session, "a")
    session.disconnected()
    session.pause("a")
    session.connected()
    assert sent(session) == []
    session.resume("a")
    assert [message["type"] for message in sent(session)] == ["subscribe"]


def test_what_is_said_of_the_connection_is_told() -> None:
    session = connected()
    assert heard(session, type="welcome", worker="w") == [Welcomed({"type": "welcome", "worker": "w"})]
    assert heard(session, type="reconnect", within_seconds=3) == [Drain(3.0)]
    assert heard(session, type="token_expired") == [TokenExpired()]


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"type":"send","topic":"a","id":"nonsense"}'])
def test_what_is_none_of_the_protocol_is_refused(text: str) -> None:
    session = connected()
    subscribed(session, "a")
    with pytest.raises(ValueError, match=r"JSON|position|literal"):
        session.received(text)


@pytest.mark.parametrize(
    ("one", "other", "whether"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a/+", "+/b", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a", "a/#", True),
        ("#", "anything/at/all", True),
        ("a/+/c", "a/b/+", True),
        ("a/+/c", "b/+/c", False),
        ("a/+/#", "a", False),
        ("a/b/#", "a", False),
        ("+", "a", True),
    ],
)
def test_patterns_overlap_when_a_topic_can_match_both(one: str, other: str, whether: bool) -> None:
    assert overlap(one, other) is whether
    assert overlap(other, one) is whether


def test_what_is_ephemeral_is_said_once_without_a_ref_or_not_at_all() -> None:
    session = ClientSession()
    session.send_ephemeral("room/1", "typing")
    session.connected()
    assert sent(session) == []
    session.send_ephemeral("room/1", "typing")
    assert sent(session) == [{"type": "send", "topic": "room/1", "data": "typing", "ephemeral": True}]
    session.disconnected()
    session.connected()
    assert sent(session) == []
