"""Topics, patterns and the index, against MQTT 5 §4.7, an independent matcher and brute force."""

import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from distributed_websocket.codes import ErrorCode
from distributed_websocket.exceptions import InvalidSubscription
from distributed_websocket.topics import (
    MQTT_MAX_TOPIC_BYTES,
    TopicIndex,
    is_pattern,
    leading_levels,
    matches,
    validate_pattern,
    validate_topic,
)

# (pattern, topics that it matches, topics that it does not): the examples of the standard, section by section.
SPEC = [
    # §4.7.1.2 multi-level wildcard
    (
        "sport/tennis/player1/#",
        ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"],
        ["sport/tennis/player2", "sport/tennis", "sport/tennis/player12"],
    ),
    ("sport/#", ["sport", "sport/", "sport/tennis"], ["sports", "sporting", "spor"]),
    ("#", ["sport", "/", "/finance", "sport/tennis/player1"], []),
    ("sport/tennis/#", ["sport/tennis", "sport/tennis/player1/ranking"], ["sport"]),
    # §4.7.1.3 single-level wildcard
    (
        "sport/tennis/+",
        ["sport/tennis/player1", "sport/tennis/player2", "sport/tennis/"],
        ["sport/tennis/player1/ranking", "sport/tennis"],
    ),
    ("sport/+", ["sport/"], ["sport"]),
    ("+", ["sport", "finance"], ["/finance", "sport/"]),
    ("+/tennis/#", ["sport/tennis", "/tennis/x", "sport/tennis/player1"], ["tennis", "sport/golf"]),
    ("sport/+/player1", ["sport/tennis/player1", "sport//player1"], ["sport/player1", "sport/a/b/player1"]),
    ("+/+", ["/finance", "a/b"], ["finance", "a/b/c"]),
    ("/+", ["/finance", "/"], ["finance"]),
    # §4.7.2 topics that begin with $
    ("#", [], ["$SYS", "$SYS/monitor/Clients", "$"]),
    ("+/monitor/Clients", ["a/monitor/Clients"], ["$SYS/monitor/Clients"]),
    ("$SYS/#", ["$SYS", "$SYS/", "$SYS/monitor/Clients"], ["SYS/monitor"]),
    ("$SYS/monitor/+", ["$SYS/monitor/Clients", "$SYS/monitor/$x"], ["$SYS/monitor"]),
    ("a/+", ["a/$x"], []),
    ("a/#", ["a/$x"], []),
    # §4.7.3 semantics: case, spaces, a leading and a trailing separator, a lone separator, no normalisation
    ("ACCOUNTS", ["ACCOUNTS"], ["Accounts"]),
    ("Accounts payable", ["Accounts payable"], ["Accountspayable", "Accounts payable "]),
    ("/finance", ["/finance"], ["finance"]),
    ("finance/", ["finance/"], ["finance"]),
    ("/", ["/"], ["", "//"]),
    ("//+", ["//", "//x"], ["///", "/x"]),
    ("caf\u00e9", ["caf\u00e9"], ["cafe\u0301"]),
    ("\ufeffa", ["\ufeffa"], ["a"]),
]
MATCHING = [(pattern, topic) for pattern, topics, _ in SPEC for topic in topics]
DIFFERENT = [(pattern, topic) for pattern, _, topics in SPEC for topic in topics]


def found(pattern: str, topic: str) -> bool:
    index = TopicIndex[str]()
    index.add(pattern, "subscriber")
    return index.match(topic) == {"subscriber"}


@pytest.mark.parametrize(("pattern", "topic"), MATCHING)
def test_the_examples_of_the_standard_match(pattern: str, topic: str) -> None:
    assert matches(topic, {pattern})
    assert found(pattern, topic)


@pytest.mark.parametrize(("pattern", "topic"), DIFFERENT)
def test_the_counterexamples_of_the_standard_do_not_match(pattern: str, topic: str) -> None:
    assert not matches(topic, {pattern})
    assert not found(pattern, topic)


# --- The original's faults, one test each -----------------------------------------------------------------------------


def test_a_room_is_part_of_its_own_subtree() -> None:
    """The original's `sport/#` missed what was sent to `sport` itself, so a room's own messages got lost."""
    assert matches("sport", {"sport/#"})
    assert found("sport/#", "sport")


@pytest.mark.parametrize(("topic", "pattern"), [("axyz", "a#"), ("sporting", "sport#")])
def test_a_hash_inside_a_level_is_no_wildcard(topic: str, pattern: str) -> None:
    """In the original `sport#` matched `sporting`: who subscribed to one room overheard those that began like it."""
    assert not matches(topic, {pattern})
    with pytest.raises(InvalidSubscription, match="whole last level"):
        validate_pattern(pattern)


@pytest.mark.parametrize(("topic", "pattern"), [("a/b", "a/+b"), ("a", "a+")])
def test_a_plus_inside_a_level_is_no_wildcard(topic: str, pattern: str) -> None:
    """In the original a `+` could vanish: `a+` matched `a`."""
    assert not matches(topic, {pattern})
    with pytest.raises(InvalidSubscription, match="whole level"):
        validate_pattern(pattern)


@pytest.mark.parametrize("topic", ["root/sub1/sub2", "sub1/sub2"])
def test_a_hash_before_the_last_level_matches_nothing(topic: str) -> None:
    """The original's own tests asked for `#/sub1/sub2` to match everything that begins anyhow."""
    assert not matches(topic, {"#/sub1/sub2"})
    with pytest.raises(InvalidSubscription, match="whole last level"):
        validate_pattern("#/sub1/sub2")


def test_the_servers_own_topics_are_not_overheard() -> None:
    """The original delivered `$SYS/x` to whoever subscribed to `#`."""
    assert not matches("$SYS/x", {"#"})
    assert not found("#", "$SYS/x")


@pytest.mark.parametrize("topic", ["x" * 10_000, "/".join("x" * 10_000), "/" * 10_000])
def test_a_long_topic_costs_no_stack(topic: str) -> None:
    """The original recursed per character: one topic of 1,000 killed the task that sent it on."""
    patterns = {"+/" * 5_000 + "#", topic + "/#", topic + "/x"}
    assert matches(topic, patterns)
    index = TopicIndex[str]()
    for pattern in patterns:
        index.add(pattern, pattern)
    assert topic + "/#" in index.match(topic)
    assert all(index.discard(pattern, pattern) for pattern in patterns)
    assert nodes_of(index) == 0


# --- Validation -------------------------------------------------------------------------------------------------------

NOT_TEXT = [None, 1, 1.5, True, b"room", ["room"], {"room": 1}]
INVALID_TEXT = [
    ("", "at least one character"),
    ("a\0b", r"U\+0000"),
    ("a/\ud800", "lone surrogates"),
    ("x" * 256, "at most 255 bytes"),
    ("é" * 128, "at most 255 bytes"),
    ("x" * 1_000_000, "at most 255 bytes"),
    ("\ud800" * 1_000_000, "at most 255 bytes"),
]
INVALID_PATTERNS = [
    ("sport/tennis#", "whole last level"),
    ("sport/tennis/#/ranking", "whole last level"),
    ("#/", "whole last level"),
    ("##", "whole last level"),
    ("+#", "whole last level"),
    ("sport+", "whole level"),
    ("++", "whole level"),
    ("a/+b/#", "whole level"),
]
VALID_PATTERNS = ["#", "+", "+/+", "/+", "+/", "sport/#", "+/tennis/#", "sport/+/player1", "+/+/#", "//#"]
VALID_TOPICS = ["sport", "a/b", "/", "//", "/finance", "finance/", "Accounts payable", "$SYS/x", "é" * 127, "\ufeff"]


@pytest.mark.parametrize("validate", [validate_topic, validate_pattern])
@pytest.mark.parametrize("topic", VALID_TOPICS)
def test_a_topic_may_be_published_and_subscribed_to(validate: Any, topic: str) -> None:
    """`sport` too: the original demanded a `/`, which MQTT does not."""
    assert validate(topic) is topic


@pytest.mark.parametrize("pattern", VALID_PATTERNS)
def test_a_pattern_may_be_subscribed_to_and_not_published_to(pattern: str) -> None:
    assert validate_pattern(pattern) is pattern
    with pytest.raises(InvalidSubscription, match=r"is not a topic: '\+' and '#' may stand only in patterns"):
        validate_topic(pattern)


@pytest.mark.parametrize(("pattern", "rule"), INVALID_PATTERNS)
def test_a_pattern_that_breaks_a_rule_is_refused(pattern: str, rule: str) -> None:
    with pytest.raises(InvalidSubscription, match=rule) as caught:
        validate_pattern(pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("validate", [validate_topic, validate_pattern])
@pytest.mark.parametrize(("text", "rule"), INVALID_TEXT, ids=[rule for _, rule in INVALID_TEXT])
def test_a_text_that_breaks_a_rule_is_refused(validate: Any, text: str, rule: str) -> None:
    with pytest.raises(InvalidSubscription, match=rule) as caught:
        validate(text)
    assert len(str(caught.value)) < 200
    assert str(caught.value).encode()


@pytest.mark.parametrize("validate", [validate_topic, validate_pattern])
@pytest.mark.parametrize("received", NOT_TEXT)
def test_a_topic_that_is_no_text_is_refused(validate: Any, received: object) -> None:
    with pytest.raises(InvalidSubscription, match="must be a string"):
        validate(received)


@pytest.mark.parametrize("validate", [validate_topic, validate_pattern])
def test_the_length_limit_can_be_set_up_to_that_of_the_standard(validate: Any) -> None:
    assert validate("x" * 65_535, max_bytes=MQTT_MAX_TOPIC_BYTES)
    with pytest.raises(InvalidSubscription, match="at most 65535 bytes"):
        validate("x" * 65_536, max_bytes=MQTT_MAX_TOPIC_BYTES)
    with pytest.raises(InvalidSubscription, match="at most 3 bytes"):
        validate("éé", max_bytes=3)


@pytest.mark.parametrize("validate", [validate_topic, validate_pattern])
def test_a_refusal_carries_the_connection_and_what_was_received(validate: Any) -> None:
    connection: Any = SimpleNamespace(id="alice-1")
    with pytest.raises(InvalidSubscription) as caught:
        validate("a/b+", connection=connection)
    assert caught.value.connection is connection
    assert caught.value.received == "a/b+"
    assert caught.value.code is ErrorCode.INVALID_TOPIC


def test_a_pattern_is_told_by_its_wildcards() -> None:
    assert [is_pattern(text) for text in ("a/b", "a/+", "#", "a+", "")] == [False, True, True, True, False]


def test_the_leading_levels_are_what_precedes_a_separator() -> None:
    topics = ("room/1/x", "room", "/room", "+/x", "#", "a//b")
    assert [leading_levels(topic, 1) for topic in topics] == ["room", "room", "", "+", "#", "a"]
    assert [leading_levels(topic, 2) for topic in topics] == ["room/1", "room", "/room", "+/x", "#", "a/"]


# --- Matching ---------------------------------------------------------------------------------------------------------


def test_patterns_may_be_any_iterable_and_one_string_is_one_pattern() -> None:
    """A string is an iterable of its characters: `matches("a", "a/b")` must not be taken for three patterns."""
    assert matches("a/b", ["x", "x/+", "a/+"])
    assert matches("a/b", (pattern for pattern in ("a/#", "x")))
    assert matches("a/b", "a/b")
    assert not matches("a", "a/b")
    assert not matches("a", set())


LEVELS = st.sampled_from(["", "a", "b", "ab", "$", "$SYS", "é", "a b"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)
PATTERNS = (
    st.tuples(st.lists(LEVELS | st.just("+"), max_size=5), st.sampled_from([["#"], ["+"], []]))
    .map(lambda parts: "/".join(parts[0] + parts[1]))
    .filter(bool)
)


@settings(max_examples=2_000, deadline=None)
@given(TOPICS, PATTERNS)
@example("$SYS", "$SYS/#")
def test_any_topic_and_pattern_match_as_paho_says(topic: str, pattern: str) -> None:
    assert validate_topic(topic)
    assert validate_pattern(pattern)
    assert matches(topic, {pattern}) == found(pattern, topic) == topic_matches_sub(pattern, topic)


def test_ten_thousand_random_pairs_match_as_paho_says() -> None:
    """Pairs made to be close to each other: about half of them match."""
    seed = random.Random(47)
    matching = 0
    for _ in range(10_000):
        topic = [seed.choice(["", "a", "b", "$x"]) for _ in range(seed.randint(1, 5))]
        pattern = ["+" if seed.random() < 0.3 else level for level in topic]
        if seed.random() < 0.3:
            pattern[seed.randrange(len(pattern))] = seed.choice("ab")
        if seed.random() < 0.5:
            pattern[seed.randint(0, len(pattern)) :] = ["#"]
        expected = topic_matches_sub("/".join(pattern), "/".join(topic))
        assert matches("/".join(topic), {"/".join(pattern)}) is expected, (topic, pattern)
        assert found("/".join(pattern), "/".join(topic)) is expected, (topic, pattern)
        matching += expected
    assert 3_000 < matching < 9_000


# --- The index --------------------------------------------------------------------------------------------------------


def nodes_of(index: TopicIndex[Any]) -> int:
    """Everything that the index holds: keys, tree nodes below the root, and subscribers."""

    def walk(nodes: list[Any]) -> Iterator[int]:
        while nodes:
            node = nodes.pop()
            below = [*node.children.values(), *([node.plus] if node.plus else [])]
            nodes += below
            yield len(below) + len(node.ending) + len(node.tail)

    return len(index._exact) + sum(walk([index._root]))


def test_a_pair_is_added_and_discarded_once() -> None:
    for pattern in ("room/1", "room/+", "room/#"):
        index = TopicIndex[str]()
        assert index.add(pattern, "alice")
        assert not index.add(pattern, "alice")
        assert index.add(pattern, "bob")
        assert len(index) == 2
        assert index.discard(pattern, "alice")
        assert not index.discard(pattern, "alice")
        assert index.match("room/1") == {"bob"}
        assert index.discard(pattern, "bob")
        assert len(index) == nodes_of(index) == 0
        assert not index.match("room/1")


@pytest.mark.parametrize("pattern", ["room/1", "room/+", "room/2/#", "room/2/+", "+/1", "other/#", "#"])
def test_what_was_never_added_cannot_be_discarded(pattern: str) -> None:
    """`room/#` says nothing about `room/1`: a pattern is given up by its own name only."""
    index = TopicIndex[str]()
    index.add("room/#", "alice")
    index.add("room/2", "alice")
    before = nodes_of(index)
    assert not index.discard(pattern, "alice")
    assert (len(index), nodes_of(index)) == (2, before)


def test_a_subscriber_is_found_once_however_many_of_its_patterns_match() -> None:
    index = TopicIndex[str]()
    for pattern in ("room/1", "room/+", "room/#", "room/1/#", "+/1", "+/+", "#", "+/#"):
        index.add(pattern, "alice")
    index.add("room/+", "bob")
    index.add("room/2", "carol")
    assert sorted(index.match("room/1")) == ["alice", "bob"]


def test_an_audience_of_one_set_is_not_copied() -> None:
    """Copying 500 subscribers for each message would cost more than finding them."""
    index = TopicIndex[str]()
    index.add("room/1", "alice")
    assert index.match("room/1") is index.match("room/1")
    index.add("other/+", "bob")
    assert index.match("room/1") is index.match("room/1")
    assert index.match("other/1") is index.match("other/2")


def test_a_match_does_not_change_what_it_found() -> None:
    index = TopicIndex[str]()
    for pattern, subscriber in (("room/1", "alice"), ("room/+", "bob"), ("#", "carol")):
        index.add(pattern, subscriber)
    for _ in range(2):
        assert index.match("room/1") == {"alice", "bob", "carol"}
        assert index.match("room/2") == {"bob", "carol"}
    assert len(index) == 3


def test_the_tree_is_left_alone_once_the_last_wildcard_pattern_is_gone() -> None:
    index = TopicIndex[str]()
    index.add("room/+/#", "alice")
    index.add("#", "alice")
    assert index._has_wildcards
    index.discard("room/+/#", "alice")
    assert index._has_wildcards
    index.discard("#", "alice")
    assert not index._has_wildcards


def test_pruning_stops_at_a_branch_that_is_still_needed() -> None:
    index = TopicIndex[str]()
    for pattern in ("a/+/c/+", "a/+/d/#", "a/+/c/#", "a/x/#"):
        index.add(pattern, pattern)
    assert index.discard("a/+/c/+", "a/+/c/+")
    assert index.match("a/x/c/y") == {"a/+/c/#", "a/x/#"}
    assert index.discard("a/+/c/#", "a/+/c/#")
    assert index.match("a/x/d") == {"a/+/d/#", "a/x/#"}
    assert index.discard("a/+/d/#", "a/+/d/#")
    assert index.match("a/x/d") == {"a/x/#"}


def test_a_hostile_topic_costs_no_more_than_a_tame_one() -> None:
    """A topic of wildcards, which only a fault can bring here, must not walk each `+` twice per level."""
    index = TopicIndex[str]()
    index.add("/".join("+" * 200), "alice")
    assert index.match("/".join("+" * 200)) == {"alice"}


SUBSCRIPTIONS = st.lists(st.tuples(PATTERNS, st.integers(0, 3)), max_size=30)


@settings(max_examples=500, deadline=None)
@given(SUBSCRIPTIONS, st.lists(TOPICS, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_the_index_finds_what_asking_everyone_finds_and_ends_empty(
    subscriptions: list[tuple[str, int]], topics: list[str], order: random.Random
) -> None:
    """Also halfway through unsubscribing, in any order; afterwards nothing is left behind."""
    index = TopicIndex[int]()
    held: set[tuple[str, int]] = set()

    def check() -> None:
        assert len(index) == len(held)
        for topic in topics:
            expected = {subscriber for pattern, subscriber in held if matches(topic, {pattern})}
            assert index.match(topic) == expected, topic

    for pair in subscriptions:
        assert index.add(*pair) is (pair not in held)
        held.add(pair)
    check()
    leaving = sorted(held)
    order.shuffle(leaving)
    for number, pair in enumerate(leaving):
        assert index.discard(*pair)
        held.remove(pair)
        if number == len(leaving) // 2:
            check()
    check()
    assert nodes_of(index) == 0
