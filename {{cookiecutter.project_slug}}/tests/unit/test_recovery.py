"""What was missed: whether the log reaches back, and the newest part of it kept in memory."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributed_websocket.brokers.interface import Entry, Extent
from distributed_websocket.recovery import Since, Tail, concerns, reaches_back


def entry(number: int, topic: str = "a", conn_ids: tuple[str, ...] = (), size: int = 2) -> Entry:
    return Entry(f"{number}-0", topic, b"x" * size, conn_ids)


def numbers(entries: Sequence[Entry] | None) -> list[int] | None:
    return None if entries is None else [int(one.position.split("-")[0]) for one in entries]


def extent(epoch: str = "e", last: str = "9-0", first: str = "3-0", added: int = 9, given_up: int = 2) -> Extent:
    return Extent(epoch, last, first, added, given_up)


@pytest.mark.parametrize(
    ("since", "log", "story"),
    [
        (Since("3-0", "e"), extent(), "the oldest entry held is the newest one seen"),
        (Since("5-0", "e"), extent(), "in the middle"),
        (Since("9-0", "e"), extent(), "nothing was missed"),
        (Since("0-0", "e"), extent(first="1-0", given_up=0), "nothing was ever given up"),
        (Since("9-0", "e"), extent(first="", given_up=9), "everything is trimmed, and nothing was missed"),
        (Since("0-0", "e"), extent(last="0-0", first="", added=0, given_up=0), "an empty log"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_log_reaches_back(since: Since, log: Extent, story: str) -> None:
    assert reaches_back(log, since)


@pytest.mark.parametrize(
    ("since", "log", "story"),
    [
        (Since("5-0", "other"), extent(), "another life of the log"),
        (Since("2-0", "e"), extent(), "trimmed behind it"),
        (Since("10-0", "e"), extent(), "the log lost its end"),
        (Since("8-0", "e"), extent(first="", given_up=9), "everything is trimmed, and one was missed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_log_does_not_reach_back(since: Since, log: Extent, story: str) -> None:
    assert not reaches_back(log, since)


def test_the_tail_gives_what_is_behind_a_position_by_topic_or_pattern_in_order() -> None:
    tail = Tail()
    tail.extend([entry(1, "a"), entry(2, "b"), entry(3, "a"), entry(4, "b/c")])
    assert numbers(tail.behind("a", "0-0")) == [1, 3]
    assert numbers(tail.behind("a", "1-0")) == [3]
    assert numbers(tail.behind("a", "2-5")) == [3]
    assert numbers(tail.behind("a", "3-0")) == []
    assert numbers(tail.behind("unknown", "0-0")) == []
    assert numbers(tail.behind("#", "1-0")) == [2, 3, 4]
    assert numbers(tail.behind("b/#", "0-0")) == [2, 4]
    assert numbers(tail.behind("b/+", "0-0")) == [4]


def test_the_tail_does_not_answer_for_what_came_before_it() -> None:
    tail = Tail("5-0")
    assert tail.behind("a", "4-9") is None
    assert tail.behind("#", "4-9") is None
    assert not tail.reaches("4-9")
    assert tail.behind("a", "5-0") == []
    assert tail.reaches("5-0")


def test_the_tail_drops_its_oldest_by_count_and_says_so_by_its_floor() -> None:
    tail = Tail(max_entries=2)
    tail.extend([entry(1), entry(2, "b"), entry(3)])
    assert (len(tail), tail.floor) == (2, "1-0")
    assert tail.behind("a", "0-0") is None
    assert numbers(tail.behind("a", "1-0")) == [3]
    assert numbers(tail.behind("#", "1-0")) == [2, 3]


def test_the_tail_drops_its_oldest_by_size() -> None:
    tail = Tail(max_bytes=100)
    tail.extend([entry(1, size=60), entry(2, size=60)])
    assert (len(tail), tail.floor) == (1, "1-0")
    tail.extend([entry(3, size=101)])
    assert (len(tail), tail.floor) == (0, "3-0")
    assert tail.behind("a", "3-0") == []


def test_what_was_addressed_to_others_is_nobodys_to_catch_up_on() -> None:
    """A client that resumed `#` was once given the private messages of everybody: `#` matches an empty topic."""
    tail = Tail()
    addressed, for_all, topical = entry(1, "", ("c1",)), entry(2, ""), entry(3, "a", ("c1",))
    tail.extend([addressed, for_all, topical, entry(4, "a")])
    for pattern in ("#", "+", "a"):
        assert numbers(tail.behind(pattern, "0-0")) == [4]
        assert [concerns(one, pattern) for one in (addressed, for_all, topical, entry(4, "a"))] == [
            False,
            False,
            False,
            True,
        ]
    small = Tail(max_entries=1)
    small.extend([addressed, for_all, topical, entry(4, "a")])
    assert numbers(small.behind("a", "3-0")) == [4]


@given(
    st.lists(st.sampled_from(["a", "b", "a/x"]), max_size=40),
    st.integers(1, 20),
    st.sampled_from(["a", "b", "a/x", "#", "a/#", "+"]),
    st.integers(0, 41),
)
def test_the_tail_agrees_with_a_plain_list(topics: list[str], most: int, pattern: str, position: int) -> None:
    entries = [entry(number, topic) for number, topic in enumerate(topics, 1)]
    tail = Tail(max_entries=most)
    tail.extend(entries)
    found = tail.behind(pattern, f"{position}-0")
    if position < len(entries) - most:
        assert found is None
    else:
        assert found == [one for one in entries[position:] if concerns(one, pattern)]
