"""Take away what was not chosen, give the new project its secrets, and say what to type next.

Runs in the finished project folder; standard library only, no network, no containers.
"""

import io
import json
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

# Unrendered, this line reads as a set of a set; rendered, as a string of JSON.
ANSWERS: dict[str, Any] = json.loads({{cookiecutter | tojson | tojson}})  # type: ignore  # noqa: F821

OWNER_ONLY = 0o600

# What an answer leaves out: patterns of files and whole folders. Parts of a file are left out by conditions in it.
LEFT_OUT: dict[tuple[str, object], tuple[str, ...]] = {
    ("ci", "none"): (".github",),
    ("delivery", "at-most-once"): (
        "loadtests/chaos",
        "tests/*/test_chaos*.py",
        "tests/*/test_container_faults.py",
    ),
    ("kubernetes", False): ("deploy/kubernetes", "tests/*/test_kubernetes*.py"),
    ("monitoring", False): (
        "deploy/kubernetes/components/monitoring",
        "deploy/monitoring",
        "tests/*/test_*monitoring*.py",
        "tests/watched_metrics.py",
    ),
}

# Lines of files that tools read unrendered, too, so that no condition can stand in them: question, answer, file, line.
LEFT_OUT_LINES: tuple[tuple[str, object, str, str], ...] = (
    ("monitoring", False, "deploy/kubernetes/kustomization.yaml", "#  - components/monitoring"),
)

# What tools and runs leave behind in a template that somebody works on; a clone has none of it.
LEFTOVERS = (
    *("**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache", "**/.hypothesis", "**/.coverage"),
    *("var", "loadtests/reports"),
)


def remove(project: Path, pattern: str) -> None:
    for path in [*project.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def leave_out(project: Path) -> None:
    for (question, answer), patterns in LEFT_OUT.items():
        if ANSWERS[question] == answer:
            for pattern in patterns:
                remove(project, pattern)
    for question, answer, name, line in LEFT_OUT_LINES:
        file = project / name
        if ANSWERS[question] == answer and file.exists():
            file.write_bytes(file.read_bytes().replace(f"{line}\n".encode(), b""))


def write_secrets(example: Path, target: Path) -> None:
    """Copy `example` to `target`, readable by its owner only, with a random value for every name that has none."""
    lines = (
        f"{line}{secrets.token_hex(32)}" if line.endswith("=") else line
        for line in example.read_text(encoding="utf-8").splitlines()
    )
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


leave_out(Path.cwd())
if not Path(".env").exists():  # else cookiecutter wrote over a project, whose secrets and data are in use
    for leftover in LEFTOVERS:
        remove(Path.cwd(), leftover)
    write_secrets(Path(".env.example"), Path(".env"))
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")  # an emoji in the name must not fail on a plain ASCII terminal
print(f"""
{ANSWERS["__project_name"]} is in {Path.cwd()}

    cd {ANSWERS["project_slug"]}
    make up
    make loadtest
""")
