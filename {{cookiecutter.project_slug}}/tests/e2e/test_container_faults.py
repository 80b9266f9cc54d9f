"""What breaks between containers, made for real under a talking crowd: killed, frozen, cut off from each other."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator

import pytest

from tests.e2e.crowd import Crowd, assert_nothing_lost, door_of
from tests.e2e.project_copy import ProjectCopy

PEOPLE = 18
FAULT_SECONDS = 8
"""Longer than the probe of an idle log, the timeouts of Traefik and Redis's clients, and the pings of the crowd."""


async def docker(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()


@pytest.fixture
async def crowd(containers: ProjectCopy) -> AsyncIterator[Crowd]:
    """All are in the room and talk. Afterwards everything works again, and nothing was lost."""
    async with Crowd(door_of(containers), PEOPLE) as crowd:
        assert set(crowd.by_worker) == {"chat-1", "chat-2", "chat-3"}
        yield crowd
        up = await asyncio.to_thread(containers.run, "up")
        assert up.returncode == 0, up.stdout + up.stderr
        judged = await crowd.finish(60)
        assert_nothing_lost(judged)


async def hold() -> None:
    """The time that a fault lasts, in which the crowd goes on."""
    await asyncio.sleep(FAULT_SECONDS)


async def test_a_worker_is_killed(containers: ProjectCopy, crowd: Crowd) -> None:
    await docker("kill", containers.container("chat-1").id)
    await crowd.until_noticed(1)
    await crowd.until_all_are_there()
    assert set(crowd.by_worker) == {"chat-2", "chat-3"}


async def test_a_worker_is_frozen(containers: ProjectCopy, crowd: Crowd) -> None:
    await docker("pause", containers.container("chat-2").id)
    await crowd.until_noticed(1)
    await crowd.until_all_are_there()
    assert set(crowd.by_worker) == {"chat-1", "chat-3"}
    await docker("unpause", containers.container("chat-2").id)


async def test_a_worker_is_cut_off_from_redis(containers: ProjectCopy, crowd: Crowd) -> None:
    worker, network = containers.container("chat-3").id, f"{containers.compose_project}_store"
    await docker("network", "disconnect", network, worker)
    await hold()
    await docker("network", "connect", "--alias", "chat-3", network, worker)


async def test_a_worker_is_cut_off_from_traefik(containers: ProjectCopy, crowd: Crowd) -> None:
    worker, network = containers.container("chat-1").id, f"{containers.compose_project}_inside"
    await docker("network", "disconnect", network, worker)
    await crowd.until_noticed(1)
    await crowd.until_all_are_there()
    await docker("network", "connect", "--alias", "chat-1", network, worker)


async def test_redis_is_killed(containers: ProjectCopy, crowd: Crowd) -> None:
    before = containers.identities()["redis"]
    containers.crash("redis")
    await crowd.until(lambda: containers.identities().get("redis", before) != before, 60)


async def test_redis_is_frozen(containers: ProjectCopy, crowd: Crowd) -> None:
    redis = containers.container("redis").id
    await docker("pause", redis)
    await hold()
    await docker("unpause", redis)


async def test_redis_is_cut_off_from_everybody(containers: ProjectCopy, crowd: Crowd) -> None:
    redis, network = containers.container("redis").id, f"{containers.compose_project}_store"
    await docker("network", "disconnect", network, redis)
    await hold()
    await docker("network", "connect", "--alias", "redis", network, redis)


async def test_a_gateway_is_killed(containers: ProjectCopy, crowd: Crowd) -> None:
    containers.crash("gateway-1")
    await crowd.until_noticed(PEOPLE)
    await crowd.until_all_are_there(60)
