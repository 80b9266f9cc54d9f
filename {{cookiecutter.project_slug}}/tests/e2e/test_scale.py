"""Workers come, go and are restarted under a talking crowd: local processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from dotenv import dotenv_values

from deploy.local import records
from tests.e2e.crowd import Crowd, Door, assert_nothing_lost
from tests.e2e.project_copy import ProjectCopy, copy_project

PEOPLE = 24


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectCopy]:
    """Three workers that drain within two seconds."""
    project = copy_project(tmp_path_factory.mktemp("scale") / "project", CHAT_WORKERS="3", CHAT_DRAIN_SECONDS="2")
    project.up()
    yield project
    done = project.run("down")
    assert done.returncode == 0, done.stdout + done.stderr


def door(project: ProjectCopy) -> Door:
    secret = dotenv_values(project.root / ".env")["CHAT_TOKEN_SECRET"]
    assert secret
    return Door(f"ws://127.0.0.1:{project.base_port}/ws", secret)


async def command(project: ProjectCopy, *arguments: str) -> str:
    done = await asyncio.to_thread(project.run, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names(project: ProjectCopy) -> list[str]:
    return sorted(name for name in records.live_processes(project.root) if name.startswith("chat-"))


async def test_scaling_up_and_down_under_load_loses_nothing(stack: ProjectCopy) -> None:
    async with Crowd(door(stack), PEOPLE) as crowd:
        assert set(crowd.by_worker) == {"chat-1", "chat-2", "chat-3"}
        printed = await command(stack, "scale", "5")
        assert "chat-5 is ready and gets connections" in printed
        assert names(stack) == [f"chat-{number}" for number in range(1, 6)]
        assert crowd.closes.total() == 0, "whoever is connected stays"
        printed = await command(stack, "scale", "2")
        assert "chat-3 has ended" in printed
        assert names(stack) == ["chat-1", "chat-2"]
        judged = await crowd.finish()
        assert set(crowd.by_worker) == {"chat-1", "chat-2"}
        assert set(crowd.closes) == {1012}, "they were told to come back"
        assert crowd.refusals == {}, "a worker that leaves is not offered any more"
        assert max(crowd.arrivals.values()) <= 2, "nobody is sent from one that leaves to the next"
        assert_nothing_lost(judged)
    assert stack.run("ps").returncode == 0
    await command(stack, "scale", "3")


async def test_rolling_restart_under_load_loses_nothing(stack: ProjectCopy) -> None:
    before = {name: process.pid for name, process in records.live_processes(stack.root).items()}
    async with Crowd(door(stack), PEOPLE) as crowd:
        printed = await command(stack, "rolling-restart")
        assert "All 3 chat workers were restarted." in printed
        judged = await crowd.finish()
        assert set(crowd.closes) == {1012}
        assert crowd.refusals == {}, "a worker that restarts is not offered meanwhile"
        assert_nothing_lost(judged)
    after = {name: process.pid for name, process in records.live_processes(stack.root).items()}
    assert {name for name in before if before[name] != after[name]} == {"chat-1", "chat-2", "chat-3"}


def test_a_worker_that_cannot_start_is_taken_back_and_the_others_go_on(stack: ProjectCopy) -> None:
    before = names(stack)
    dotenv = stack.root / ".env"
    good = dotenv.read_text()
    dotenv.write_text(good.replace("CHAT_TOKEN_SECRET=", "CHAT_TOKEN_SECRET=short\n#"))
    try:
        done = stack.run("scale", "4")
    finally:
        dotenv.write_text(good)
    assert done.returncode == 1
    assert "chat-4 refused its settings (exit code 2)" in done.stderr
    assert names(stack) == before
    assert stack.run("ps").returncode == 0
    assert "3 chat workers run, as asked for." in stack.run("scale", "3").stdout


def test_a_rolling_restart_stops_at_a_worker_that_does_not_come_back_and_begins_with_it_again(
    stack: ProjectCopy,
) -> None:
    before = {name: process.pid for name, process in records.live_processes(stack.root).items()}
    dotenv = stack.root / ".env"
    good = dotenv.read_text()
    dotenv.write_text(good.replace("CHAT_TOKEN_SECRET=", "CHAT_TOKEN_SECRET=short\n#"))
    try:
        done = stack.run("rolling-restart")
    finally:
        dotenv.write_text(good)
    assert done.returncode == 1
    assert "chat-1 is stopped, and gets no connections. The others run" in done.stderr
    after = {name: process.pid for name, process in records.live_processes(stack.root).items()}
    assert {name for name in before if before[name] != after.get(name)} == {"chat-1"}
    done = stack.run("rolling-restart")
    assert done.returncode == 0, done.stderr
    ended = [line.split()[0] for line in done.stdout.splitlines() if "is back" in line]
    assert ended == ["chat-1", "chat-2", "chat-3"]


@pytest.mark.parametrize("count", ["0", "65", "many"])
def test_a_number_of_workers_that_cannot_be_is_refused(stack: ProjectCopy, count: str) -> None:
    done = stack.run("scale", count)
    assert done.returncode == 2
    assert f"WORKERS is '{count}', allowed is: a whole number from 1 to 64" in done.stderr
