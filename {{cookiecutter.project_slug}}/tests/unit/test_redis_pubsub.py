"""What `RedisPubSubBroker` does without a Redis; with one it is tried in `tests/integration/test_redis_pubsub.py`."""

import pytest

from distributed_websocket import RedisPubSubBroker
from distributed_websocket.exceptions import BrokerError


@pytest.fixture
def broker() -> RedisPubSubBroker:
    return RedisPubSubBroker("redis+pubsub://127.0.0.1:1/0")


async def test_unsubscribing_before_anything_was_listened_to_needs_no_redis(broker: RedisPubSubBroker) -> None:
    await broker.unsubscribe("channel")
    await broker.disconnect()


async def test_an_error_without_a_text_is_told_by_its_name(
    broker: RedisPubSubBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(broker._redis, "publish", fail)
    with pytest.raises(BrokerError, match="could not publish to Redis: ConnectionResetError"):
        await broker.publish("channel", {"topic": "a"})
    await broker.disconnect()
