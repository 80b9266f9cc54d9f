"""The stack in containers: what each of them may not do, and what becomes of the whole."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.containers.engine import containers as containers_of
from deploy.containers.files import write_files
from deploy.containers.layout import read_layout, write_record
from deploy.probe import HOST
from tests.e2e.crowd import door_of
from tests.e2e.project_copy import COMMAND_SECONDS, ProjectCopy, copy_project, wait_until

SERVICES = ("traefik", "gateway-1", "chat-1", "chat-3", "redis")


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60)


def inside(stack: ProjectCopy, service: str, *command: str) -> subprocess.CompletedProcess[str]:
    return docker("exec", stack.container(service).id, *command)


def facts(stack: ProjectCopy, service: str) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", stack.container(service).id).stdout)
    assert isinstance(found, dict)
    return found


def process_status(stack: ProjectCopy, service: str) -> dict[str, str]:
    """What the kernel says of the service's own process: the one that the init has started."""
    shell = "cat /proc/$(cut -d ' ' -f 1 /proc/1/task/1/children)/status"
    lines = inside(stack, service, "sh", "-c", shell).stdout.splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.parametrize("service", SERVICES)
def test_it_is_nobody_with_no_way_to_become_somebody(containers: ProjectCopy, service: str) -> None:
    status = process_status(containers, service)
    assert status["Uid"].split() == [{"redis": "999"}.get(service, "10001")] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2", "the engine's filter of system calls"


@pytest.mark.parametrize("service", SERVICES)
def test_its_root_file_system_is_read_only(containers: ProjectCopy, service: str) -> None:
    mounts = [line.split() for line in inside(containers, service, "cat", "/proc/mounts").stdout.splitlines()]
    options = {point: flags.split(",") for _, point, _, flags, *_ in mounts}
    assert options["/"][0] == "ro"
    assert {"noexec", "nosuid", "nodev"} <= set(options["/tmp"])
    script = ": > /tmp/here && chmod 700 /tmp/here && echo 'exit 0' > /tmp/here && /tmp/here"
    assert "Permission denied" in inside(containers, service, "sh", "-c", script).stderr, "nothing in /tmp is executed"


@pytest.mark.parametrize("service", SERVICES)
def test_it_has_limits_an_init_and_logs_that_end(containers: ProjectCopy, service: str) -> None:
    host = facts(containers, service)["HostConfig"]
    assert host["Init"] is True
    assert 0 < host["Memory"] <= 1536 * 2**20
    assert 0 < host["PidsLimit"] <= 256
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["Privileged"] is False
    assert inside(containers, service, "cat", "/proc/sys/net/core/somaxconn").stdout.strip() == "4096"
    # An engine that may not raise its own limit brings this down, to no less than these.
    assert int(inside(containers, service, "sh", "-c", "ulimit -n").stdout) >= 16384


def test_a_service_may_take_longer_to_stop_than_its_clients_take_to_leave(containers: ProjectCopy) -> None:
    for service in ("chat-1", "chat-3", "gateway-1"):
        assert facts(containers, service)["Config"]["StopTimeout"] > 2 + 10


def test_traefik_alone_opens_ports_and_those_on_loopback(containers: ProjectCopy) -> None:
    opened: set[tuple[str, str, int]] = set()
    for service in SERVICES:
        for bindings in facts(containers, service)["NetworkSettings"]["Ports"].values():
            opened |= {(service, binding["HostIp"], int(binding["HostPort"])) for binding in bindings or []}
    base = containers.base_port
    assert opened == {("traefik", HOST, base), ("traefik", HOST, base + 2)}


def test_the_engine_can_be_reached_from_no_container(containers: ProjectCopy) -> None:
    mounted = {mount["Source"] for service in SERVICES for mount in facts(containers, service)["Mounts"]}
    assert not [source for source in mounted if source.endswith(".sock")]
    for service in SERVICES:
        for mount in facts(containers, service)["Mounts"]:
            assert mount["Destination"] in ("/data", "/acme", "/tmp") or not mount["RW"], mount


def test_redis_cannot_be_reached_from_traefik(containers: ProjectCopy) -> None:
    (address,) = (
        network["IPAddress"] for network in facts(containers, "redis")["NetworkSettings"]["Networks"].values()
    )
    say = "printf '%s\\r\\n\\r\\n' \"$1\" | nc -w 2 $2"
    heard = inside(containers, "traefik", "sh", "-c", say, "-", "GET /healthz HTTP/1.0", "chat-1 8000").stdout
    assert "alive" in heard, "this is how one would be heard"
    for target in (address, "redis"):
        assert inside(containers, "traefik", "sh", "-c", say, "-", "PING", f"{target} 6379").stdout == ""


@pytest.mark.parametrize("service", ["chat-1", "gateway-1", "redis"])
def test_there_is_no_way_out(containers: ProjectCopy, service: str) -> None:
    routes = inside(containers, service, "cat", "/proc/net/route").stdout.splitlines()[1:]
    assert routes
    assert "00000000" not in [route.split()[1] for route in routes], "a default route leads to the world"


@pytest.mark.parametrize(
    ("login", "command", "refusal"),
    [
        ("", "GET chat:user:alice", "NOAUTH"),
        ("AUTH default whatever", "PING", "NOAUTH"),
        ("AUTH probe none", "GET chat:user:alice", "NOPERM"),
        ("AUTH probe none", "XREAD COUNT 1 STREAMS {chat:0/4/2}:log 0", "NOPERM"),
    ],
)
def test_redis_answers_strangers_with_nothing_but_pong(
    containers: ProjectCopy, login: str, command: str, refusal: str
) -> None:
    program = (
        "import socket, sys; stream = socket.create_connection(('redis', 6379), 2).makefile('rwb')\n"
        "for line in sys.argv[1:]:\n"
        "    if line: stream.write(line.encode() + b'\\r\\n'); stream.flush(); answer = stream.readline()\n"
        "print(answer.decode())"
    )
    assert refusal in inside(containers, "chat-1", "python", "-c", program, login, command).stdout


def test_no_secret_and_no_compiler_is_in_the_image(containers: ProjectCopy) -> None:
    image = f"{containers.compose_project}-service"
    history = docker("history", "--no-trunc", image).stdout + docker("image", "inspect", image).stdout
    dotenv = (containers.root / ".env").read_text()
    secrets = [line.partition("=")[2] for line in dotenv.splitlines()]
    assert len(secrets) == 2
    assert not [secret for secret in secrets if secret in history]
    listed = inside(containers, "chat-1", "ls", "-A", "/app").stdout.split()
    assert sorted(listed) == ["health.py", "src"]
    for tool in ("gcc", "cc", "g++", "make", "ld"):
        assert inside(containers, "chat-1", "sh", "-c", f"command -v {tool}").returncode != 0


def test_redis_does_not_know_the_password_and_its_folder_is_closed(containers: ProjectCopy) -> None:
    folder = containers.root / "var" / "containers"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "service.env").stat().st_mode & 0o777 == 0o600
    password = (containers.root / ".env").read_text().splitlines()[0].partition("=")[2]
    assert password not in (folder / "redis" / "redis.conf").read_text()
    assert password not in json.dumps(facts(containers, "redis"))
    assert password not in json.dumps(facts(containers, "traefik"))


def test_ps_lists_every_container(containers: ProjectCopy) -> None:
    done = containers.run("ps")
    assert done.returncode == 0, done.stdout
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    assert set(rows) == {"redis", "chat-1", "chat-2", "chat-3", "gateway-1", "traefik"}
    assert all(row[-1] == "yes" for row in rows.values())


def test_up_again_changes_nothing_and_says_so(containers: ProjectCopy) -> None:
    before = containers.identities()
    done = containers.run("up")
    assert done.returncode == 0, done.stderr
    assert "Already running." in done.stdout
    assert containers.identities() == before


def test_up_starts_a_container_that_somebody_stopped(containers: ProjectCopy) -> None:
    docker("kill", containers.container("chat-2").id)
    assert containers.run("ps").returncode == 1
    done = containers.run("up")
    assert done.returncode == 0, done.stderr
    assert "Already running, except chat-2: seeing to that." in done.stdout
    assert containers.run("ps").returncode == 0


@pytest.mark.usefixtures("log")
async def test_what_was_stored_survives_down_and_up(containers: ProjectCopy) -> None:
    door = door_of(containers)
    async with door.connected("alice") as (websocket, _):
        await websocket.send(json.dumps({"type": "send", "topic": "room/kept", "data": "hello", "ref": "1"}))
        ack = json.loads(await websocket.recv())
        assert ack["type"] == "ack"
    down = containers.run("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert containers_of(containers.compose_project) == []
    assert "Nothing runs." in containers.run("down").stdout
    containers.up()
    async with door.connected("alice") as (websocket, _):
        await websocket.send(json.dumps({"type": "history", "topic": "room/kept", "limit": 5}))
        page = json.loads(await websocket.recv())
    assert [message["id"] for message in page["messages"]] == [ack["id"]]


def test_a_load_test_from_a_container_passes_between_all_workers(containers: ProjectCopy) -> None:
    small = {"USERS": "30", "ROOMS": "3", "RATE": "60", "DURATION_SECONDS": "4", "P99_MS": "5000"}
    report_path = containers.root / "loadtests" / "reports" / "of-its-own.json"
    small["REPORT"] = str(report_path)
    done = containers.run("loadtest", **{f"LOADTEST_{name}": value for name, value in small.items()})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    report = json.loads(report_path.read_text())
    assert "PASSED" in report_path.with_suffix(".html").read_text().upper()
    assert report["totals"]["ratio"] == 1
    assert len(report["matrix"]) == 9
    assert all(cell["expected"] == cell["delivered"] > 0 for cell in report["matrix"])
    assert report["settings"]["processes"] == 2
    assert not [one.service for one in containers_of(containers.compose_project) if "loadtest" in one.service]


def test_a_second_load_test_is_refused_and_the_first_one_passes(containers: ProjectCopy) -> None:
    """They took the same containers: each removed the other's."""
    small = {"USERS": "20", "ROOMS": "2", "RATE": "20", "DURATION_SECONDS": "4", "P99_MS": "5000"}
    first = replace(containers, settings={f"LOADTEST_{name}": value for name, value in small.items()}).start("loadtest")
    try:
        wait_until(
            lambda: "loadtest" in {one.service for one in containers_of(containers.compose_project)},
            "the first one has its master",
            300,
        )
        second = containers.run("loadtest")
        assert second.returncode == 1
        assert "Another load test runs" in second.stderr
    finally:
        output, _ = first.communicate(timeout=COMMAND_SECONDS)
    assert first.returncode == 0, output
    assert "PASSED" in output


@pytest.fixture
def not_started(engine: None, tmp_path: Path) -> ProjectCopy:
    return copy_project(tmp_path / "project", "containers", CHAT_WORKERS="1")


def test_up_names_the_taken_port_and_starts_nothing(not_started: ProjectCopy) -> None:
    with socket.create_server((HOST, not_started.base_port)):
        done = not_started.run("up")
    assert done.returncode == 1
    assert f"Port {not_started.base_port} (Traefik, public) is taken" in done.stderr
    assert containers_of(not_started.compose_project) == []


def test_bad_setting_ends_up_with_the_words_of_the_process_and_nothing_left(not_started: ProjectCopy) -> None:
    try:
        done = not_started.run("up", CHAT_TOKEN_SECRET="short")
        assert done.returncode == 1
        assert "CHAT_TOKEN_SECRET is a secret of 5 characters" in done.stderr
        assert containers_of(not_started.compose_project) == []
    finally:
        not_started.run("clean")


def test_up_goes_on_where_one_was_killed_before_there_was_an_image(not_started: ProjectCopy) -> None:
    """It took the stack for one that runs, and looked for containers of an image that was never built."""
    layout = read_layout(not_started.root, not_started.environment)
    write_files(layout)
    write_record(layout)
    try:
        done = not_started.run("up")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Already running, except redis, chat-1, gateway-1, traefik: seeing to that." in done.stdout
    finally:
        not_started.run("clean")


@pytest.mark.parametrize("target", ["service", "loadtest"])
def test_an_image_of_a_checkout_that_is_closed_to_others_can_be_read_by_who_runs_in_it(
    not_started: ProjectCopy, target: str
) -> None:
    """Under umask 077 the service ended with "Permission denied"."""
    image = f"{not_started.compose_project}-closed-{target}"
    for path in (not_started.root, *not_started.root.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    built = subprocess.run(
        ["docker", "build", "--quiet", "--target", target, "--tag", image, str(not_started.root)],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    try:
        listed = docker("run", "--rm", "--network", "none", image, "find", ".", "-readable", "-name", "*.py").stdout
        assert listed
        assert docker("run", "--rm", "--network", "none", image, "find", ".", "!", "-readable").stdout == ""
    finally:
        docker("image", "rm", image)


def test_the_containers_of_another_project_of_the_same_name_are_left_alone(
    containers: ProjectCopy, not_started: ProjectCopy
) -> None:
    before = containers.identities()
    done = not_started.run("up", COMPOSE_PROJECT_NAME=containers.compose_project)
    assert done.returncode == 1
    assert f"belong to {containers.root}" in done.stderr
    assert containers.identities() == before
