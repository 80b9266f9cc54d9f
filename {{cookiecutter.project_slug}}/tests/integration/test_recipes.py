"""The recipes of docs/recipes.md: each is followed to the letter in a copy of the service, and does what it says."""

import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from distributed_websocket.auth import issue_token
from tests.processes import Running, service
from tests.redis_server import RedisServer, free_port
from tests.service import ROOT
from tests.workers import Client, connected

TEXT = (ROOT / "docs" / "recipes.md").read_text("utf-8")
RECIPES: dict[str, str] = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n)*)", TEXT, flags=re.MULTILINE))
BLOCK = re.compile(r"^`(?P<path>[\w/]+\.py)`|^```(?P<kind>python|diff)\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
MAX_LINES = 20

SECRET = "an-example-secret-of-enough-characters"
Change = tuple[str, str, str]
"""The file, `python` or `diff`, and the code."""


def changes(recipe: str) -> list[Change]:
    found, path = [], ""
    for block in BLOCK.finditer(RECIPES[recipe]):
        if block["path"]:
            path = block["path"]
        else:
            found.append((path, block["kind"], block["code"]))
    assert found
    return found


def sides(diff: str) -> tuple[str, str]:
    """What a diff replaces, and by what."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    return before, "".join(line[1:] for line in lines if line[0] in " +")


def follow(recipe: str, folder: Path) -> Path:
    """A copy of the project's service that has been changed as the recipe says."""
    for name in ("src", "tests/service.py", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    (package,) = (path.parent for path in (folder / "src").glob("*/gateway"))
    for path, kind, code in changes(recipe):
        if kind == "python":
            assert not (package / path).exists()
            (package / path).write_text(code, "utf-8")
        else:
            source = (package / path).read_text("utf-8")
            before, after = sides(code)
            assert source.count(before) == 1, f"{path} does not have just once:\n{before}"
            (package / path).write_text(source.replace(before, after), "utf-8")
    return folder


@contextlib.contextmanager
def workers(root: Path, *ports: int, **settings: str) -> Iterator[tuple[Running, ...]]:
    """Real workers of the project in `root`, one for each port."""
    with contextlib.ExitStack() as stack:
        started = []
        for number, port in enumerate(ports, 1):
            own = {"CHAT_TOKEN_SECRET": SECRET, "CHAT_WORKER_NAME": f"chat-{number}", "CHAT_BIND_PORT": str(port)}
            started.append(stack.enter_context(service("chat", root, own | settings, root=root)))
        yield tuple(started)


@contextlib.asynccontextmanager
async def person(name: str, worker: Running) -> AsyncIterator[Client]:
    token = issue_token(name, secret=SECRET, lifetime_seconds=600)
    async with connected(worker.ws, additional_headers={"Authorization": f"Bearer {token}"}) as client:
        yield client


async def refusal(client: Client, kind: str, **fields: Any) -> str:
    await client.send(kind, **fields)
    return str((await client.until("error"))["code"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_fewer_than_twenty_lines_of_code(recipe: str) -> None:
    added = [
        line
        for _, kind, code in changes(recipe)
        for line in (code.splitlines() if kind == "python" else [one[1:] for one in code.splitlines() if one[0] == "+"])
        if line.strip() and not line.startswith(("import ", "from "))
    ]
    assert len(added) < MAX_LINES, added


def test_there_is_a_test_for_each_recipe() -> None:
    assert set(RECIPES) == {"A message type of your own", "A topic policy", "A broker of your own"}


async def test_a_message_type_of_ones_own(tmp_path: Path, own_redis: RedisServer) -> None:
    recipe = "A message type of your own"
    said, ack, heard = [json.loads(line) for line in re.findall(r"^(?:->|<-) (.*)$", RECIPES[recipe], re.MULTILINE)]
    root = follow(recipe, tmp_path)
    with workers(root, free_port(), free_port(), CHAT_BROKER_URL=own_redis.url) as (first, second):
        async with person("alice", first) as alice, person("bob", second) as bob:
            place = await bob.subscribe(said["topic"])
            await alice.socket.send(json.dumps(said))
            assert (await alice.until("ack")).keys() == ack.keys()
            got = await bob.until(said["type"])
            assert got | {"id": 0, "at": 0} == heard | {"id": 0, "at": 0}
            async with person("carol", second) as late:
                since = {"position": place["position"], "epoch": place["epoch"]}
                assert (await late.subscribe(said["topic"], since=since))["recovered"] is True
                assert await late.until(said["type"]) == got
            assert await refusal(alice, "react", topic=said["topic"], sign="nonsense") == "invalid_message"
            assert await refusal(alice, "react", topic="nobody/1", sign=said["sign"]) == "not_allowed"
            assert await refusal(alice, "react", sign=said["sign"]) == "not_allowed"
            assert await refusal(alice, "react", topic="room/+", sign=said["sign"]) == "invalid_topic"
            assert (await alice.publish("room/1", "still here"))["id"]


async def test_a_topic_policy(tmp_path: Path) -> None:
    root = follow("A topic policy", tmp_path)
    with workers(root, free_port()) as (worker,):
        async with person("alice", worker) as alice, person("bob", worker) as bob, person("carol", worker) as carol:
            await bob.subscribe("dm/alice/bob")
            assert (await alice.publish("dm/alice/bob", "between us"))["id"]
            (message,) = await bob.delivered(1)
            assert (message["data"], message["from"]) == ("between us", "alice")
            for kind in ("subscribe", "history", "presence", "send"):
                assert await refusal(carol, kind, topic="dm/alice/bob") == "not_allowed"
            for topic in ("dm/bob/alice", "dm/alice", "dm/alice/bob/carol", "dm/+/alice", "dm/alice/+", "dm/#"):
                assert await refusal(alice, "subscribe", topic=topic) == "not_allowed"
            await carol.subscribe("room/1")
            await alice.publish("room/1", "for everybody")
            assert (await carol.delivered(1))[0]["data"] == "for everybody"


async def test_a_broker_of_ones_own(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    root = follow("A broker of your own", tmp_path)
    (source,) = (root / "src").glob("*/chat/udp_broker.py")
    code = source.read_text("utf-8")
    assert "range(8021, 8029)" in code
    source.write_text(code.replace("range(8021, 8029)", repr(ports)), "utf-8")
    with workers(root, *ports) as (first, second):
        async with person("alice", first) as alice, person("bob", second) as bob:
            for somebody in (alice, bob):
                await somebody.subscribe("room/1")
            await alice.send("send", topic="room/1", data={"text": "by UDP"}, ref=1)
            assert (await alice.until("ack")).get("id") is None
            for somebody in (alice, bob):
                (message,) = await somebody.delivered(1)
                assert (message["data"], message["from"]) == ({"text": "by UDP"}, "alice")
            assert await refusal(bob, "history", topic="room/1") == "not_allowed"
            since = {"position": "1-0", "epoch": "one"}
            assert (await alice.subscribe("room/1", since=since))["recovered"] is False
            # A datagram holds no more than 64 KiB.
            await alice.publish("room/1", "x" * 60_000)
            assert await refusal(alice, "send", topic="room/1", data="x" * 65_450, ref=2) == "unavailable"
