"""Give the new project its secrets, and say what to type next.

Runs in the finished project folder; standard library only, no network, no containers.
"""

import io
import json
import os
import secrets
import shutil
import sys
from pathlib import Path

# Unrendered, this line reads as a set of a set; rendered, as a string of JSON.
ANSWERS: dict[str, str] = json.loads({{cookiecutter | tojson | tojson}})  # type: ignore  # noqa: F821

OWNER_ONLY = 0o600

# What tools and runs leave behind in a template that somebody works on; a clone has none of it.
LEFTOVERS = (
    *("**/__pycache__", "**/.mypy_cache", "**/.pytest_cache", "**/.ruff_cache", "**/.hypothesis", "**/.coverage"),
    *("var", "loadtests/reports"),
)


def remove_leftovers(project: Path) -> None:
    for pattern in LEFTOVERS:
        for leftover in [*project.glob(pattern)]:
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def write_secrets(example: Path, target: Path) -> None:
    """Copy `example` to `target`, readable by its owner only, with a random value for every name that has none."""
    lines = (
        f"{line}{secrets.token_hex(32)}" if line.endswith("=") else line
        for line in example.read_text(encoding="utf-8").splitlines()
    )
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


if not Path(".env").exists():  # else cookiecutter wrote over a project, whose secrets and data are in use
    remove_leftovers(Path.cwd())
    write_secrets(Path(".env.example"), Path(".env"))
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")  # an emoji in the name must not fail on a plain ASCII terminal
print(f"""
{ANSWERS["__project_name"]} is in {Path.cwd()}

    cd {ANSWERS["project_slug"]}
    make up
    make loadtest
""")
