"""The commands of the documents, typed as they stand there: each document's in their order, in a fresh copy."""

import shutil
import subprocess
import sys

import httpx2 as httpx
import pytest

from tests.documents import commands_to_run, documents, links, name_of
from tests.e2e.project_copy import COMMAND_SECONDS, ProjectCopy
from tests.service import ROOT

TYPED = {name_of(document): typed for document in documents() if (typed := commands_to_run(document))}
SERVICE_TOKEN = "only-the-tests-know-this-service-token"
SMALL = {"LOADTEST_USERS": "20", "LOADTEST_ROOMS": "2", "LOADTEST_DURATION_SECONDS": "2", "LOADTEST_P99_MS": "20000"}


def type_in(project: ProjectCopy, command: str) -> str:
    """What it said. `make` uses the environment of these tests, and takes its requirements for installed."""
    command = command.replace("https://chat.example.org", f"http://127.0.0.1:{project.base_port}")
    if command.startswith("make "):
        command += f" --assume-old=install VENV={sys.prefix}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=project.root,
        env=project.environment | SMALL | {"CHAT_RUNTIME": "local", "CHAT_SERVICE_TOKEN": SERVICE_TOKEN},
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def every_page_opens(project: ProjectCopy, document: str) -> None:
    """What a document says to open on this machine. Its ports are those of a stack at 8000."""
    with httpx.Client(trust_env=False, timeout=COMMAND_SECONDS) as browser:
        for link in links((ROOT / document).read_text("utf-8")):
            if link.startswith("http://127.0.0.1:"):
                url = httpx.URL(link)
                here = url.copy_with(port=project.base_port + (url.port or 80) - 8000)
                assert browser.get(here).status_code == 200, link


def test_the_readme_has_commands_to_type() -> None:
    assert {"make up", "make ps", "make loadtest", "make down", "make scale WORKERS=5"} <= set(TYPED["README.md"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", TYPED)
def test_the_commands_of_a_document_work_as_they_stand_there(document: str, project: ProjectCopy) -> None:
    shutil.copy(ROOT / "Makefile", project.root)
    shutil.copy(ROOT / ".env.example", project.root)
    runs = False
    for command in TYPED[document]:
        if command == "make down":
            every_page_opens(project, document)
        if not runs and command != "make up":
            type_in(project, "make up")
        runs = command != "make down"
        said = type_in(project, command)
        if command.startswith("curl"):
            assert '"id"' in said, said
