"""What a generated project's own `make` does, for answers far from the defaults. `make test` runs the defaults."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from baked_project import TEMPLATE, BakedProject, bake

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, project_venv: Path) -> BakedProject:
    project = bake(
        tmp_path_factory.mktemp("a folder with spaces"),
        project_name='2nd "Chat" \\ o\'Neill \N{ROCKET}',
        description='line one\nline "two" <3',
        package_name="zz_chat",
        workers=64,
    )
    run = project.make("install", venv=project_venv)
    assert run.returncode == 0, run.stderr
    return project


def python(project_venv: Path, code: str, cwd: Path) -> str:
    run = subprocess.run([project_venv / "bin" / "python", "-c", code], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_second_install_has_nothing_to_do(project: BakedProject, project_venv: Path) -> None:
    installed = (project_venv / "installed").stat()
    run = project.make("install", venv=project_venv)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert (project_venv / "installed").stat() == installed


def test_the_packages_are_importable_from_any_folder(project: BakedProject, project_venv: Path, tmp_path: Path) -> None:
    code = "import distributed_websocket, zz_chat; print(*distributed_websocket.__path__, *zz_chat.__path__, sep='\\n')"
    src = project.path / "src"
    assert python(project_venv, code, tmp_path).splitlines() == [
        str(src / "distributed_websocket"),
        str(src / "zz_chat"),
    ]


def test_lint_passes(project: BakedProject, project_venv: Path) -> None:
    run = project.make("lint", venv=project_venv)
    assert run.returncode == 0, run.stdout + run.stderr


def test_unit_tests_pass(project: BakedProject, project_venv: Path) -> None:
    run = project.make("test", "TESTS=tests/unit -q", venv=project_venv)
    assert run.returncode == 0, run.stdout + run.stderr


def test_missing_secrets_are_made(project: BakedProject, project_venv: Path) -> None:
    """As in a fresh clone of the project, where git has not brought `.env`."""
    (project.path / ".env").unlink()
    run = project.make(".env", venv=project_venv)
    assert run.returncode == 0, run.stderr
    assert (project.path / ".env").stat().st_mode & 0o777 == 0o600
    assert re.findall(r"^([A-Z_]+)=[0-9a-f]{64}$", project.text(".env"), re.MULTILINE) == [
        "CHAT_TOKEN_SECRET",
        "CHAT_REDIS_PASSWORD",
    ]


def test_secrets_stay_when_the_example_is_newer(project: BakedProject, project_venv: Path) -> None:
    """As after an update: `.env.example` is rewritten, and the running stack's secrets are in `.env`."""
    secrets = project.text(".env")
    os.utime(project.path / ".env", (0, 0))
    run = project.make(".env", venv=project_venv)
    assert (run.returncode, project.text(".env")) == (0, secrets)


def test_settings_reach_the_programs_from_the_command_line_alone(project: BakedProject, tmp_path: Path) -> None:
    """A PORT in the environment belongs to another program."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    stand_in = venv / "bin" / "python"
    stand_in.write_text('#!/bin/sh\n[ "$1" != -m ] || { echo "$@"; env | grep -E "^(CHAT|LOADTEST)_" | sort; }\n')
    stand_in.chmod(0o755)
    sums = subprocess.run(
        "cat requirements/runtime.txt requirements/dev.txt | cksum",
        shell=True, cwd=project.path, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (venv / "installed").write_text(f"3.11 {sums}")

    def printed(*arguments: str) -> list[str]:
        run = project.make(*arguments, venv=venv)
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()

    assert printed("up", "PORT=9000", "WORKERS=5") == ["-m deploy up", "CHAT_PORT=9000", "CHAT_WORKERS=5"]
    assert printed("loadtest", "USERS=7", "ROOMS=2", "DURATION=3") == [
        "-m deploy loadtest",
        "LOADTEST_DURATION_SECONDS=3",
        "LOADTEST_ROOMS=2",
        "LOADTEST_USERS=7",
    ]
    assert printed("logs", "NAME=chat-1") == ["-m deploy logs chat-1"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PORT", "3000")
        environment.setenv("NAME", "of this machine")
        assert printed("logs") == ["-m deploy logs"]


def test_no_dependency_can_be_hidden_by_the_package_name(project: BakedProject, project_venv: Path) -> None:
    """The hook's list is complete: everything importable that the requirements bring is refused as a package name."""
    code = "import importlib.metadata, json; print(json.dumps(list(importlib.metadata.packages_distributions())))"
    importable = {name for name in json.loads(python(project_venv, code, project.path)) if name.isidentifier()}
    hook = (TEMPLATE / "hooks" / "pre_gen_project.py").read_text()
    listed = re.search(r'DEPENDENCY_PACKAGES = set\(\s*"""(.*?)"""', hook, re.DOTALL)
    assert listed
    assert {name for name in importable if not name.startswith("_")} - set(listed[1].split()) == set()
