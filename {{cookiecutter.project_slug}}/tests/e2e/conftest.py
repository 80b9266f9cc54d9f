"""Stacks of real processes and containers. Whatever a test does to its stack, `down` must clean up after it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.containers.engine import missing_reason
from deploy.settings import PROJECT_ROOT
from tests.e2e.project_copy import ProjectCopy, copy_project


def _stopped_afterwards(project: ProjectCopy) -> Iterator[ProjectCopy]:
    yield project
    done = project.run("down")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session", autouse=True)
def _generated_project() -> None:
    if "{" in (PROJECT_ROOT / "pyproject.toml").read_text("utf-8").split("package = ")[1].splitlines()[0]:
        pytest.skip("the stack runs in a generated project, not in the template")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that needs an image waits until it is built, which takes as long as its packages take to come."""
    builds = {"engine", "containers", "deployment", "secure"}
    for item in items:
        if builds & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[ProjectCopy]:
    """Nothing runs in it yet."""
    yield from _stopped_afterwards(copy_project(tmp_path / "project"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectCopy]:
    """Runs, with two workers; a test leaves it as it found it: everything ready."""
    project = copy_project(tmp_path_factory.mktemp("stack") / "project")
    for running in _stopped_afterwards(project):
        running.up()
        yield running


@pytest.fixture(scope="session")
def log() -> None:
    """Skips what holds only where messages are stored."""
    deployment = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["deployment"]
    if deployment["delivery"] != "log":
        pytest.skip("messages are delivered at most once here: who was away is not told what was missed")


@pytest.fixture(scope="session")
def engine() -> None:
    """Skips what needs containers where none can be run, and says why."""
    if reason := missing_reason():
        pytest.skip(f"no containers here: {reason}")


@pytest.fixture(scope="session")
def containers(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectCopy]:
    """Runs in containers, with three workers that drain within two seconds; a test leaves it as it found it."""
    folder = tmp_path_factory.mktemp("containers") / "project"
    yield from _wide(copy_project(folder, "containers", CHAT_WORKERS="3", CHAT_DRAIN_SECONDS="2"))


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectCopy]:
    """The same as local processes."""
    folder = tmp_path_factory.mktemp("processes") / "project"
    yield from _wide(copy_project(folder, CHAT_WORKERS="3", CHAT_DRAIN_SECONDS="2"))


def _wide(project: ProjectCopy) -> Iterator[ProjectCopy]:
    try:
        project.up()
        yield project
    finally:
        done = project.run("clean")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session", params=["processes", "containers"])
def deployment(request: pytest.FixtureRequest) -> ProjectCopy:
    """Both ways to run the stack, one after the other."""
    running: ProjectCopy = request.getfixturevalue(request.param)
    return running
