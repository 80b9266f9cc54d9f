"""The stack without containers: real supervisord, Redis, Traefik, gateway and workers."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest

from deploy.balancer import DOWN, UP
from deploy.local import records
from deploy.local.layout import Layout
from deploy.local.supervision import MAX_SOCKET_PATH_BYTES, Supervisor, socket_path
from deploy.probe import HOST, get
from tests.e2e.project_copy import COMMAND_SECONDS, ProjectCopy, copy_project, wait_until

NAMES = {"redis", "traefik", "gateway-1", "chat-1", "chat-2"}


def pids(project: ProjectCopy) -> dict[str, int]:
    return {name: process.pid for name, process in records.live_processes(project.root).items()}


def is_open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((HOST, port)) == 0


def remaining(layout: Layout, processes: list[psutil.Process]) -> list[object]:
    """Processes that live and ports that somebody answers on: empty after `down`."""
    alive = [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    return [*alive, *(port for port in layout.ports if is_open(port))]


def test_down_leaves_no_process_and_no_port(project: ProjectCopy) -> None:
    project.up()
    processes = list(records.live_processes(project.root).values())
    assert len(processes) == len(NAMES) + 1
    done = project.run("down")
    assert done.returncode == 0, done.stderr
    assert "no process and no port is left" in done.stdout
    assert remaining(project.layout, processes) == []
    assert [path.name for path in project.layout.run_dir.iterdir()] == ["lock"]
    assert (project.root / "var/redis/appendonlydir").is_dir(), "the data stays"
    assert project.run("down").stdout == "Nothing runs.\n"


def test_up_returns_when_every_worker_answers_through_the_balancer(stack: ProjectCopy) -> None:
    layout = stack.layout
    assert layout.balancer.health() == {
        process.url: UP for process in (*layout.gateway_processes, *layout.chat_workers)
    }
    answers = [get(layout.workers_port, "/readyz") for _ in range(4)]
    bodies = {answer.body for answer in answers if answer and answer.status == 200}
    assert len(bodies) == 2, "round robin reaches both workers"


def test_up_again_changes_nothing_and_says_so(stack: ProjectCopy) -> None:
    before = pids(stack)
    done = stack.run("up")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Already running.")
    assert pids(stack) == before


def test_up_with_other_settings_than_what_runs_is_refused(stack: ProjectCopy) -> None:
    done = stack.run("up", CHAT_WORKERS="3")
    assert done.returncode == 1
    assert f"runs already, on port {stack.base_port} with 2 chat workers" in done.stderr


def test_one_command_at_a_time(stack: ProjectCopy) -> None:
    with (stack.layout.run_dir / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = stack.run("down")
    assert done.returncode == 1
    assert "Another" in done.stderr


def test_public_entry_point_serves_the_listed_paths_only(stack: ProjectCopy) -> None:
    inner = ("/metrics", "//metrics", "/readyz", "/healthz", "/api/../metrics", "/api/%2e%2e/metrics")
    answers = {path: get(stack.layout.web_port, path) for path in inner}
    assert {path: answer and answer.status for path, answer in answers.items()} == dict.fromkeys(inner, 404)


def test_no_secret_is_on_a_command_line_or_readable_by_others(stack: ProjectCopy) -> None:
    secrets = [line.split("=", 1)[1] for line in (stack.root / ".env").read_text().splitlines()]
    for process in records.live_processes(stack.root).values():
        command_line = " ".join(process.cmdline())
        assert not [secret for secret in secrets if secret in command_line], command_line
    private = stack.layout.run_dir
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    holding = [path for path in private.glob("*.*") if path.is_file() and secrets[0] in path.read_text()]
    assert holding
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}


def test_killed_worker_leaves_the_balancer_and_comes_back(stack: ProjectCopy) -> None:
    worker = stack.layout.chat_workers[0]
    before = pids(stack)
    # A frozen supervisord brings nothing back, so that there is time to look.
    os.kill(before[records.SUPERVISORD], signal.SIGSTOP)
    try:
        os.kill(before[worker.name], signal.SIGKILL)
        wait_until(
            lambda: stack.layout.balancer.health()[worker.url] == DOWN,
            "Traefik takes the worker out",
        )
        answers = [get(stack.layout.workers_port, "/readyz") for _ in range(4)]
        assert [answer and answer.status for answer in answers] == [200] * 4
        listed = stack.run("ps")
        assert listed.returncode == 1
        assert any(line.split()[0] == worker.name and "DOWN" in line for line in listed.stdout.splitlines())
    finally:
        os.kill(before[records.SUPERVISORD], signal.SIGCONT)
    wait_until(lambda: stack.run("ps").returncode == 0, "everything works again")
    assert stack.layout.balancer.health()[worker.url] == UP
    after = pids(stack)
    assert {name for name in before if before[name] != after[name]} == {worker.name}
    assert stack.row(worker.name).pid == str(after[worker.name])


def test_restart_replaces_one_process(stack: ProjectCopy) -> None:
    before = pids(stack)
    done = stack.run("restart", "chat-2")
    assert done.returncode == 0, done.stderr
    after = pids(stack)
    assert {name for name in before if before[name] != after[name]} == {"chat-2"}
    assert stack.run("ps").returncode == 0


def test_a_changed_list_of_workers_takes_effect_without_a_restart(stack: ProjectCopy) -> None:
    layout = stack.layout
    leaving, staying = layout.chat_workers
    gateways = [process.url for process in layout.gateway_processes]
    layout.balancer.write_dynamic(gateways, [staying.url])
    try:
        wait_until(lambda: leaving.url not in layout.balancer.health(), "Traefik forgets the worker")
    finally:
        layout.balancer.write_dynamic(gateways, [leaving.url, staying.url])
    wait_until(lambda: layout.balancer.health().get(leaving.url) == UP, "Traefik has it again")


def test_logs_follow_all_processes_until_interrupted(stack: ProjectCopy) -> None:
    following = stack.start("logs")
    assert following.stdout is not None
    seen: set[str] = set()
    while not seen >= NAMES:
        line = following.stdout.readline()
        assert line, f"ended after {seen}"
        seen.add(line.split("|")[0].strip())
    following.send_signal(signal.SIGINT)
    rest, _ = following.communicate(timeout=10)
    assert following.returncode == 0
    assert "Traceback" not in rest


def test_up_names_the_taken_port_and_its_holder_and_starts_nothing(project: ProjectCopy) -> None:
    port = project.layout.workers_port
    with socket.create_server((HOST, port)):
        done = project.run("up")
    assert done.returncode == 1
    me = psutil.Process()
    assert f"Port {port} (Traefik, to the workers) is taken: {me.name()} (pid {me.pid}) holds it." in done.stderr
    assert "make up PORT=" in done.stderr
    assert records.live_processes(project.root) == {}


def test_interrupted_up_stops_what_it_started(project: ProjectCopy) -> None:
    starting = project.start("up")
    assert starting.stdout is not None
    while "redis is ready" not in (line := starting.stdout.readline()):
        assert line, "`up` ended by itself"
    processes = list(records.live_processes(project.root).values())
    assert len(processes) >= 2
    starting.send_signal(signal.SIGINT)
    rest, _ = starting.communicate(timeout=60)
    assert starting.returncode == 130, rest
    assert "Traceback" not in rest
    assert remaining(project.layout, processes) == []
    assert list(project.layout.run_dir.glob("*.pid")) == []


def test_up_on_a_terminal_that_is_closed_stops_what_it_started(project: ProjectCopy) -> None:
    """Nobody reads any more, and SIGHUP comes twice."""
    starting = project.start("up")
    assert starting.stdout is not None
    while "redis is ready" not in (line := starting.stdout.readline()):
        assert line, "`up` ended by itself"
    processes = list(records.live_processes(project.root).values())
    starting.stdout.close()
    starting.send_signal(signal.SIGHUP)
    starting.send_signal(signal.SIGHUP)
    assert starting.wait(timeout=60) == 130
    assert remaining(project.layout, processes) == []
    assert list(project.layout.run_dir.glob("*.pid")) == []


def test_up_that_nobody_reads_starts_the_whole_stack(project: ProjectCopy) -> None:
    """As in `make up | head -1`."""
    starting = project.start("up")
    assert starting.stdout is not None
    assert starting.stdout.readline()
    starting.stdout.close()
    assert starting.wait(timeout=COMMAND_SECONDS) == 0
    assert project.run("ps").returncode == 0


@pytest.mark.parametrize("command", ["down", "up"])
def test_a_supervisord_that_is_stopping_is_not_waited_for(project: ProjectCopy, command: str) -> None:
    """Until the last process has drained, it answers every call with a fault."""
    project.up()
    processes = records.live_processes(project.root)
    supervisor = Supervisor(socket_path(project.layout))
    processes["chat-1"].suspend()  # it does not hear that it shall end
    processes[records.SUPERVISORD].terminate()
    wait_until(lambda: not supervisor.answers(), "supervisord is stopping")
    assert processes[records.SUPERVISORD].is_running()
    listed = project.run("ps")
    assert (listed.returncode, listed.stderr) == (1, "")
    done = project.run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    left = [process for process in processes.values() if process.is_running()]
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert project.run("ps").returncode == (0 if command == "up" else 1)


def test_bad_setting_ends_up_with_the_words_of_the_process(project: ProjectCopy) -> None:
    done = project.run("up", CHAT_TOKEN_SECRET="short")
    assert done.returncode == 1
    assert "refused its settings (exit code 2)" in done.stderr
    assert "  | " in done.stderr.split("CHAT_TOKEN_SECRET")[0], "the log's last lines name it"
    assert list(project.layout.run_dir.glob("*.pid")) == []


def test_process_that_refuses_its_settings_is_not_restarted(project: ProjectCopy) -> None:
    project.up()
    dotenv = project.root / ".env"
    good = dotenv.read_text()
    dotenv.write_text(good.replace("CHAT_TOKEN_SECRET=", "CHAT_TOKEN_SECRET=short\n#"))
    os.kill(pids(project)["chat-1"], signal.SIGKILL)
    wait_until(lambda: project.row("chat-1").state == "bad settings", "chat-1 is left alone")
    assert project.row("chat-1").pid == "-"
    dotenv.write_text(good)
    done = project.run("up")
    assert done.returncode == 0, done.stderr
    assert "Already running, except chat-1: starting that." in done.stdout


@pytest.mark.parametrize("command", ["down", "up"])
def test_orphans_of_a_killed_supervisord_are_found_and_stopped(project: ProjectCopy, command: str) -> None:
    project.up()
    processes = records.live_processes(project.root)
    # Its pid note must be the new one, or nobody would find it.
    os.kill(processes["chat-1"].pid, signal.SIGKILL)
    wait_until(lambda: pids(project).get("chat-1", processes["chat-1"].pid) != processes["chat-1"].pid, "back")
    processes = records.live_processes(project.root)
    os.kill(processes[records.SUPERVISORD].pid, signal.SIGKILL)
    processes["chat-2"].suspend()
    listed = project.run("ps")
    assert listed.returncode == 1
    assert "supervisord is gone" in listed.stdout
    done = project.run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    left = [process for process in processes.values() if process.is_running()]
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    if command == "up":
        assert project.run("ps").returncode == 0


def test_project_in_a_deep_folder_with_an_awkward_name(tmp_path: Path) -> None:
    """A Unix socket's path has at most 108 bytes; supervisor's parser knows `%`, `#` and `;`."""
    root = tmp_path / "100%(x)s #1 ; 'a'" / ("deep" * 20) / "project"
    root.mkdir(parents=True)
    project = copy_project(root)
    socket_folder = socket_path(project.layout).parent
    assert len(os.fsencode(project.layout.run_dir)) > MAX_SOCKET_PATH_BYTES
    try:
        project.up()
        processes = list(records.live_processes(project.root).values())
        assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    finally:
        done = project.run("down")
    assert done.returncode == 0, done.stderr
    assert remaining(project.layout, processes) == []
    assert not socket_folder.exists()
