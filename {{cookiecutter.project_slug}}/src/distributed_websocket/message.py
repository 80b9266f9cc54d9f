"""`Message`: what travels between clients, workers and the log, and the rules that make one valid.

Works on plain JSON objects, does no I/O. Codes are in `codes.py`, topic rules in `topics.py`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from .codes import CloseCode, ErrorCode
from .exceptions import InvalidMessage, quote
from .topics import MAX_TOPIC_BYTES, validate_pattern, validate_topic

__all__ = ["CloseCode", "ErrorCode", "Message", "Ref", "decode", "encode", "reference", "stamped"]

TYPES: Final = frozenset(
    {"subscribe", "unsubscribe", "send", "broadcast", "send_by_conn_id", "history", "presence", "authenticate"}
)

SERVER_TYPES: Final = frozenset(
    {
        *("ack", "authenticated", "error", "joined", "left", "reconnect", "set_conn_id", "subscribed"),
        *("token_expired", "unsubscribed", "welcome"),
    }
)
"""What only the server says: clients believe messages of these types, so nobody else may send them."""

Ref = str | int
"""What a client names a request by; the answer repeats it."""

MAX_REF_LENGTH: Final = 128
MAX_REF_INTEGER: Final = 2**53 - 1
"""The largest integer that JavaScript keeps (RFC 8259 §6)."""

MAX_CONN_IDS: Final = 1_000
"""Connections that one `send_by_conn_id` may address."""

RESERVED: Final = ("type", "topic", "conn_id")
VOUCHED: Final = ("id", "from", "at")
"""Fields that only the server sets on a delivered message; a client's own are dropped."""


def encode(value: Any) -> bytes:
    """The JSON text of `value` in UTF-8. Raises `TypeError` for what JSON cannot say."""
    return orjson.dumps(value)


def decode(text: str | bytes) -> dict[str, Any]:
    """The JSON object that a client's frame holds.

    Raises `InvalidMessage` (`malformed_json`) for anything else: not JSON, not an object, nested deeper than the
    parser allows (1,024 levels), a lone surrogate, `NaN`.
    """
    try:
        value = orjson.loads(text)
    except ValueError as exc:
        raise InvalidMessage(f"the frame is not JSON: {exc}", code=ErrorCode.MALFORMED_JSON, received=text) from exc
    if not isinstance(value, dict):
        raise InvalidMessage(
            f"a message is a JSON object, not {type(value).__name__}", code=ErrorCode.MALFORMED_JSON, received=text
        )
    return value


def stamped(body: bytes) -> bytes:
    """A `Message.body` with `at`, when the server took it: milliseconds since 1970."""
    return b'%b,"at":%d}' % (body[:-1], time.time_ns() // 1_000_000)


def reference(fields: Mapping[str, Any]) -> Ref | None:
    """The `ref` of a client's object, or `None` where there is none or it is not one that may be repeated."""
    ref = fields.get("ref")
    if isinstance(ref, str):
        return ref if len(ref) <= MAX_REF_LENGTH else None
    if isinstance(ref, int) and not isinstance(ref, bool):
        return ref if -MAX_REF_INTEGER <= ref <= MAX_REF_INTEGER else None
    return None


class Message:
    """One message: its `type`, where it goes (`topic` or `conn_id`), and `data`, everything else that it says.

    `data` is a dict of the object's other fields when the message came from a client; a service may also put any
    JSON value there, which then travels as the field `data`.
    """

    __slots__ = ("conn_id", "data", "topic", "type")

    def __init__(
        self,
        *,
        data: Any = None,
        type: str = "send",
        topic: str | None = None,
        conn_id: str | list[str] | None = None,
    ) -> None:
        self.type = type
        self.topic = topic
        self.conn_id = conn_id
        self.data = data

    @classmethod
    def from_client_message(
        cls, *, data: Any, max_topic_bytes: int = MAX_TOPIC_BYTES, types: Collection[str] = TYPES
    ) -> Message:
        """Create a message from a client's object, which is left as it is.

        `types` are those that are taken. One that is not in `TYPES` is the service's own, and may have a topic.

        Raises `InvalidMessage` that says which field is wrong and what was received, and `InvalidSubscription` for
        a topic or pattern that breaks a rule of MQTT 5 §4.7.
        """
        if not isinstance(data, Mapping):
            raise InvalidMessage(f"a message is an object, not {type(data).__name__}", received=data)
        kind = data.get("type")
        if not isinstance(kind, str) or kind not in types:
            raise InvalidMessage(
                f"unknown type {quote(kind)}; known: {', '.join(sorted(types))}",
                code=ErrorCode.UNKNOWN_TYPE,
                received=data,
            )
        topic = data.get("topic")
        conn_id = data.get("conn_id")
        if kind in ("broadcast", "send_by_conn_id", "authenticate"):
            if topic is not None:
                raise InvalidMessage(f"a message of type {kind!r} has no topic", received=data)
        elif topic is None and kind not in TYPES:
            pass
        elif not isinstance(topic, str):
            raise InvalidMessage(f"a message of type {kind!r} needs a topic: text, not {quote(topic)}", received=data)
        elif kind in ("subscribe", "unsubscribe"):
            validate_pattern(topic, max_bytes=max_topic_bytes)
        else:
            validate_topic(topic, max_bytes=max_topic_bytes)
        if kind == "send_by_conn_id":
            _check_conn_id(conn_id, data)
        elif conn_id is not None:  # whom a message is for decides who has to allow it
            raise InvalidMessage(f"a message of type {kind!r} has no conn_id", received=data)
        if data.get("ephemeral") not in (None, False) and (kind != "send" or data["ephemeral"] is not True):
            raise InvalidMessage("ephemeral is true or false, on a message of type 'send'", received=data)
        if "ref" in data and data["ref"] is not None and reference(data) is None:
            raise InvalidMessage(
                f"ref must be text of at most {MAX_REF_LENGTH} characters or an integer of at most 53 bits",
                received=data,
            )
        return cls(
            type=kind,
            topic=topic,
            conn_id=conn_id,
            data={key: value for key, value in data.items() if key not in RESERVED},
        )

    @property
    def ref(self) -> Ref | None:
        return reference(self.data) if isinstance(self.data, Mapping) else None

    @property
    def conn_ids(self) -> tuple[str, ...]:
        """The connections addressed, as a tuple however `conn_id` names them; empty where it names none."""
        return (self.conn_id,) if isinstance(self.conn_id, str) else tuple(self.conn_id or ())

    def get(self, name: str) -> Any:
        """A field of `data`; `None` where there is none, or `data` is no object."""
        return self.data.get(name) if isinstance(self.data, Mapping) else None

    def __serialize__(self) -> dict[str, Any]:
        """The message as one flat JSON object: `from_client_message` of the result gives the message again."""
        fields: dict[str, Any] = dict(self.data) if isinstance(self.data, Mapping) else {}
        if not isinstance(self.data, Mapping) and self.data is not None:
            fields["data"] = self.data
        fields["type"] = self.type
        if self.topic is not None:
            fields["topic"] = self.topic
        if self.conn_id is not None:
            fields["conn_id"] = self.conn_id
        return fields

    def body(self, sender: str | None = None) -> bytes:
        """What is stored and delivered: the sender's object, `from` whom it is by the server's word, without an `id`.

        The position in the log becomes the `id` at delivery, so that a message is encoded once on its whole way.
        Raises `InvalidMessage` for what cannot be encoded: orjson reads 1,024 levels of nesting and writes 254.
        """
        fields = self.__serialize__()
        for name in VOUCHED:
            fields.pop(name, None)
        fields.pop("conn_id", None)
        if sender is not None:
            fields["from"] = sender
        try:
            return encode(fields)
        except TypeError as exc:
            raise InvalidMessage(f"the message cannot be passed on: {exc}", received=self) from exc

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return (self.type, self.topic, self.conn_id, self.data) == (other.type, other.topic, other.conn_id, other.data)

    __hash__ = None  # type: ignore[assignment]  # mutable: the fields may be changed by a service

    def __repr__(self) -> str:
        return f"Message(type={self.type!r}, topic={self.topic!r}, conn_id={self.conn_id!r}, data={quote(self.data)})"


def _check_conn_id(conn_id: object, received: object) -> None:
    if isinstance(conn_id, str):
        return
    if isinstance(conn_id, list) and 0 < len(conn_id) <= MAX_CONN_IDS and all(isinstance(one, str) for one in conn_id):
        return
    raise InvalidMessage(
        f"conn_id must be text or a list of 1 to {MAX_CONN_IDS} texts, not {quote(conn_id)}", received=received
    )
