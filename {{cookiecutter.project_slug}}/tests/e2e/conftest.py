"""Stacks of real processes. Whatever a test does to its stack, `down` must clean up after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
