"""`distributed_websocket.wire`: the models say what the server takes and what it sends, no more and no less."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributed_websocket import wire
from distributed_websocket.asyncapi.messages import ANSWERS, EVENTS, MODELS, REQUESTS, schemas, type_of
from distributed_websocket.exceptions import WebSocketException
from distributed_websocket.message import MAX_REF_INTEGER, SERVER_TYPES, TYPES, Message
from distributed_websocket.requests import Requests
from tests.asyncapi_schemas import schemas_of_the_protocol

SCHEMAS = schemas_of_the_protocol()


def test_every_type_that_the_server_takes_has_a_model_and_nothing_else_has() -> None:
    assert {type_of(model) for model in REQUESTS} == TYPES
    assert set(Requests(None)._handlers) == TYPES  # type: ignore[arg-type]  # only its table is looked at


def test_every_type_that_only_the_server_says_is_kept_from_clients() -> None:
    assert {type_of(model) for model in ANSWERS + EVENTS} - TYPES == SERVER_TYPES


@pytest.mark.parametrize("model", MODELS)
def test_the_examples_of_a_model_are_valid(model: type[wire.WireModel]) -> None:
    assert model.examples
    for example in model.examples:
        assert SCHEMAS.faults(model.__name__, example) == []


@pytest.mark.parametrize(
    ("purpose", "models"), [("requests", REQUESTS), ("answers", ANSWERS), ("events", EVENTS)], ids=lambda value: value
)
def test_an_example_is_one_and_only_one_message_of_its_channel(
    purpose: str, models: tuple[type[wire.WireModel], ...]
) -> None:
    """The Operation Object demands it; the constant `type` brings it about."""
    for model in models:
        for example in model.examples:
            assert SCHEMAS.matching(purpose, example) == [model.__name__]


def test_what_the_server_says_by_itself_has_no_other_fields_and_what_others_published_may() -> None:
    open_to_others = {name for name, schema in schemas().items() if schema.get("additionalProperties") is True}
    assert open_to_others == {
        *("Send", "Broadcast", "SendByConnId"),
        *("Delivered", "DeliveredBroadcast", "DeliveredByConnId"),
    }
    closed = {name for name, schema in schemas().items() if schema.get("additionalProperties") is False}
    assert {model.__name__ for model in ANSWERS + EVENTS} - open_to_others <= closed


def test_a_client_that_leaves_out_a_field_is_told_which_by_the_schema() -> None:
    assert SCHEMAS.faults("Subscribe", {"type": "subscribe"}) == ["'topic' is a required property"]


# The server's own judge is the oracle. What is long is ASCII: the server counts bytes, the schema characters.
LEVELS = st.text(st.sampled_from("ab+#/$ \n\0é"), max_size=12)
TOPICS: st.SearchStrategy[object] = (
    LEVELS | st.integers(254, 257).map(lambda length: "a" * length) | st.none() | st.integers() | st.just([])
)
REFS: st.SearchStrategy[object] = (
    st.none()
    | st.booleans()
    | st.sampled_from([MAX_REF_INTEGER, MAX_REF_INTEGER + 1, -MAX_REF_INTEGER, -MAX_REF_INTEGER - 1, 10**30, 1.5])
    | st.integers(126, 130).map(lambda length: "r" * length)
    | st.lists(st.integers(), max_size=1)
)
CONN_IDS: st.SearchStrategy[object] = (
    st.none()
    | st.text(max_size=3)
    | st.integers()
    | st.lists(st.text(max_size=2) | st.integers(), max_size=3)
    | st.sampled_from([999, 1000, 1001]).map(lambda count: ["f3a9"] * count)
)
OBJECTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"type": st.sampled_from([*sorted(TYPES), "close", "subscribed", ""]) | st.none() | st.integers()},
    optional={"topic": TOPICS, "ref": REFS, "conn_id": CONN_IDS, "data": st.text(), "other": st.none()},
)


@settings(max_examples=1000, deadline=None)
@given(OBJECTS)
def test_the_schema_takes_what_the_server_takes_and_refuses_what_it_refuses(fields: dict[str, Any]) -> None:
    if fields["type"] == "authenticate":
        fields["token"] = "T"  # judged where it is verified
    try:
        Message.from_client_message(data=fields)
        taken = 1
    except WebSocketException:
        taken = 0
    assert len(SCHEMAS.matching("requests", fields)) == taken


@pytest.mark.parametrize("pattern", ["#", "/", "+", "a/#", "+/#", "//", "/#", "a/+/b", "a\n", "$own/#"])
def test_the_schema_takes_every_form_of_a_pattern(pattern: str) -> None:
    assert Message.from_client_message(data={"type": "subscribe", "topic": pattern}).topic == pattern
    assert SCHEMAS.matching("requests", {"type": "subscribe", "topic": pattern}) == ["Subscribe"]


@pytest.mark.parametrize("pattern", ["", "a#", "#/a", "a+", "+a/b", "a/#/b", "##", "a\0"])
def test_the_schema_refuses_what_is_no_pattern(pattern: str) -> None:
    assert SCHEMAS.matching("requests", {"type": "subscribe", "topic": pattern}) == []


@pytest.mark.parametrize("kind", ["send", "history", "presence"])
@pytest.mark.parametrize("topic", ["", "#", "+", "a/#", "a#b", "a+b", "a\0"])
def test_the_schema_refuses_a_topic_with_a_wildcard(kind: str, topic: str) -> None:
    assert SCHEMAS.matching("requests", {"type": kind, "topic": topic}) == []
