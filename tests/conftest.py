"""Projects that several tests look at."""

from pathlib import Path

import pytest
from baked_project import TEMPLATE, BakedProject, bake


@pytest.fixture(scope="session")
def default_project(tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    """What all the defaults give. Tests only read it."""
    return bake(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def project_venv() -> Path:
    """The environment that all generated projects under test share; their own `make install` fills it."""
    return TEMPLATE / "build" / "test" / "venv"


@pytest.fixture(scope="session")
def installed_python(default_project: BakedProject, project_venv: Path) -> Path:
    """Of that environment, with everything that a generated project needs."""
    run = default_project.make("install", venv=project_venv, timeout_seconds=900)
    assert run.returncode == 0, run.stderr
    return project_venv / "bin" / "python"
