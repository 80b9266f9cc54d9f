"""The load balancer's cookie keeps people at their worker, over reconnects and restarts, and lets them go with it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter

import pytest
from websockets.asyncio.client import ClientConnection

from tests.e2e.crowd import COOKIE, Crowd, Door, assert_nothing_lost, cookie_of, door_of
from tests.e2e.project_copy import ProjectCopy


async def visit(door: Door, cookie: str = "") -> tuple[str, str]:
    """Connect and leave: the worker that answered, and the cookie to come back with."""
    async with door.connected("visitor", cookie) as (websocket, worker):
        jar = cookie_of(websocket)
        return worker, jar[COOKIE].value if COOKIE in jar else cookie


async def cookie_for(door: Door, wanted: str) -> str:
    """A cookie that leads to just this worker."""
    for _ in range(12):
        worker, cookie = await visit(door)
        if worker == wanted:
            return cookie
    raise AssertionError(f"round robin never reached {wanted}")


async def test_a_reconnect_with_the_cookie_reaches_the_same_worker(deployment: ProjectCopy) -> None:
    door = door_of(deployment)
    for _ in range(3):
        worker, cookie = await visit(door)
        again = [await visit(door, cookie) for _ in range(4)]
        assert again == [(worker, cookie)] * 4


async def test_connections_without_the_cookie_spread_evenly(deployment: ProjectCopy) -> None:
    door = door_of(deployment)
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(door.connected(f"visitor-{number}")) for number in range(30)]
    reached = Counter(worker for _, worker in opened)
    assert set(reached) == {"chat-1", "chat-2", "chat-3"}
    assert max(reached.values()) - min(reached.values()) <= 2, reached


async def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(deployment: ProjectCopy) -> None:
    async with door_of(deployment).connected("visitor") as (websocket, _):
        cookie = cookie_of(websocket)[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert (cookie["secure"], cookie["domain"]) == ("", ""), "this stack has no TLS; tests/e2e/test_tls.py has"


async def test_the_cookie_survives_the_restart_of_its_worker(deployment: ProjectCopy) -> None:
    door = door_of(deployment)
    cookie = await cookie_for(door, "chat-2")
    before = deployment.identities()["chat-2"]
    done = await asyncio.to_thread(deployment.run, "restart", "chat-2")
    assert done.returncode == 0, done.stderr
    assert deployment.identities()["chat-2"] != before
    assert await visit(door, cookie) == ("chat-2", cookie)


@pytest.mark.usefixtures("log")
async def test_who_comes_with_the_cookie_of_a_worker_that_is_gone_is_moved_with_a_new_one(
    deployment: ProjectCopy,
) -> None:
    door = door_of(deployment)
    cookie = await cookie_for(door, "chat-3")
    async with Crowd(door, 9) as crowd:
        assert crowd.by_worker["chat-3"] > 0
        done = await asyncio.to_thread(deployment.run, "scale", "2")
        assert done.returncode == 0, done.stderr
        worker, moved = await visit(door, cookie)
        assert worker in {"chat-1", "chat-2"}
        assert moved != cookie
        assert await visit(door, moved) == (worker, moved)
        judged = await crowd.finish()
        assert set(crowd.by_worker) == {"chat-1", "chat-2"}
        assert_nothing_lost(judged)
    done = await asyncio.to_thread(deployment.run, "scale", "3")
    assert done.returncode == 0, done.stderr
    assert await visit(door, cookie) == ("chat-3", cookie), "the same name is the same server"


async def test_a_worker_that_drains_gets_no_new_connections(deployment: ProjectCopy) -> None:
    door = door_of(deployment)
    cookie = await cookie_for(door, "chat-1")
    async with door.connected("inhabitant", cookie) as (inhabitant, worker):
        assert worker == "chat-1"
        restart = asyncio.create_task(asyncio.to_thread(deployment.run, "restart", "chat-1"))
        await heard(inhabitant, "reconnect")
        reached = set[str]()
        for number in itertools.count():
            worker, _ = await visit(door, cookie if number % 2 else "")
            if inhabitant.close_code is not None:
                break  # this visit may have found the new one
            reached.add(worker)
        assert reached, "nobody came while it drained"
        assert reached <= {"chat-2", "chat-3"}
        done = await restart
    assert done.returncode == 0, done.stderr
    assert inhabitant.close_code == 1012


async def heard(websocket: ClientConnection, kind: str) -> None:
    async with asyncio.timeout(30):
        while json.loads(await websocket.recv())["type"] != kind:
            pass


@pytest.mark.usefixtures("log")
async def test_who_is_at_a_worker_that_dies_comes_back_elsewhere_and_misses_nothing(deployment: ProjectCopy) -> None:
    async with Crowd(door_of(deployment), 9) as crowd:
        deployment.crash("chat-2")
        await crowd.until_noticed(3)
        judged = await crowd.finish()
        assert_nothing_lost(judged)
    done = await asyncio.to_thread(deployment.run, "up")
    assert done.returncode == 0, done.stdout + done.stderr
