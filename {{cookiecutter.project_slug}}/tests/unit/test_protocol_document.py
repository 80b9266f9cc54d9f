"""docs/protocol.md says what the code does: its tables list exactly the codes, messages and limits that there are."""

import inspect
import json
import re

import pytest

from distributed_websocket import wire
from distributed_websocket.asyncapi.messages import ANSWERS, EVENTS, type_of
from distributed_websocket.brokers.redis_streams import RedisBroker
from distributed_websocket.codes import CloseCode, ErrorCode
from distributed_websocket.limits import Limits
from distributed_websocket.message import MAX_REF_LENGTH
from tests.asyncapi_schemas import schemas_of_the_protocol
from tests.service import ROOT

SCHEMAS = schemas_of_the_protocol()
TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")


def rows(heading: str, table: int = 0) -> list[list[str]]:
    """The cells of a table below a heading, without its head."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, f"there is no heading {heading!r}"
    tables = re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[table].splitlines()[2:]]


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def test_the_close_codes_are_exactly_those_that_the_server_sends() -> None:
    told = {int(number): come_back.startswith("yes") for number, _, come_back in rows("Close codes")}
    assert told == {int(one): one.reconnect for one in CloseCode}


def test_the_error_codes_are_exactly_those_that_the_server_sends() -> None:
    assert [code(cells[0])[0] for cells in rows("Error codes")] == [str(one) for one in ErrorCode]


def test_the_requests_and_their_answers_are_exactly_those_of_the_models() -> None:
    told = {code(request)[0]: code(answer)[0] for request, answer, _ in rows("What may be said")}
    assert told == {type_of(request): type_of(answer) for request, answer in wire.ANSWERS.items()}


def test_the_events_are_exactly_those_of_the_models() -> None:
    told = {kind for first, _ in rows("What may be said", table=1) for kind in code(first) if ":" not in kind}
    assert told == {type_of(event) for event in EVENTS}


@pytest.mark.parametrize("line", re.findall(r"^(?:->|<-) \{.*\}$", TEXT, flags=re.MULTILINE))
def test_a_line_of_the_example_session_is_a_message(line: str) -> None:
    direction, _, text = line.partition(" ")
    purposes = ["requests"] if direction == "->" else ["answers", "events"]
    assert len({name for purpose in purposes for name in SCHEMAS.matching(purpose, json.loads(text))}) == 1


def test_the_example_session_was_found() -> None:
    assert len(re.findall(r"^(?:->|<-) \{", TEXT, flags=re.MULTILINE)) >= 8


def test_the_numbers_are_the_defaults() -> None:
    limits = Limits()
    redis = inspect.signature(RedisBroker).parameters
    text = " ".join(TEXT.split())
    assert limits.message_bytes == 64 * 1024
    assert "at most 64 KiB" in text
    assert limits.unsent_bytes == 2**20
    assert "leaves 1 MiB unread" in text
    assert f"more than {limits.messages_per_second:g} messages a second, or {limits.message_burst} at once" in text
    assert f"`too_many_subscriptions` | more than {limits.subscriptions} |" in text
    assert f"{limits.topic_bytes} bytes of UTF-8" in text
    assert f"at most {MAX_REF_LENGTH} characters" in text
    assert redis["retention_messages"].default == 10_000
    assert redis["retention_seconds"].default == 24 * 60 * 60
    assert "the last 10,000 messages of a shard" in text
    assert "for a day" in text
    assert redis["idempotency_seconds"].default == 2 * 60
    assert "once within two minutes" in text


def test_every_answer_is_told_of() -> None:
    for answer in ANSWERS:
        assert f"`{type_of(answer)}`" in TEXT
