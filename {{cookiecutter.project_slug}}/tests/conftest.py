"""Fixtures that several suites share: real Redis processes, and names that keep tests apart on them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, new_channel


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that leave it as it is; each test takes a `channel` of its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for one test, which may freeze, flush, kill and restart it."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def channel() -> str:
    """A broker channel that no other test uses."""
    return new_channel()
