"""What breaks between containers, made for real under a talking crowd: killed, frozen, cut off from each other.

A frozen Redis, and a worker that is cut off from it, are in test_chaos_in_containers.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.e2e.crowd import Crowd, assert_nothing_lost, door_of
from tests.e2e.project_copy import ProjectCopy

PEOPLE = 18
PATIENCE_SECONDS = 4
"""A connection that leads nowhere any more is left early."""
FAULT_SECONDS = 8
"""Longer than the probe of an idle log, the timeouts of Traefik and Redis's clients, and the patience of the crowd."""


async def docker(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "docker", *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.fixture
async def crowd(containers: ProjectCopy) -> AsyncIterator[Crowd]:
    """All are in the room and talk. Afterwards everything works again, and nothing was lost."""
    async with Crowd(replace(door_of(containers), patience_seconds=PATIENCE_SECONDS), PEOPLE) as crowd:
        assert set(crowd.by_worker) == {"chat-1", "chat-2", "chat-3"}
        yield crowd
        up = await asyncio.to_thread(containers.run, "up")
        assert up.returncode == 0, up.stdout + up.stderr
        judged = await crowd.finish(60)
        assert_nothing_lost(judged)


@contextlib.asynccontextmanager
async def frozen(project: ProjectCopy, name: str) -> AsyncIterator[None]:
    """Its connections stay open, and nothing is answered any more."""
    container = project.container(name).id
    await docker("pause", container)
    try:
        yield
    finally:
        await docker("unpause", container)


@contextlib.asynccontextmanager
async def cut_off(project: ProjectCopy, name: str, network: str) -> AsyncIterator[None]:
    """Its packets in this network go nowhere, those of open connections too."""
    container, full_name = project.container(name).id, f"{project.compose_project}_{network}"
    (facts,) = json.loads(await docker("inspect", container))
    aliases = facts["NetworkSettings"]["Networks"][full_name]["Aliases"]
    await docker("network", "disconnect", full_name, container)
    try:
        yield
    finally:
        names = (argument for alias in aliases for argument in ("--alias", alias))
        await docker("network", "connect", *names, full_name, container)


async def test_a_worker_is_killed(containers: ProjectCopy, crowd: Crowd) -> None:
    await docker("kill", containers.container("chat-1").id)
    await crowd.until(lambda: crowd.everybody_is_at({"chat-2", "chat-3"}))


async def test_a_worker_is_frozen(containers: ProjectCopy, crowd: Crowd) -> None:
    async with frozen(containers, "chat-2"):
        await crowd.until(lambda: crowd.everybody_is_at({"chat-1", "chat-3"}))


async def test_a_worker_is_cut_off_from_traefik(containers: ProjectCopy, crowd: Crowd) -> None:
    async with cut_off(containers, "chat-1", "inside"):
        await crowd.until(lambda: crowd.everybody_is_at({"chat-2", "chat-3"}))


async def test_redis_is_killed(containers: ProjectCopy, crowd: Crowd) -> None:
    before = containers.identities()["redis"]
    containers.crash("redis")
    await crowd.until(lambda: containers.identities().get("redis", before) != before)


async def test_redis_is_cut_off_from_everybody(containers: ProjectCopy, crowd: Crowd) -> None:
    async with cut_off(containers, "redis", "store"):
        await asyncio.sleep(FAULT_SECONDS)


async def test_a_gateway_is_killed(containers: ProjectCopy, crowd: Crowd) -> None:
    containers.crash("gateway-1")
    await crowd.until_noticed(PEOPLE)
