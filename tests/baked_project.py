"""A project that the template has written, as the tests look at it; and the ways to have one written."""

import ast
import atexit
import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from render import COOKIECUTTER, TEMPLATE, copy_template

__all__ = [
    "CONFIGURATION",
    "PROMPTS",
    "TEMPLATE",
    "BakedProject",
    "bake",
    "bake_typed",
    "cookiecutter",
    "leftovers",
    "parse_all",
    "sentence_of_refusal",
]

CONFIGURATION: dict[str, Any] = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
PROMPTS = [name for name in CONFIGURATION if not name.startswith("_")]
"""In the order in which they are asked."""


@cache
def template() -> Path:
    """A clean copy of the template; it goes when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="template-"))
    atexit.register(shutil.rmtree, folder)
    return copy_template(folder)


@dataclass(frozen=True)
class BakedProject:
    path: Path
    output: str
    """What cookiecutter and the hooks printed."""

    def text(self, name: str) -> str:
        # not `read_text`, which would hide a carriage return
        return (self.path / name).read_bytes().decode("utf-8")

    def toml(self, name: str = "pyproject.toml") -> dict[str, Any]:
        return tomllib.loads(self.text(name))

    def files(self) -> Iterator[str]:
        for file in sorted(self.path.rglob("*")):
            if file.is_file():
                yield file.relative_to(self.path).as_posix()

    def contents(self) -> dict[str, bytes]:
        """Everything but the secrets, which differ each time."""
        return {name: (self.path / name).read_bytes() for name in self.files() if name != ".env"}

    def make(self, *arguments: str, venv: Path, timeout_seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", f"VENV={os.path.relpath(venv, self.path)}", *arguments],
            cwd=self.path,
            env=without_make(),
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )


def without_make() -> dict[str, str]:
    """The environment without what a `make` around the tests says to the `make` inside."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}


def cookiecutter(into: Path, *arguments: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line, with `typed` on its standard input."""
    return subprocess.run(
        # no answer comes from the settings of the person who runs the tests
        [*COOKIECUTTER, template(), "--default-config", "--output-dir", into, *arguments],
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


def project_in(into: Path, run: subprocess.CompletedProcess[str]) -> BakedProject:
    assert run.returncode == 0, run.stdout + run.stderr
    (path,) = into.iterdir()
    return BakedProject(path, run.stdout)


def bake(into: Path, **answers: str | int) -> BakedProject:
    """A project from answers given as NAME=value, defaults for the others."""
    return project_in(into, cookiecutter(into, "--no-input", *(f"{name}={text}" for name, text in answers.items())))


def bake_typed(into: Path, **answers: str) -> BakedProject:
    """A project from answers typed one a line; Enter alone, which takes the default, at the other questions."""
    assert answers.keys() <= set(PROMPTS)
    return project_in(into, cookiecutter(into, typed="".join(f"{answers.get(name, '')}\n" for name in PROMPTS)))


def sentence_of_refusal(into: Path, **answers: str | int) -> str:
    """What the hook says about answers that it must refuse, having left nothing on disk."""
    run = cookiecutter(into, "--no-input", *(f"{name}={text}" for name, text in answers.items()))
    assert run.returncode == 1
    assert [*into.iterdir()] == []
    refusals = re.findall(r'^[a-z_]+: ".*$', run.stderr, re.MULTILINE)
    assert len(refusals) == 1, run.stderr
    return str(refusals[0])


def leftovers(project: BakedProject) -> list[str]:
    """Where the template shows through: placeholders and conditions that nothing has rendered."""
    found = []
    for name in project.files():
        text = (project.path / name).read_bytes().decode("utf-8", errors="replace")
        copied = any(fnmatch(name, pattern) for pattern in CONFIGURATION["_copy_without_render"])
        # Grafana, GitHub, f-strings and JavaScript have braces of their own.
        own = (
            r"\{\{-?\s*cookiecutter|\bcookiecutter\.__?\w" if copied else r"\{%|%\}|\{#|#\}|(?<!\$)\{\{|cookiecutter\."
        )
        if "{" in name or re.search(own, text):
            found.append(name)
    return found


def parse_all(project: BakedProject) -> None:
    """Every file of a format that has one reading only."""
    for name in project.files():
        if name.endswith((".yaml", ".yml")):
            list(yaml.safe_load_all(project.text(name)))
        elif name.endswith(".toml"):
            project.toml(name)
        elif name.endswith(".json"):
            json.loads(project.text(name))
        elif name.endswith(".py"):
            ast.parse(project.text(name), name)
