"""Fixtures that several suites share: real Redis processes, and names that keep tests apart on them."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.redis_deployments import ClusterDeployment, SentinelDeployment, running
from tests.redis_server import RedisServer, new_channel, redis_versions


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for all tests that leave it as it is; each test takes a `channel` of its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The URL of a log of some kind, started when it is first asked for: a version of Redis, `sentinel`, `cluster`."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def url_of(kind: str) -> str:
            folder = tmp_path_factory.mktemp(kind)
            if kind in ("sentinel", "cluster"):
                deployment = SentinelDeployment(folder) if kind == "sentinel" else ClusterDeployment(folder)
                stack.enter_context(running(deployment))
                return deployment.url
            server = RedisServer(folder, binary=redis_versions()[kind])
            server.start()
            stack.callback(server.stop)
            return server.url

        yield url_of


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
