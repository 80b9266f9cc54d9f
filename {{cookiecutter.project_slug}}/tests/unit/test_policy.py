"""The default policy: topics are open, those of the server and everything that reaches others unasked are not."""

from distributed_websocket import Policy
from tests.wire import RawWire, raw_connection

ANYBODY = raw_connection(RawWire())


def test_any_topic_is_open_except_the_servers_own() -> None:
    policy = Policy()
    assert policy.may_subscribe(ANYBODY, "room/#")
    assert policy.may_publish(ANYBODY, "room/1")
    assert not policy.may_subscribe(ANYBODY, "$sys/#")
    assert not policy.may_publish(ANYBODY, "$sys")
    assert not policy.may_publish(ANYBODY, ""), "no topic is everybody"


def test_nobody_may_reach_those_who_did_not_subscribe_or_see_who_is_there() -> None:
    policy = Policy()
    assert not policy.may_broadcast(ANYBODY)
    assert not policy.may_address(ANYBODY, ("c1",))
    assert not policy.shows_presence("room/1")
