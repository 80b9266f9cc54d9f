"""What makes a client's object a message, and what of it travels."""

import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_websocket.codes import ErrorCode
from distributed_websocket.exceptions import InvalidMessage, InvalidSubscription
from distributed_websocket.message import MAX_CONN_IDS, RESERVED, TYPES, Message, decode, encode, reference, stamped

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


# Reading


def test_a_frame_holds_one_object() -> None:
    assert decode('{"a":1}') == decode(b'{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{",
        "[1]",
        "1",
        '"a"',
        "null",
        "NaN",
        '{"a":NaN}',
        '"\\ud800"',
        b"\xff",
        "{}{}",
        "[" * 2000 + "]" * 2000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_anything_else_is_malformed(text: str | bytes) -> None:
    with pytest.raises(InvalidMessage) as refused:
        decode(text)
    assert refused.value.code == ErrorCode.MALFORMED_JSON
    assert refused.value.received == text


@given(json_values)
def test_what_is_encoded_is_decoded_again(value: Any) -> None:
    assert orjson.loads(encode(value)) == value


@pytest.mark.parametrize(
    ("ref", "kept"),
    [
        ("r", "r"),
        ("", ""),
        ("x" * 128, "x" * 128),
        ("x" * 129, None),
        (5, 5),
        (-(2**53) + 1, -(2**53) + 1),
        (2**53, None),
        (True, None),
        (1.5, None),
        (None, None),
        ([], None),
    ],
    ids=str,
)
def test_a_reference_is_short_text_or_an_integer_that_javascript_keeps(ref: object, kept: object) -> None:
    assert reference({"ref": ref}) == kept
    assert reference({}) is None


# Validity


@pytest.mark.parametrize("kind", sorted(TYPES - {"broadcast", "send_by_conn_id", "authenticate"}))
def test_a_message_has_a_topic(kind: str) -> None:
    message = Message.from_client_message(data={"type": kind, "topic": "room/1", "x": 1, "ref": "r"})
    assert (message.type, message.topic, message.conn_id, message.data) == (kind, "room/1", None, {"x": 1, "ref": "r"})
    assert (message.ref, message.get("x"), message.get("y")) == ("r", 1, None)


@pytest.mark.parametrize("conn_id", ["c", ["c"], ["c"] * MAX_CONN_IDS])
def test_a_message_to_connections_has_their_ids(conn_id: str | list[str]) -> None:
    assert Message.from_client_message(data={"type": "send_by_conn_id", "conn_id": conn_id}).conn_id == conn_id


@pytest.mark.parametrize(("conn_id", "conn_ids"), [(None, ()), ([], ()), ("c1", ("c1",)), (["c1", "c2"], ("c1", "c2"))])
def test_the_connections_addressed_are_a_tuple(conn_id: str | list[str] | None, conn_ids: tuple[str, ...]) -> None:
    assert Message(conn_id=conn_id).conn_ids == conn_ids


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (5, "not int"),
        ([], "not list"),
        ({}, "unknown type null"),
        ({"type": 5}, "unknown type int"),
        ({"type": []}, "unknown type list"),
        ({"type": "receive"}, "unknown type 'receive'"),
        ({"type": "send"}, "needs a topic: text, not null"),
        ({"type": "send", "topic": 5}, "needs a topic: text, not int"),
        ({"type": "send", "topic": "a", "conn_id": "c"}, "has no conn_id"),
        ({"type": "send", "topic": "a", "conn_id": 0}, "has no conn_id"),
        ({"type": "subscribe", "topic": "a", "conn_id": "c"}, "has no conn_id"),
        ({"type": "broadcast", "conn_id": "c"}, "has no conn_id"),
        ({"type": "broadcast", "topic": "a"}, "has no topic"),
        ({"type": "authenticate", "topic": "a"}, "has no topic"),
        ({"type": "send_by_conn_id", "topic": "a", "conn_id": "c"}, "has no topic"),
        ({"type": "send_by_conn_id"}, "conn_id must be text or a list of 1 to 1000 texts, not null"),
        ({"type": "send_by_conn_id", "conn_id": 5}, "not int"),
        ({"type": "send_by_conn_id", "conn_id": []}, "not list"),
        ({"type": "send_by_conn_id", "conn_id": [5]}, "not list"),
        ({"type": "send_by_conn_id", "conn_id": ["c"] * (MAX_CONN_IDS + 1)}, "not list"),
        ({"type": "send", "topic": "a", "ref": []}, "ref must be text"),
        ({"type": "send", "topic": "a", "ref": True}, "ref must be text"),
        ({"type": "send", "topic": "a", "ref": "x" * 129}, "ref must be text"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_wrong_is_named(data: Any, words: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        Message.from_client_message(data=data)
    assert words in str(refused.value)
    assert refused.value.received == data


@pytest.mark.parametrize(
    "data", [{"type": "history", "topic": "a", "ephemeral": True}, {"type": "send", "topic": "a", "ephemeral": 1}]
)
def test_only_a_send_is_ephemeral_and_only_by_true(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage, match="ephemeral is true or false"):
        Message.from_client_message(data=data)
    assert Message.from_client_message(data={"type": "send", "topic": "a", "ephemeral": True}).get("ephemeral") is True
    assert Message.from_client_message(data={"type": "history", "topic": "a", "ephemeral": False}).type == "history"


def test_a_ref_of_null_is_none() -> None:
    assert Message.from_client_message(data={"type": "send", "topic": "a", "ref": None}).ref is None


@pytest.mark.parametrize("kind", sorted(TYPES - {"broadcast", "send_by_conn_id", "authenticate"}))
def test_only_subscriptions_may_have_wildcards(kind: str) -> None:
    data = {"type": kind, "topic": "a/#"}
    if kind in ("subscribe", "unsubscribe"):
        assert Message.from_client_message(data=data).topic == "a/#"
    else:
        with pytest.raises(InvalidSubscription):
            Message.from_client_message(data=data)


@pytest.mark.parametrize("kind", ["subscribe", "send"])
def test_the_length_of_a_topic_is_bounded(kind: str) -> None:
    with pytest.raises(InvalidSubscription, match="at most 5 bytes"):
        Message.from_client_message(data={"type": kind, "topic": "abcdef"}, max_topic_bytes=5)


def test_the_clients_object_is_left_as_it_is() -> None:
    data = {"type": "send", "topic": "a", "n": 1}
    Message.from_client_message(data=data).data["n"] = 2
    assert data == {"type": "send", "topic": "a", "n": 1}


@given(
    st.dictionaries(st.text(), json_values, max_size=4),
    st.sampled_from(["send", "history", "broadcast", "send_by_conn_id"]),
)
def test_serializing_gives_the_message_again(fields: dict[str, Any], kind: str) -> None:
    data = {key: value for key, value in fields.items() if key not in (*RESERVED, "ref", "ephemeral")}
    data["type"] = kind
    if kind in ("send", "history"):
        data["topic"] = "room/1"
    if kind == "send_by_conn_id":
        data["conn_id"] = ["c1"]
    message = Message.from_client_message(data=data)
    assert message.__serialize__() == data
    assert Message.from_client_message(data=message.__serialize__()) == message


# What travels


def test_the_body_is_the_senders_object_without_what_only_the_server_says() -> None:
    message = Message(topic="a", conn_id="c", data={"id": "9-9", "from": "mallory", "at": 1, "n": 1, "type": "x"})
    assert orjson.loads(message.body("alice")) == {"n": 1, "type": "send", "topic": "a", "from": "alice"}
    assert orjson.loads(message.body()) == {"n": 1, "type": "send", "topic": "a"}


@pytest.mark.parametrize(
    ("data", "fields"), [(None, {}), (5, {"data": 5}), ([1], {"data": [1]}), ("text", {"data": "text"})]
)
def test_a_service_may_send_any_value(data: Any, fields: dict[str, Any]) -> None:
    message = Message(topic="a", data=data)
    assert orjson.loads(message.body()) == {"type": "send", "topic": "a", **fields}
    assert (message.ref, message.get("x")) == (None, None)


@pytest.mark.parametrize("depth", [300, 1_000])
def test_what_can_be_read_and_not_written_is_an_invalid_message(depth: int) -> None:
    """orjson reads 1,024 levels and writes 254: the exception went through to the endpoint and ended it."""
    fields = decode('{"type":"send","topic":"a","data":' + "[" * depth + "]" * depth + "}")
    message = Message.from_client_message(data=fields)
    with pytest.raises(InvalidMessage, match="cannot be passed on"):
        message.body()


def test_a_stamp_is_the_servers_word_for_when() -> None:
    before = time.time_ns() // 1_000_000
    fields = decode(stamped(Message(topic="a", data={"n": 1, "at": "a word of the client's"}).body("alice")))
    assert before <= fields.pop("at") <= time.time_ns() // 1_000_000
    assert fields == {"n": 1, "type": "send", "topic": "a", "from": "alice"}


def test_messages_are_equal_by_what_they_say_and_show_no_data() -> None:
    assert Message(topic="a", data={"n": 1}) == Message(topic="a", data={"n": 1})
    assert Message(topic="a") != Message(topic="b")
    assert Message(topic="a") != "a"
    assert repr(Message(topic="a", data={"password": "x"})) == (
        "Message(type='send', topic='a', conn_id=None, data=dict)"
    )
    with pytest.raises(TypeError):
        hash(Message())
