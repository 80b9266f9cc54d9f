"""Where the programs that load a stack find it: its own record says, not what is set now."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.containers import layout as containers
from deploy.loadtest import is_elsewhere, where_it_runs
from deploy.local import records
from deploy.local.layout import read_layout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.deployment]\npackage = "app"\nworkers = 3\n')
    (tmp_path / ".env").write_text("CHAT_REDIS_PASSWORD=secret\nCHAT_PORT=9999\n")
    (tmp_path / "var" / "run").mkdir(parents=True)
    return tmp_path


def test_where_nothing_runs_nothing_is_said(project: Path) -> None:
    assert where_it_runs(project) == {}


def test_a_stack_of_processes_is_found(project: Path) -> None:
    layout = read_layout(project, {"CHAT_PORT": "9100", "CHAT_WORKERS": "5"})
    records.write_stack(layout, project / "socket")
    assert where_it_runs(project) == {
        "CHAT_PORT": "9100",
        "CHAT_WORKERS": "5",
        "LOADTEST_URL": "ws://127.0.0.1:9100/ws",
    }


def test_a_stack_in_containers_is_found(project: Path) -> None:
    containers.write_record(containers.read_layout(project, {"CHAT_PORT": "9200", "CHAT_WORKERS": "2"}))
    assert where_it_runs(project) == {
        "CHAT_PORT": "9200",
        "CHAT_WORKERS": "2",
        "LOADTEST_URL": "ws://127.0.0.1:9200/ws",
    }


@pytest.mark.parametrize(("address", "host"), [("192.0.2.7", "192.0.2.7"), ("0.0.0.0", "127.0.0.1")])
def test_it_is_reached_where_its_port_is_open(project: Path, address: str, host: str) -> None:
    containers.write_record(containers.read_layout(project, {"CHAT_PUBLIC_ADDRESS": address}))
    assert where_it_runs(project)["LOADTEST_URL"] == f"ws://{host}:9999/ws"


def test_a_stack_that_is_named_wins(project: Path) -> None:
    assert not is_elsewhere(project, {})
    assert is_elsewhere(project, {"LOADTEST_URL": "wss://chat.example/ws"})
    (project / ".env").write_text("LOADTEST_URL=wss://chat.example/ws\n")
    assert is_elsewhere(project, {})
