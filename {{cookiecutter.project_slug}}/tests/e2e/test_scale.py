"""Workers come, go and are restarted under a talking crowd, as processes and as containers."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.crowd import Crowd, assert_nothing_lost, door_of
from tests.e2e.project_copy import ProjectCopy

PEOPLE = 24


async def command(project: ProjectCopy, *arguments: str) -> str:
    done = await asyncio.to_thread(project.run, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("log")
async def test_scaling_up_and_down_under_load_loses_nothing(deployment: ProjectCopy) -> None:
    async with Crowd(door_of(deployment), PEOPLE) as crowd:
        assert set(crowd.by_worker) == {"chat-1", "chat-2", "chat-3"}
        printed = await command(deployment, "scale", "5")
        assert "chat-5 is ready and gets connections" in printed
        assert deployment.workers() == [f"chat-{number}" for number in range(1, 6)]
        assert crowd.closes.total() == 0, "whoever is connected stays"
        printed = await command(deployment, "scale", "2")
        assert "chat-3 has ended" in printed
        assert deployment.workers() == ["chat-1", "chat-2"]
        judged = await crowd.finish()
        assert set(crowd.by_worker) == {"chat-1", "chat-2"}
        assert set(crowd.closes) == {1012}, "they were told to come back"
        assert crowd.refusals == {}, "a worker that leaves is not offered any more"
        assert max(crowd.arrivals.values()) <= 2, "nobody is sent from one that leaves to the next"
        assert_nothing_lost(judged)
    assert deployment.run("ps").returncode == 0
    await command(deployment, "scale", "3")


@pytest.mark.usefixtures("log")
async def test_rolling_restart_under_load_loses_nothing(deployment: ProjectCopy) -> None:
    before = deployment.identities()
    async with Crowd(door_of(deployment), PEOPLE) as crowd:
        printed = await command(deployment, "rolling-restart")
        assert "All 3 chat workers were restarted." in printed
        judged = await crowd.finish()
        assert set(crowd.closes) == {1012}
        assert crowd.refusals == {}, "a worker that restarts is not offered meanwhile"
        assert_nothing_lost(judged)
    after = deployment.identities()
    assert {name for name in before if before[name] != after[name]} == {"chat-1", "chat-2", "chat-3"}


def test_a_worker_that_cannot_start_is_taken_back_and_the_others_go_on(deployment: ProjectCopy) -> None:
    before = deployment.workers()
    dotenv = deployment.root / ".env"
    good = dotenv.read_text()
    dotenv.write_text(good.replace("CHAT_TOKEN_SECRET=", "CHAT_TOKEN_SECRET=short\n#"))
    try:
        done = deployment.run("scale", "4")
    finally:
        dotenv.write_text(good)
    assert done.returncode == 1
    assert "chat-4" in done.stderr
    assert "CHAT_TOKEN_SECRET is a secret of 5 characters" in done.stderr, "its last words"
    assert deployment.workers() == before
    assert deployment.run("ps").returncode == 0
    assert "3 chat workers run, as asked for." in deployment.run("scale", "3").stdout


def test_a_rolling_restart_stops_at_a_worker_that_does_not_come_back(deployment: ProjectCopy) -> None:
    before = deployment.identities()
    dotenv = deployment.root / ".env"
    good = dotenv.read_text()
    dotenv.write_text(good.replace("CHAT_TOKEN_SECRET=", "CHAT_TOKEN_SECRET=short\n#"))
    try:
        done = deployment.run("rolling-restart")
    finally:
        dotenv.write_text(good)
    assert done.returncode == 1
    assert "chat-1 is stopped, and gets no connections. The others run" in done.stderr
    after = deployment.identities()
    assert {name for name in before if before[name] != after.get(name)} == {"chat-1"}
    assert "make restart NAME=chat-1" in done.stderr
    done = deployment.run("restart", "chat-1")
    assert done.returncode == 0, done.stderr
    assert deployment.run("ps").returncode == 0


@pytest.mark.parametrize("count", ["0", "65", "many"])
def test_a_number_of_workers_that_cannot_be_is_refused(deployment: ProjectCopy, count: str) -> None:
    done = deployment.run("scale", count)
    assert done.returncode == 2
    assert f"WORKERS is '{count}', allowed is: a whole number from 1 to 64" in done.stderr


def test_the_load_test_knows_how_many_workers_there_are_now(deployment: ProjectCopy) -> None:
    deployment.run("scale", "2")
    small = {"USERS": "12", "ROOMS": "2", "RATE": "40", "DURATION_SECONDS": "2", "P99_MS": "5000"}
    done = deployment.run("loadtest", **{f"LOADTEST_{name}": value for name, value in small.items()})
    deployment.run("scale", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
