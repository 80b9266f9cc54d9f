"""What the commands do with an engine that fails them. It is a script here, which notes what it is asked."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import choice
from deploy.containers import engine, up
from deploy.containers.files import write_files
from deploy.containers.layout import ContainerLayout, read_layout, read_record, write_record
from deploy.containers.runtime import ContainerRuntime
from deploy.errors import ComposeFailed, EngineMissing, WrongState
from deploy.local import ports, records
from deploy.local.layout import read_layout as read_local_layout
from deploy.lock import only_load_test
from deploy.say import say


@dataclass(frozen=True)
class Engine:
    folder: Path

    def answers(self, command: str, script: str) -> None:
        """`docker COMMAND ...` is this from now on."""
        (self.folder / f"{command}.sh").write_text(script)

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """All is well with it, and it has no containers."""
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "asked").touch()
    script = folder / "docker"
    script.write_text(f'#!/bin/sh\ncd {folder}\necho "$*" >>asked\nif [ -e "$1.sh" ]; then . "./$1.sh"; fi\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    made = Engine(folder)
    for command in ("info", "compose", "buildx"):
        made.answers(command, "echo 1.2.3")
    return made


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[tool.deployment]\npackage = "app"\nworkers = 2\n')
    (project / ".env").write_text("CHAT_REDIS_PASSWORD=secret\n")
    return project


@pytest.fixture
def layout(root: Path) -> ContainerLayout:
    """Its stack was started and stopped: the volumes are there."""
    layout = read_layout(root, {})
    write_files(layout)
    return layout


def clean(root: Path) -> None:
    """As `make clean` calls it."""
    choice.choose(root, "clean", {}, print).clean(print)


# clean


def test_clean_removes_the_volumes_of_a_stack_that_was_stopped(layout: ContainerLayout, fake: Engine) -> None:
    clean(layout.root)
    assert any(call.endswith("down --remove-orphans --volumes --rmi local") for call in fake.asked)


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("runs", [True, False])
def test_clean_fails_where_no_engine_can_remove_the_volumes(layout: ContainerLayout, runs: bool) -> None:
    """It did nothing, and said nothing; then make removed `var`, and with it all that knew of them."""
    if runs:
        write_record(layout)
    with pytest.raises(EngineMissing, match="which cannot be removed: there is no `docker` on the PATH"):
        clean(layout.root)


def test_clean_removes_the_volumes_also_where_processes_run_now(layout: ContainerLayout, fake: Engine) -> None:
    """Whoever changed to local processes, and cleaned then, found the old messages at the next start in containers."""
    local = read_local_layout(layout.root, {})
    local.make_folders()
    records.write_stack(local, layout.root / "socket")
    clean(layout.root)
    assert any("down --remove-orphans --volumes" in call for call in fake.asked)
    assert records.read_stack(layout.root) is None


@pytest.mark.usefixtures("no_engine")
def test_clean_needs_no_engine_where_nothing_ran_in_containers(root: Path) -> None:
    clean(root)
    said: list[str] = []
    ContainerRuntime(root).clean(said.append)
    assert said == ["Nothing was started in containers."]


# up


def test_up_that_fails_stops_what_it_started_though_nobody_reads_that(
    layout: ContainerLayout, fake: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make up | head -1`: to say that it stops failed, too, and what was started stayed."""
    monkeypatch.setattr(ports, "taken_ports", lambda purposes: [])
    fake.answers("compose", 'case "$*" in *" build "*) echo no space left; exit 1 ;; esac')
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        with pytest.raises(ComposeFailed, match="no space left"):
            up.up(layout, {}, say)
    assert any(call.endswith("down --remove-orphans") for call in fake.asked)
    assert read_record(layout.root) is None


# What the engine says of its containers


def test_an_engine_that_cannot_list_its_containers_does_not_pass_for_one_without(fake: Engine) -> None:
    """Then `up` would take the stack down, and `down` would not let the gateways drain."""
    fake.answers("ps", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(EngineMissing, match="`docker ps` failed: Cannot connect to the Docker daemon\nRepeat"):
        engine.containers("chat")


def test_an_engine_that_is_gone_once_it_has_listed_them_neither(fake: Engine) -> None:
    fake.answers("ps", "echo 4711")
    fake.answers("inspect", "echo '[]'; echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(EngineMissing, match="`docker inspect` failed"):
        engine.containers("chat")


def test_an_engine_that_is_silent_is_one_that_is_missing(fake: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ANSWER_SECONDS", 0.5)
    fake.answers("ps", "exec sleep 60")
    with pytest.raises(EngineMissing, match=r"`docker ps` does not answer within 0\.5 s"):
        engine.containers("chat")


@pytest.mark.parametrize("words", ["Error: No such container: 4711", "error: no such object: 4711"])
def test_a_container_that_has_gone_since_it_was_listed_is_no_fault(fake: Engine, words: str) -> None:
    fake.answers("ps", "echo 4711")
    fake.answers("inspect", f"echo '[]'; echo '{words}' >&2; exit 1")
    assert engine.containers("chat") == []


# loadtest


def test_a_second_load_test_is_refused_and_leaves_the_first_ones_containers(
    layout: ContainerLayout, fake: Engine
) -> None:
    """It removed them, by their name: both runs failed."""
    write_record(layout)
    with only_load_test(layout.root), pytest.raises(WrongState, match="Another load test runs"):
        ContainerRuntime(layout.root).loadtest({})
    assert not [call for call in fake.asked if call.startswith("rm")]


def test_a_load_test_is_no_hindrance_to_the_next(layout: ContainerLayout, fake: Engine) -> None:
    write_record(layout)
    with only_load_test(layout.root):
        pass
    assert ContainerRuntime(layout.root).loadtest({}) == 0
