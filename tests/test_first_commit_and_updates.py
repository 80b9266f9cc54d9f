"""What git makes of a new project, and how it follows the template afterwards (cruft)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from baked_project import BakedProject, bake, template


def git(folder: Path, *arguments: str) -> str:
    """Its output. Nothing of the settings of whoever runs the tests has a say."""
    identity = {
        f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    run = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "core.autocrlf=false", *arguments],
        cwd=folder,
        env=os.environ | identity | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    project = bake(tmp_path_factory.mktemp("committed"))
    git(project.path, "init", "--quiet")
    commit(project.path, "First")
    return project


def test_the_first_commit_is_everything_but_the_secrets(committed: BakedProject) -> None:
    assert git(committed.path, "status", "--porcelain") == ""
    own = {name for name in committed.contents() if not name.startswith(".git/")}
    assert set(git(committed.path, "ls-files").splitlines()) == own
    assert git(committed.path, "check-ignore", ".env") == ".env\n"


def test_lines_end_the_same_in_the_commit_and_in_the_folder(committed: BakedProject) -> None:
    for line in git(committed.path, "ls-files", "--eol").splitlines():
        ends, name = line.split("\t")
        index, folder, _ = ends.split(maxsplit=2)
        assert (index, folder) in {("i/lf", "w/lf"), ("i/none", "w/none"), ("i/-text", "w/-text")}, name


def test_what_is_executable_is_a_script(committed: BakedProject) -> None:
    for line in git(committed.path, "ls-files", "--stage").splitlines():
        facts, name = line.split("\t")
        mode = facts.split()[0]
        is_script = (committed.path / name).read_bytes()[:2] == b"#!"
        assert mode == ("100755" if is_script else "100644"), name


def test_git_finds_no_fault_with_white_space(committed: BakedProject) -> None:
    empty = git(committed.path, "hash-object", "-t", "tree", os.devnull).strip()
    git(committed.path, "diff", "--check", empty, "HEAD", "--", ":!*.md", ":!*.txt")


def test_what_a_run_writes_is_no_change(committed: BakedProject) -> None:
    for name in ("var/log/chat-1.log", "loadtests/reports/latest.json", "src/__pycache__/x.pyc", ".venv/pyvenv.cfg"):
        file = committed.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert git(committed.path, "status", "--porcelain") == ""


def cruft(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cruft", *arguments],
        cwd=folder,
        env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_project_follows_its_template_and_keeps_its_own_changes(tmp_path: Path) -> None:
    """`cruft create`, `check`, `update`: the answers stay, and so do secrets, what was left out and what was edited."""
    source = shutil.copytree(template(), tmp_path / "source")
    git(source, "init", "--quiet")
    commit(source, "First")
    (tmp_path / "projects").mkdir()
    answers = '{"project_name": "My Chat", "delivery": "at-most-once", "kubernetes": false, "workers": "5"}'
    created = cruft(
        tmp_path / "projects", "create", str(source), "--no-input", "--extra-context", answers, "--default-config"
    )
    assert created.returncode == 0, created.stdout + created.stderr
    project = tmp_path / "projects" / "my-chat"
    git(project, "init", "--quiet")
    commit(project, "First")
    secrets = (project / ".env").read_bytes()
    assert cruft(project, "check").returncode == 0

    folder = source / "{{cookiecutter.project_slug}}"
    for name, line in (
        ("SECURITY.md", "For {{ cookiecutter.project_name }}."),
        ("deploy/kubernetes/README.md", "New."),
    ):
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    (folder / "docs" / "new.md").write_text("# New\n")
    commit(source, "Second")
    with (project / "CHANGELOG.md").open("a", encoding="utf-8") as file:
        file.write("\nOurs.\n")
    commit(project, "Ours")

    assert cruft(project, "check").returncode == 1
    updated = cruft(project, "update", "--skip-apply-ask")
    assert updated.returncode == 0, updated.stdout + updated.stderr
    assert cruft(project, "check").returncode == 0
    assert (project / "SECURITY.md").read_text("utf-8").endswith("\nFor My Chat.\n")
    assert (project / "docs" / "new.md").exists()
    assert (project / "CHANGELOG.md").read_text("utf-8").endswith("\nOurs.\n")
    assert not (project / "deploy" / "kubernetes").exists()
    assert not (project / "loadtests" / "chaos").exists()
    assert (project / ".env").read_bytes() == secrets
    assert not [*project.rglob("*.rej")]
    assert re.search(r"^workers = 5$", (project / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
