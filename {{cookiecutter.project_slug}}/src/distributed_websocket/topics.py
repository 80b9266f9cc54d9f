"""Topic names and patterns as MQTT 5 §4.7 defines them, and the index that finds a topic's subscribers.

A topic is levels separated by `/`; a level may be empty. A pattern (MQTT: topic filter) is a topic in which a level may
be `+` (any one level) and the last may be `#` (the level before it, and any number after). Nothing here does I/O or
recurses.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Generic, TypeVar

from .exceptions import InvalidSubscription, quote

if TYPE_CHECKING:
    from .connection import Connection

SEPARATOR = "/"
SINGLE_LEVEL = "+"
MULTI_LEVEL = "#"

MAX_TOPIC_BYTES = 255  # the default; MQTT allows as many as fit a two-byte length
MQTT_MAX_TOPIC_BYTES = 65_535


def is_pattern(topic: str) -> bool:
    """Whether `topic` holds a wildcard, so that it can be subscribed to and not published to."""
    return SINGLE_LEVEL in topic or MULTI_LEVEL in topic


def leading_levels(topic: str, count: int) -> str:
    """The first `count` levels, or all where there are fewer: they decide the shard of a topic."""
    return SEPARATOR.join(topic.split(SEPARATOR, count)[:count])


def validate_topic(topic: object, *, max_bytes: int = MAX_TOPIC_BYTES, connection: Connection | None = None) -> str:
    """`topic` itself if a message may be published to it; else InvalidSubscription that names the rule."""
    name = _validate_text(topic, "topic", max_bytes, connection)
    if is_pattern(name):
        raise _invalid(name, "topic", "'+' and '#' may stand only in patterns (MQTT 5 §4.7.1)", connection)
    return name


def validate_pattern(pattern: object, *, max_bytes: int = MAX_TOPIC_BYTES, connection: Connection | None = None) -> str:
    """`pattern` itself if it may be subscribed to (every topic may); else InvalidSubscription that names the rule."""
    text = _validate_text(pattern, "pattern", max_bytes, connection)
    if not is_pattern(text):
        return text
    levels = text.split(SEPARATOR)
    if any(MULTI_LEVEL in level for level in levels[:-1]) or (MULTI_LEVEL in levels[-1] and levels[-1] != MULTI_LEVEL):
        raise _invalid(text, "pattern", "'#' must be the whole last level (MQTT 5 §4.7.1.2)", connection)
    if any(SINGLE_LEVEL in level and level != SINGLE_LEVEL for level in levels):
        raise _invalid(text, "pattern", "'+' must be a whole level (MQTT 5 §4.7.1.3)", connection)
    return text


def _validate_text(text: object, kind: str, max_bytes: int, connection: Connection | None) -> str:
    """The rules that topics and patterns share (MQTT 5 §4.7.3 and §1.5.4)."""
    if not isinstance(text, str):
        raise _invalid(text, kind, "it must be a string", connection)
    if not text:
        raise _invalid(text, kind, "it must be at least one character long (MQTT 5 §4.7.3)", connection)
    # Every character takes at least a byte, so what is far too long is never encoded.
    try:
        too_long = len(text) > max_bytes or len(text.encode()) > max_bytes
    except UnicodeEncodeError:
        raise _invalid(text, kind, "it must not hold lone surrogates (MQTT 5 §1.5.4)", connection) from None
    if too_long:
        raise _invalid(text, kind, f"it must take at most {max_bytes} bytes in UTF-8", connection)
    if "\0" in text:
        raise _invalid(text, kind, "it must not hold U+0000 (MQTT 5 §4.7.3)", connection)
    return text


def _invalid(received: object, kind: str, rule: str, connection: Connection | None) -> InvalidSubscription:
    return InvalidSubscription(f"{quote(received)} is not a {kind}: {rule}", connection=connection, received=received)


def matches(topic: str, patterns: Iterable[str]) -> bool:
    """Whether any of `patterns` matches `topic`; a single string is one pattern.

    Nothing is validated here: in an invalid pattern, a wildcard that breaks the rules stands for itself.
    """
    levels: list[str] | None = None
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        if pattern == topic:
            return True
        if is_pattern(pattern):
            if levels is None:
                levels = topic.split(SEPARATOR)
            if _matches_levels(levels, pattern.split(SEPARATOR)):
                return True
    return False


def _matches_levels(topic: list[str], pattern: list[str]) -> bool:
    # Topics that begin with `$` belong to the server: a wildcard must not find them by accident (§4.7.2).
    if topic[0].startswith("$") and pattern[0] in (SINGLE_LEVEL, MULTI_LEVEL):
        return False
    if pattern[-1] == MULTI_LEVEL:
        pattern = pattern[:-1]  # `sport/#` matches `sport` too (§4.7.1.2)
        if len(topic) < len(pattern):
            return False
    elif len(topic) != len(pattern):
        return False
    return all(wanted in (level, SINGLE_LEVEL) for level, wanted in zip(topic, pattern, strict=False))


T = TypeVar("T", bound=Hashable)


class _Node(Generic[T]):
    """The patterns that share their levels so far."""

    __slots__ = ("children", "ending", "plus", "tail")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.plus: _Node[T] | None = None  # beside `children`, so that no topic can reach it by name
        self.ending: set[T] = set()  # subscribers whose pattern ends here
        self.tail: set[T] = set()  # subscribers whose pattern goes on with `#`

    def is_empty(self) -> bool:
        return not (self.children or self.plus or self.ending or self.tail)


class TopicIndex(Generic[T]):
    """Who subscribes to what: finds a topic's subscribers without asking each of them.

    A pattern without wildcards is one key of a dictionary; the others form a tree by level, which is left alone while
    it is empty. Patterns are taken as valid (`validate_pattern`). `len()` counts pairs of pattern and subscriber.
    """

    def __init__(self) -> None:
        self._exact: dict[str, set[T]] = {}
        self._root: _Node[T] = _Node()
        self._has_wildcards = False
        self._pairs = 0
        self._nobody: frozenset[T] = frozenset()

    def __len__(self) -> int:
        return self._pairs

    def add(self, pattern: str, subscriber: T) -> bool:
        """Subscribe; False if it was subscribed to this pattern already."""
        if not is_pattern(pattern):
            subscribers = self._exact.setdefault(pattern, set())
        else:
            levels, ends_in_tail = _split(pattern)
            node = self._root
            for level in levels:
                if level == SINGLE_LEVEL:
                    if node.plus is None:
                        node.plus = _Node()
                    node = node.plus
                else:
                    node = node.children.setdefault(level, _Node())
            subscribers = node.tail if ends_in_tail else node.ending
            self._has_wildcards = True
        if subscriber in subscribers:
            return False
        subscribers.add(subscriber)
        self._pairs += 1
        return True

    def discard(self, pattern: str, subscriber: T) -> bool:
        """Unsubscribe; False if it was not subscribed to this very pattern. What nobody needs any more is freed."""
        if not is_pattern(pattern):
            subscribers = self._exact.get(pattern)
            if subscribers is None or subscriber not in subscribers:
                return False
            subscribers.remove(subscriber)
            if not subscribers:
                del self._exact[pattern]
            self._pairs -= 1
            return True

        levels, ends_in_tail = _split(pattern)
        path = [self._root]
        for level in levels:
            node = path[-1]
            child = node.plus if level == SINGLE_LEVEL else node.children.get(level)
            if child is None:
                return False
            path.append(child)
        subscribers = path[-1].tail if ends_in_tail else path[-1].ending
        if subscriber not in subscribers:
            return False
        subscribers.remove(subscriber)
        self._pairs -= 1
        while levels and path.pop().is_empty():
            level = levels.pop()
            if level == SINGLE_LEVEL:
                path[-1].plus = None
            else:
                del path[-1].children[level]
        self._has_wildcards = not self._root.is_empty()
        return True

    def match(self, topic: str) -> AbstractSet[T]:
        """The subscribers of `topic`, each once, however many of its patterns match.

        Read-only, and valid until the next `add` or `discard`: it may be the index's own set, which spares a copy of
        each audience for each message. Copy it before anything that may subscribe, unsubscribe or await.
        """
        exact = self._exact.get(topic, self._nobody)
        if not self._has_wildcards:
            return exact

        found: list[AbstractSet[T]] = []
        nodes = [self._root]
        wildcards_allowed = not topic.startswith("$")  # at the first level (§4.7.2)
        for level in topic.split(SEPARATOR):
            following: list[_Node[T]] = []
            for node in nodes:
                child = node.children.get(level)
                if child is not None:
                    following.append(child)
                if wildcards_allowed:
                    if node.plus is not None:
                        following.append(node.plus)
                    if node.tail:
                        found.append(node.tail)
            if not following:
                break
            nodes = following
            wildcards_allowed = True
        else:
            for node in nodes:
                if node.ending:
                    found.append(node.ending)
                if node.tail:  # `sport/#` matches `sport` too (§4.7.1.2)
                    found.append(node.tail)

        if not found:
            return exact
        if len(found) == 1 and not exact:
            return found[0]
        return exact.union(*found)


def _split(pattern: str) -> tuple[list[str], bool]:
    """A pattern's levels without a last `#`, and whether there was one."""
    levels = pattern.split(SEPARATOR)
    if levels[-1] == MULTI_LEVEL:
        return levels[:-1], True
    return levels, False
